"""DCL as a sentence-transformers loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from torch import Tensor

from fmicl_text.core import CosineKernel, dcl
from fmicl_text.core.checks import require_positive
from fmicl_text.losses.base import Common, ContrastiveLoss

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class DCLLoss(ContrastiveLoss):
    """Decoupled contrastive loss: InfoNCE without the positive in the denominator; DCLW with ``weight_sigma``.

    See :func:`fmicl_text.core.dcl` for the equation and :class:`ContrastiveLoss` for the inputs.

    Args:
        model: The encoder.
        temperature: ``tau``; the paper's 0.1.
        weight_sigma: Makes it DCLW, which weighs positives up that are far apart; the paper's 0.5. Default DCL.
        symmetric: Average both directions, from anchor to positive and back, as published.
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
        temperature: float = 0.1,
        weight_sigma: float | None = None,
        symmetric: bool = True,
        learn_kernel: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            model,
            {
                "temperature": temperature,
                "weight_sigma": weight_sigma,
                "symmetric": symmetric,
                "learn_kernel": learn_kernel,
            },
            **common,
        )
        if weight_sigma is not None:
            require_positive(weight_sigma=weight_sigma)
        self.kernel = CosineKernel(temperature, learn_kernel)
        self.options: dict[str, Any] = {"weight_sigma": weight_sigma, "symmetric": symmetric}

    def terms(self, x: Tensor, y: Tensor, **batch: Any) -> dict[str, Tensor]:
        """Return the ``positive`` and the ``negative`` term of :func:`fmicl_text.core.dcl`."""
        return dcl(x, y, kernel=self.kernel, **self.options, **batch)

    citation = """
@inproceedings{yeh2022decoupled,
    title = {Decoupled Contrastive Learning},
    author = {Chun-Hsiao Yeh and Cheng-Yao Hong and Yen-Chi Hsu and Tyng-Luh Liu and Yubei Chen and Yann LeCun},
    year = {2022},
    booktitle = {European Conference on Computer Vision},
    eprint = {2110.06848},
    archivePrefix = {arXiv},
}
"""
