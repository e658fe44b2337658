"""HCL as a sentence-transformers loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Unpack

from torch import Tensor

from fmicl_text.core import CosineKernel, hcl
from fmicl_text.losses.base import Common, ContrastiveLoss

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class HCLLoss(ContrastiveLoss):
    """NT-Xent with negatives weighed by their hardness, and corrected for false ones.

    See :func:`fmicl_text.core.hcl` for the equation and :class:`ContrastiveLoss` for the inputs.

    Args:
        model: The encoder.
        temperature: ``tau``; the paper's 0.5.
        tau_plus: Share of the negatives that are positives in truth, in [0, 1); the paper's 0.1.
        beta: Concentration on hard negatives, at least 0; the paper's 1.
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
        tau_plus: float = 0.1,
        beta: float = 1.0,
        learn_kernel: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            model,
            {"temperature": temperature, "tau_plus": tau_plus, "beta": beta, "learn_kernel": learn_kernel},
            **common,
        )
        if not 0 <= tau_plus < 1:
            raise ValueError(f"tau_plus must be in [0, 1), got {tau_plus!r}")
        if not 0 <= beta < math.inf:
            raise ValueError(f"beta must be a finite number of at least 0, got {beta!r}")
        self.kernel = CosineKernel(temperature, learn_kernel)
        self.options: dict[str, Any] = {"tau_plus": tau_plus, "beta": beta}

    def terms(self, x: Tensor, y: Tensor, **batch: Any) -> dict[str, Tensor]:
        """Return the ``positive`` and the ``negative`` term of :func:`fmicl_text.core.hcl`."""
        return hcl(x, y, kernel=self.kernel, **self.options, **batch)

    citation = """
@inproceedings{robinson2021contrastive,
    title = {Contrastive Learning with Hard Negative Samples},
    author = {Joshua Robinson and Ching-Yao Chuang and Suvrit Sra and Stefanie Jegelka},
    year = {2021},
    booktitle = {International Conference on Learning Representations},
    eprint = {2010.04592},
    archivePrefix = {arXiv},
}
"""
