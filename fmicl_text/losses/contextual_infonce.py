"""Contextual InfoNCE as a sentence-transformers loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import torch
from torch import Tensor

from fmicl_text.core import CosineKernel, contextual_infonce
from fmicl_text.losses.base import Common, ContrastiveLoss

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class ContextualInfoNCELoss(ContrastiveLoss):
    """InfoNCE in which an anchor sees only its own tuple: its positive and its own explicit negatives.

    See :func:`fmicl_text.core.contextual_infonce` for the equation and :class:`ContrastiveLoss` for the inputs.
    Needs a third column: the items that were offered with the chosen one.

    Args:
        model: The encoder.
        temperature: ``tau``; default 0.05.
        learn_kernel: Whether the temperature is learned; it starts at the value given.
        common: ``head``, ``mini_batch_size`` and ``gather_across_devices``, as in :class:`ContrastiveLoss`; there is
            no ``queue`` and no ``region`` here.

    Raises:
        ValueError: If an argument is out of range.
    """

    is_mean = True

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        temperature: float = 0.05,
        learn_kernel: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(model, {"temperature": temperature, "learn_kernel": learn_kernel}, **common)
        if self.region is not None or self.queue is not None:
            raise ValueError("region and queue must be None: a choice is compared with what was offered, nothing else")
        self.kernel = CosineKernel(temperature, learn_kernel)

    def terms(self, x: Tensor, y: Tensor, **batch: Any) -> dict[str, Tensor]:
        """Return the ``positive`` and the ``negative`` term of :func:`fmicl_text.core.contextual_infonce`."""
        if batch.get("extra") is None:
            raise ValueError("expected explicit negatives, the items offered and not chosen: give a third column")
        row = torch.arange(len(batch["extra"]), device=x.device) % len(x)  # the tuple each candidate comes from
        offered = row == torch.arange(len(x), device=x.device).unsqueeze(1)  # (B, M)
        return contextual_infonce(x, y, kernel=self.kernel, offered=offered, **batch)

    citation = r"""
@misc{bertram2024contrastive,
    title = {Contrastive Learning of Preferences with a Contextual {InfoNCE} Loss},
    author = {Timo Bertram and Johannes F{\"u}rnkranz and Martin M{\"u}ller},
    year = {2024},
    eprint = {2407.05898},
    archivePrefix = {arXiv},
}
"""
