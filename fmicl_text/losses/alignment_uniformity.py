"""Alignment and uniformity as a sentence-transformers loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from torch import Tensor

from fmicl_text.core import alignment_uniformity
from fmicl_text.core.checks import require_positive
from fmicl_text.losses.base import Common, ContrastiveLoss

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class AlignmentUniformityLoss(ContrastiveLoss):
    """Alignment of the pairs and uniformity of each view on the sphere.

    See :func:`fmicl_text.core.alignment_uniformity` for the equation and :class:`ContrastiveLoss` for the inputs.

    Args:
        model: The encoder.
        power: Exponent of the alignment's distance, in (0, 2]; the paper's 2.
        t: Inverse width of the uniformity's Gaussian; the paper's 2. SimCSE's temperature of 0.05 is t = 10.
        align_weight: Weight of the alignment; the paper's 1.
        uniform_weight: Weight of the uniformity; the paper's 1.
        common: ``head``, ``mini_batch_size``, ``gather_across_devices``, ``queue``, ``momentum``, ``region``, as in
            :class:`ContrastiveLoss`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        power: float = 2.0,
        t: float = 2.0,
        align_weight: float = 1.0,
        uniform_weight: float = 1.0,
        **common: Unpack[Common],
    ) -> None:
        settings = {
            "power": power,
            "t": t,
            "align_weight": align_weight,
            "uniform_weight": uniform_weight,
        }
        if not 0 < power <= 2:
            raise ValueError(f"power must be above 0 and at most 2, got {power!r}")
        require_positive(t=t, align_weight=align_weight, uniform_weight=uniform_weight)
        super().__init__(model, settings, **common)
        self.options: dict[str, Any] = settings

    def terms(self, x: Tensor, y: Tensor, **batch: Any) -> dict[str, Tensor]:
        """Return the ``positive`` and the ``negative`` term of :func:`fmicl_text.core.alignment_uniformity`."""
        return alignment_uniformity(x, y, **self.options, **batch)

    citation = """
@inproceedings{wang2020understanding,
    title = {Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere},
    author = {Tongzhou Wang and Phillip Isola},
    year = {2020},
    booktitle = {International Conference on Machine Learning},
    eprint = {2005.10242},
    archivePrefix = {arXiv},
}
"""
