"""NT-Xent, SimCLR's loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveFloat

from fmicl_text.losses.objective import Objective, Paper

if TYPE_CHECKING:
    from torch import Tensor, nn

PAPER = Paper(
    source="Chen et al., ICML 2020",
    arxiv="2002.05709",
    bibtex="""
@inproceedings{chen2020simclr,
    title = {A Simple Framework for Contrastive Learning of Visual Representations},
    author = {Ting Chen and Simon Kornblith and Mohammad Norouzi and Geoffrey Hinton},
    year = {2020},
    booktitle = {International Conference on Machine Learning},
    eprint = {2002.05709},
    archivePrefix = {arXiv},
}
""",
)


class NTXent(Objective):
    """All 2B rows of both views are anchors, with 2B - 2 negatives each."""

    loss_name = "NTXentLoss"
    paper = PAPER
    formula = "InfoNCE over the 2B rows `z`, all other rows as negatives"
    needs = "pairs of one kind"
    when = "two views of one text or image"

    objective: Literal["ntxent"] = "ntxent"
    """Which objective."""
    temperature: PositiveFloat = 0.5
    """``tau``, which divides the cosine; SimCLR's 0.5."""
    learn_kernel: bool = False
    """Whether the temperature is learned; it starts at the value given."""

    def parts(self) -> dict[str, nn.Module]:
        """Return the kernel."""
        from fmicl_text.core import CosineKernel

        return {"kernel": CosineKernel(self.temperature, self.learn_kernel)}

    def terms(self, x: Tensor, y: Tensor, **parts_and_batch: Any) -> dict[str, Tensor]:
        """Return the terms of :func:`fmicl_text.core.ntxent`."""
        from fmicl_text.core import ntxent

        return ntxent(x, y, **parts_and_batch)
