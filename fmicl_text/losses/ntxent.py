"""NT-Xent as a sentence-transformers loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from torch import Tensor

from fmicl_text.core import CosineKernel, ntxent
from fmicl_text.losses.base import Common, ContrastiveLoss

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class NTXentLoss(ContrastiveLoss):
    """NT-Xent, SimCLR's loss: all 2B rows of both views are anchors, with 2B - 2 negatives each.

    See :func:`fmicl_text.core.ntxent` for the equation and :class:`ContrastiveLoss` for the inputs.

    Args:
        model: The encoder.
        temperature: ``tau``; SimCLR's 0.5.
        learn_kernel: Whether the temperature is learned; it starts at the value given.
        common: ``head``, ``mini_batch_size``, ``gather_across_devices``, ``queue``, ``momentum``, ``region``, as in
            :class:`ContrastiveLoss`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        temperature: float = 0.5,
        learn_kernel: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(model, {"temperature": temperature, "learn_kernel": learn_kernel}, **common)
        self.kernel = CosineKernel(temperature, learn_kernel)

    def terms(self, x: Tensor, y: Tensor, **batch: Any) -> dict[str, Tensor]:
        """Return the ``positive`` and the ``negative`` term of :func:`fmicl_text.core.ntxent`."""
        return ntxent(x, y, kernel=self.kernel, **batch)

    citation = """
@inproceedings{chen2020simclr,
    title = {A Simple Framework for Contrastive Learning of Visual Representations},
    author = {Ting Chen and Simon Kornblith and Mohammad Norouzi and Geoffrey Hinton},
    year = {2020},
    booktitle = {International Conference on Machine Learning},
    eprint = {2002.05709},
    archivePrefix = {arXiv},
}
"""
