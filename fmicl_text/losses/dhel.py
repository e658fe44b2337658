"""DHEL as a sentence-transformers loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from torch import Tensor

from fmicl_text.core import CosineKernel, dhel
from fmicl_text.losses.base import Common, ContrastiveLoss

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class DHELLoss(ContrastiveLoss):
    """Decoupled hyperspherical energy loss: negatives within a view only, the positive not among them.

    See :func:`fmicl_text.core.dhel` for the equation and :class:`ContrastiveLoss` for the inputs.

    Args:
        model: The encoder.
        temperature: ``tau``; the authors' 0.3.
        both_views: Whether the positives' view has a term of its own, as published.
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
        temperature: float = 0.3,
        both_views: bool = True,
        learn_kernel: bool = False,
        **common: Unpack[Common],
    ) -> None:
        settings = {
            "temperature": temperature,
            "both_views": both_views,
            "learn_kernel": learn_kernel,
        }
        super().__init__(model, settings, **common)
        self.kernel = CosineKernel(temperature, learn_kernel)
        self.both_views = both_views

    def terms(self, x: Tensor, y: Tensor, **batch: Any) -> dict[str, Tensor]:
        """Return the ``positive`` and the ``negative`` term of :func:`fmicl_text.core.dhel`."""
        return dhel(x, y, kernel=self.kernel, both_views=self.both_views, **batch)

    citation = """
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
"""
