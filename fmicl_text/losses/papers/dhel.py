"""DHEL, the decoupled hyperspherical energy loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveFloat

from fmicl_text.losses.objective import Objective, Paper

if TYPE_CHECKING:
    from torch import Tensor, nn

PAPER = Paper(
    source="Koromilas et al., ICML 2024",
    arxiv="2405.18045",
    bibtex="""
@inproceedings{koromilas2024bridging,
    title = {Bridging Mini-Batch and Asymptotic Analysis in Contrastive Learning:
        From {InfoNCE} to Kernel-Based Losses},
    author = {Panagiotis Koromilas and Giorgos Bouritsas and Theodoros Giannakopoulos and Mihalis Nicolaou
        and Yannis Panagakis},
    year = {2024},
    booktitle = {International Conference on Machine Learning},
    eprint = {2405.18045},
    archivePrefix = {arXiv},
}
""",
)


class DHEL(Objective):
    """Negatives within a view only, without the positive."""

    loss_name = "DHELLoss"
    paper = PAPER
    formula = "`mean -r_ii + log Σ_j u(x_i, x_j) + log Σ_j u(y_i, y_j)`"
    when = "small batches: the positive is not pushed"

    objective: Literal["dhel"] = "dhel"
    """Which objective."""
    temperature: PositiveFloat = 0.3
    """``tau``, which divides the cosine; the authors' 0.3."""
    both_views: bool = True
    """Whether the positives' view has a term of its own, as published."""
    learn_kernel: bool = False
    """Whether the temperature is learned; it starts at the value given."""

    def parts(self) -> dict[str, nn.Module]:
        """Return the kernel."""
        from fmicl_text.core import CosineKernel

        return {"kernel": CosineKernel(self.temperature, self.learn_kernel)}

    def terms(self, x: Tensor, y: Tensor, **parts_and_batch: Any) -> dict[str, Tensor]:
        """Return the terms of :func:`fmicl_text.core.dhel`."""
        from fmicl_text.core import dhel

        return dhel(x, y, both_views=self.both_views, **parts_and_batch)
