"""The spectral contrastive loss as a sentence-transformers loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from torch import Tensor

from fmicl_text.core import spectral
from fmicl_text.core.checks import require_positive
from fmicl_text.losses.base import Common, ContrastiveLoss

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class SpectralContrastiveLoss(ContrastiveLoss):
    """Spectral contrastive loss: cosines of pairs against squared cosines of negatives.

    See :func:`fmicl_text.core.spectral` for the equation and :class:`ContrastiveLoss` for the inputs.

    Args:
        model: The encoder.
        mu: Squared norm of the features, the weight of the negatives; the authors' 1 on CIFAR-10, 10 on ImageNet.
        common: ``head``, ``mini_batch_size``, ``gather_across_devices``, ``queue``, ``momentum``, ``region``, as in
            :class:`ContrastiveLoss`.

    Raises:
        ValueError: If an argument is out of range.
    """

    is_mean = True

    def __init__(self, model: SentenceTransformer, *, mu: float = 1.0, **common: Unpack[Common]) -> None:
        require_positive(mu=mu)
        super().__init__(model, {"mu": mu}, **common)
        self.mu = mu

    def terms(self, x: Tensor, y: Tensor, **batch: Any) -> dict[str, Tensor]:
        """Return the ``positive`` and the ``negative`` term of :func:`fmicl_text.core.spectral`."""
        return spectral(x, y, mu=self.mu, **batch)

    citation = """
@inproceedings{haochen2021provable,
    title = {Provable Guarantees for Self-Supervised Deep Learning with Spectral Contrastive Loss},
    author = {Jeff Z. HaoChen and Colin Wei and Adrien Gaidon and Tengyu Ma},
    year = {2021},
    booktitle = {Advances in Neural Information Processing Systems},
    eprint = {2106.04156},
    archivePrefix = {arXiv},
}
"""
