"""DCL, decoupled contrastive learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveFloat

from fmicl_text.losses.objective import Objective, Paper

if TYPE_CHECKING:
    from torch import Tensor, nn

PAPER = Paper(
    source="Yeh et al., ECCV 2022",
    arxiv="2110.06848",
    bibtex="""
@inproceedings{yeh2022decoupled,
    title = {Decoupled Contrastive Learning},
    author = {Chun-Hsiao Yeh and Cheng-Yao Hong and Yen-Chi Hsu and Tyng-Luh Liu and Yubei Chen and Yann LeCun},
    year = {2022},
    booktitle = {European Conference on Computer Vision},
    eprint = {2110.06848},
    archivePrefix = {arXiv},
}
""",
)


class DCL(Objective):
    """InfoNCE without the positive in the denominator, with negatives from both views; DCLW with ``weight_sigma``."""

    loss_name = "DCLLoss"
    paper = PAPER
    formula = "`mean -w_i r_ii + log(Σ_j u(x_i, x_j) + Σ_j u(x_i, y_j))`; `weight_sigma` makes it DCLW"
    when = "small batches"

    objective: Literal["dcl"] = "dcl"
    """Which objective."""
    temperature: PositiveFloat = 0.1
    """``tau``, which divides the cosine; the paper's 0.1."""
    weight_sigma: PositiveFloat | None = None
    """Makes it DCLW, which weighs positives up that are far apart; the paper's 0.5."""
    symmetric: bool = True
    """Average both directions, from anchor to positive and back, as published."""
    learn_kernel: bool = False
    """Whether the temperature is learned; it starts at the value given."""

    def parts(self) -> dict[str, nn.Module]:
        """Return the kernel."""
        from fmicl_text.core import CosineKernel

        return {"kernel": CosineKernel(self.temperature, self.learn_kernel)}

    def terms(self, x: Tensor, y: Tensor, **parts_and_batch: Any) -> dict[str, Tensor]:
        """Return the terms of :func:`fmicl_text.core.dcl`."""
        from fmicl_text.core import dcl

        return dcl(x, y, weight_sigma=self.weight_sigma, symmetric=self.symmetric, **parts_and_batch)
