"""The spectral contrastive loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveFloat

from fmicl_text.losses.objective import Objective, Paper

if TYPE_CHECKING:
    from torch import Tensor

PAPER = Paper(
    source="HaoChen et al., NeurIPS 2021",
    arxiv="2106.04156",
    bibtex="""
@inproceedings{haochen2021provable,
    title = {Provable Guarantees for Self-Supervised Deep Learning with Spectral Contrastive Loss},
    author = {Jeff Z. HaoChen and Colin Wei and Adrien Gaidon and Tengyu Ma},
    year = {2021},
    booktitle = {Advances in Neural Information Processing Systems},
    eprint = {2106.04156},
    archivePrefix = {arXiv},
}
""",
)


class Spectral(Objective):
    """Cosines of pairs against squared cosines of negatives."""

    loss_name = "SpectralContrastiveLoss"
    paper = PAPER
    formula = "`-2 mean s_ii + μ mean s(x_i, y_j)²`"
    reduction = "mean"
    when = "theory; large negative cosines are as bad as large positive ones"

    objective: Literal["spectral"] = "spectral"
    """Which objective."""
    mu: PositiveFloat = 1.0
    """Squared norm of the features, the weight of the negatives; the authors have 1 on CIFAR-10, 10 on ImageNet."""

    @property
    def is_mean(self) -> bool:
        """Always."""
        return True

    def terms(self, x: Tensor, y: Tensor, **parts_and_batch: Any) -> dict[str, Tensor]:
        """Return the terms of :func:`fmicl_text.core.spectral`."""
        from fmicl_text.core import spectral

        return spectral(x, y, mu=self.mu, **parts_and_batch)
