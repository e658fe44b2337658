r"""The weight ``alpha`` of f-MICL's negative term: a number, a cosine at which pairs balance, or self-tuning.

For every divergence the push of a negative pair at density ratio ``u`` is ``alpha * u`` times the pull of a
positive pair at the same ``u``, because ``d penalty = u d critic``. So the two balance at ``u = 1/alpha``: that
is the meaning of alpha, and the cosine at which it happens is a more telling number than the paper's 409600.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fmicl_text.core.kernels import Kernel
from fmicl_text.core.pairs import Block
from fmicl_text.core.reduce import pair_mean


def require_weight(alpha: float) -> None:
    """Refuse a number that is no weight of a term.

    Raises:
        ValueError: If it is negative, or not finite.
    """
    if not 0 <= alpha < math.inf:
        raise ValueError(f"alpha must be a finite number of at least 0, got {alpha!r}")


class Alpha(nn.Module):
    r"""Gives ``alpha`` for a batch.

    Args:
        alpha: A number, or ``"auto"`` for ``alpha = 1 / EMA(mean u over negative pairs)``: negatives then weigh
            as much as positives on average, as in the Donsker-Varadhan form of KL. The average is kept over
            training batches and devices, and is part of the state.
        balance_cosine: The cosine ``s*`` at which push and pull balance: ``alpha = 1 / u(s*)``. With a learned width
            it is where they balance at the start: alpha is a constant, with the ``u`` that training starts from. If
            it followed the width, what is minimised would change with the width that is to minimise it; with a
            constant alpha the loss is, up to a constant, minus the bound of one divergence, ``f_alpha``, bounded
            below, of which the width is a parameter as any other.
        decay: Share of the old average that each training batch keeps.

    Raises:
        ValueError: Unless exactly one of the two is given; if alpha is negative, or the cosine not in [-1, 1].
    """

    mean_ratio: Tensor

    def __init__(
        self,
        alpha: float | Literal["auto"] | None = None,
        balance_cosine: float | None = None,
        decay: float = 0.99,
    ) -> None:
        super().__init__()
        if (alpha is None) == (balance_cosine is None):
            raise ValueError(
                f"give one of alpha and balance_cosine, got alpha={alpha!r}, balance_cosine={balance_cosine!r}"
            )
        if isinstance(alpha, str) and alpha != "auto":
            raise ValueError(f"alpha must be a number or 'auto', got {alpha!r}")
        if isinstance(alpha, (int, float)):
            require_weight(alpha)
        if balance_cosine is not None and not -1 <= balance_cosine <= 1:
            raise ValueError(f"balance_cosine must be in [-1, 1], got {balance_cosine!r}")
        self.alpha = alpha
        self.balance_cosine = balance_cosine
        self.decay = decay
        if alpha == "auto":
            self.register_buffer("mean_ratio", torch.zeros(()))

    def forward(self, kernel: Kernel, blocks: Sequence[Block]) -> float | Tensor:
        """Return alpha, a constant for the gradient.

        Args:
            kernel: The density ratio of a pair.
            blocks: The negative pairs of the batch; only ``"auto"`` looks at them.
        """
        if self.balance_cosine is not None:
            return self._at_balance(kernel, self.balance_cosine)
        if self.alpha == "auto":
            return 1 / self._mean_ratio(kernel, blocks)
        return float(self.alpha)  # type: ignore[arg-type]  # a number: __init__ saw to it

    @torch.no_grad()
    def _at_balance(self, kernel: Kernel, cosine: float) -> Tensor:
        device = next((p.device for p in kernel.parameters()), None)
        return torch.exp(-kernel.at_start(torch.tensor(cosine, device=device)))

    @torch.no_grad()
    def _mean_ratio(self, kernel: Kernel, blocks: Sequence[Block]) -> Tensor:
        """Return the average of ``u``, moved on by this batch in training; before any training, the batch's own."""
        ratio = pair_mean(blocks, kernel)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(ratio)
            ratio = ratio / dist.get_world_size()
        average = torch.where(self.mean_ratio > 0, self.mean_ratio, ratio)
        # u is positive: a mean of 0 says that there was no negative pair, and so nothing about u.
        average = torch.where(ratio > 0, torch.lerp(ratio, average, self.decay), average) if self.training else average
        if self.training:
            self.mean_ratio.copy_(average)
        return average.clamp(min=torch.finfo(average.dtype).tiny)
