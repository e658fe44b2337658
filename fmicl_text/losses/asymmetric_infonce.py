"""Asymmetric InfoNCE as a sentence-transformers loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from torch import Tensor

from fmicl_text.core import CosineKernel, asymmetric_infonce
from fmicl_text.losses.base import Common, ContrastiveLoss

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class AsymmetricInfoNCELoss(ContrastiveLoss):
    """InfoNCE between clean anchors and noisy positives, whose gradients are split unevenly between them.

    See :func:`fmicl_text.core.asymmetric_infonce` for the equation and :class:`ContrastiveLoss` for the inputs.

    Args:
        model: The encoder.
        temperature: ``tau``; the paper's 0.5.
        degree: Share of the gradient that moves the anchors, in [0, 1]; the rest moves the positives. The paper's 0.2.
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
        degree: float = 0.2,
        learn_kernel: bool = False,
        **common: Unpack[Common],
    ) -> None:
        settings = {
            "temperature": temperature,
            "degree": degree,
            "learn_kernel": learn_kernel,
        }
        super().__init__(model, settings, **common)
        if not 0 <= degree <= 1:
            raise ValueError(f"degree must be in [0, 1], got {degree!r}")
        self.kernel = CosineKernel(temperature, learn_kernel)
        self.degree = degree

    def terms(self, x: Tensor, y: Tensor, **batch: Any) -> dict[str, Tensor]:
        """Return the ``positive`` and the ``negative`` term of :func:`fmicl_text.core.asymmetric_infonce`."""
        return asymmetric_infonce(x, y, kernel=self.kernel, degree=self.degree, **batch)

    citation = """
@inproceedings{yu2022adversarial,
    title = {Adversarial Contrastive Learning via Asymmetric {InfoNCE}},
    author = {Qiying Yu and Jieming Lou and Xianyuan Zhan and Qizhang Li and Wangmeng Zuo and Yang Liu
        and Jingjing Liu},
    year = {2022},
    booktitle = {European Conference on Computer Vision},
    eprint = {2207.08374},
    archivePrefix = {arXiv},
}
"""
