"""Focal-InfoNCE as a sentence-transformers loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Unpack

from torch import Tensor

from fmicl_text.core import focal_infonce
from fmicl_text.core.checks import require_positive
from fmicl_text.losses.base import Common, ContrastiveLoss

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class FocalInfoNCELoss(ContrastiveLoss):
    """InfoNCE on modulated cosines: hard negatives weigh more, and so do easy positives.

    See :func:`fmicl_text.core.focal_infonce` for the equation and :class:`ContrastiveLoss` for the inputs.

    Args:
        model: The encoder.
        temperature: ``tau``; the paper's 0.05.
        margin: ``m``, at least 0; the paper's 0.3.
        common: ``head``, ``mini_batch_size``, ``gather_across_devices``, ``queue``, ``momentum``, ``region``, as in
            :class:`ContrastiveLoss`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        temperature: float = 0.05,
        margin: float = 0.3,
        **common: Unpack[Common],
    ) -> None:
        require_positive(temperature=temperature)
        if not 0 <= margin < math.inf:
            raise ValueError(f"margin must be a finite number of at least 0, got {margin!r}")
        super().__init__(model, {"temperature": temperature, "margin": margin}, **common)
        self.options: dict[str, Any] = {"temperature": temperature, "margin": margin}

    def terms(self, x: Tensor, y: Tensor, **batch: Any) -> dict[str, Tensor]:
        """Return the ``positive`` and the ``negative`` term of :func:`fmicl_text.core.focal_infonce`."""
        return focal_infonce(x, y, **self.options, **batch)

    citation = """
@inproceedings{hou2023improving,
    title = {Improving Contrastive Learning of Sentence Embeddings with {Focal-InfoNCE}},
    author = {Pengyue Hou and Xingyu Li},
    year = {2023},
    booktitle = {Findings of the Association for Computational Linguistics: EMNLP},
    eprint = {2310.06918},
    archivePrefix = {arXiv},
}
"""
