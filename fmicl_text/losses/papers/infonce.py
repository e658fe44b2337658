"""InfoNCE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveFloat

from fmicl_text.core import KERNELS
from fmicl_text.losses.objective import Objective, Of, Paper
from fmicl_text.section import OneOf

if TYPE_CHECKING:
    from torch import Tensor, nn

PAPER = Paper(
    source="van den Oord et al. 2018",
    arxiv="1807.03748",
    bibtex="""
@misc{oord2018representation,
    title = {Representation Learning with Contrastive Predictive Coding},
    author = {Aaron van den Oord and Yazhe Li and Oriol Vinyals},
    year = {2018},
    eprint = {1807.03748},
    archivePrefix = {arXiv},
}
""",
)


class InfoNCE(Objective):
    """InfoNCE with in-batch negatives: ``MultipleNegativesRankingLoss`` with dropout views and a mask of duplicates."""

    loss_name = "InfoNCELoss"
    paper = PAPER
    formula = "`mean -r_ii + log(u_ii + Σ_j u(x_i, y_j))`"
    when = "the baseline; `symmetric` where both sides are searched"

    objective: Literal["infonce"] = "infonce"
    """Which objective."""
    kernel: Annotated[str, OneOf(lambda: (name for name in KERNELS if name != "cosine-critic"))] = "cosine"
    """cosine, as usual, or gaussian: the same objective with tau = sigma squared."""
    sigma: Annotated[PositiveFloat | None, Of("kernel", {"gaussian": 0.25}, registered=True)] = None
    """Width of the Gaussian kernel."""
    mu: Annotated[Annotated[float, Field(gt=0, le=2)] | None, Of("kernel", {"gaussian": 1.0}, registered=True)] = None
    """Scale of the Gaussian kernel; it cancels in the softmax."""
    temperature: Annotated[PositiveFloat | None, Of("kernel", {"cosine": 0.05}, registered=True)] = None
    """``tau`` of the cosine kernel; SimCSE's 0.05."""
    learn_kernel: bool = False
    """Whether the width is learned; it starts at the value given."""
    symmetric: bool = False
    """Average both directions, from anchor to positive and back."""

    def parts(self) -> dict[str, nn.Module]:
        """Return the kernel."""
        from fmicl_text.core import kernel_named

        widths: dict[str, Any] = {"sigma": self.sigma, "mu": self.mu, "temperature": self.temperature}
        return {"kernel": kernel_named(self.kernel, **widths, learn=self.learn_kernel)}

    def terms(self, x: Tensor, y: Tensor, **parts_and_batch: Any) -> dict[str, Tensor]:
        """Return the terms of :func:`fmicl_text.core.infonce`."""
        from fmicl_text.core import infonce

        return infonce(x, y, symmetric=self.symmetric, **parts_and_batch)
