"""InfoNCE as a sentence-transformers loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Unpack

from torch import Tensor

from fmicl_text.core import infonce, kernel_named
from fmicl_text.losses.base import Common, ContrastiveLoss, width_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class InfoNCELoss(ContrastiveLoss):
    """InfoNCE with in-batch negatives: ``MultipleNegativesRankingLoss`` with dropout views and a duplicate mask.

    See :func:`fmicl_text.core.infonce` for the equation and :class:`ContrastiveLoss` for the inputs.

    Args:
        model: The encoder.
        kernel: ``cosine`` (the usual) or ``gaussian``; the same objective with ``tau = sigma^2``.
        sigma: Width of the Gaussian kernel.
        mu: Scale of the Gaussian kernel; it cancels in the softmax.
        temperature: ``tau`` of the cosine kernel; default SimCSE's 0.05.
        learn_kernel: Whether the width is learned; it starts at the value given.
        symmetric: Average both directions, from anchor to positive and back; default the first alone.
        common: ``head``, ``mini_batch_size``, ``gather_across_devices``, ``queue``, ``momentum``, ``region``, as in
            :class:`ContrastiveLoss`.

    Raises:
        ValueError: If an argument is out of range or belongs to another kernel.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        kernel: Literal["cosine", "gaussian"] = "cosine",
        sigma: float | None = None,
        mu: float | None = None,
        temperature: float | None = None,
        learn_kernel: bool = False,
        symmetric: bool = False,
        **common: Unpack[Common],
    ) -> None:
        width = kernel_named(kernel, sigma=sigma, mu=mu, temperature=temperature, learn=learn_kernel)
        settings = {"kernel": kernel, **width_of(width), "learn_kernel": learn_kernel, "symmetric": symmetric}
        super().__init__(model, settings, **common)
        self.kernel = width
        self.symmetric = symmetric

    def terms(self, x: Tensor, y: Tensor, **batch: Any) -> dict[str, Tensor]:
        """Return the ``positive`` and the ``negative`` term of :func:`fmicl_text.core.infonce`."""
        return infonce(x, y, kernel=self.kernel, symmetric=self.symmetric, **batch)

    citation = """
@misc{oord2018representation,
    title = {Representation Learning with Contrastive Predictive Coding},
    author = {Aaron van den Oord and Yazhe Li and Oriol Vinyals},
    year = {2018},
    eprint = {1807.03748},
    archivePrefix = {arXiv},
}
"""
