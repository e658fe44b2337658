"""HCL, contrastive learning with hard negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveFloat

from fmicl_text.losses.objective import Objective, OpenShare, Paper

if TYPE_CHECKING:
    from torch import Tensor, nn

PAPER = Paper(
    source="Robinson et al., ICLR 2021",
    arxiv="2010.04592",
    bibtex="""
@inproceedings{robinson2021contrastive,
    title = {Contrastive Learning with Hard Negative Samples},
    author = {Joshua Robinson and Ching-Yao Chuang and Suvrit Sra and Stefanie Jegelka},
    year = {2021},
    booktitle = {International Conference on Learning Representations},
    eprint = {2010.04592},
    archivePrefix = {arXiv},
}
""",
)


class HCL(Objective):
    """NT-Xent with negatives weighed by their hardness, and corrected for false ones."""

    loss_name = "HCLLoss"
    paper = PAPER
    formula = "`mean -log u_i/(u_i + N_i)`, `N_i` reweighted to hard negatives and debiased"
    reduction = "two row log-sum-exps"
    when = "many easy negatives, some false ones"

    objective: Literal["hcl"] = "hcl"
    """Which objective."""
    temperature: PositiveFloat = 0.5
    """``tau``, which divides the cosine; the paper's 0.5."""
    tau_plus: OpenShare = 0.1
    """Share of the negatives that are really positives."""
    beta: Annotated[float, Field(ge=0)] = 1.0
    """Concentration on hard negatives."""
    learn_kernel: bool = False
    """Whether the temperature is learned; it starts at the value given."""

    def parts(self) -> dict[str, nn.Module]:
        """Return the kernel."""
        from fmicl_text.core import CosineKernel

        return {"kernel": CosineKernel(self.temperature, self.learn_kernel)}

    def terms(self, x: Tensor, y: Tensor, **parts_and_batch: Any) -> dict[str, Tensor]:
        """Return the terms of :func:`fmicl_text.core.hcl`."""
        from fmicl_text.core import hcl

        return hcl(x, y, tau_plus=self.tau_plus, beta=self.beta, **parts_and_batch)
