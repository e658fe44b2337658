r"""The weight ``alpha`` of f-MICL's negative term: a number, a cosine at which pairs balance, or from the data.

For every divergence the push of a negative pair at density ratio ``u`` is ``alpha * u`` times the pull of a
positive pair at the same ``u``, because ``d penalty = u d critic``. So the two balance at ``u = 1/alpha``: that
is the meaning of alpha, and the cosine at which it happens is a more telling number than the paper's 409600.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fmicl_text.core.balance import EVEN, balance_cosine_of
from fmicl_text.core.devices import average, process_count
from fmicl_text.core.kernels import Kernel, Measured
from fmicl_text.core.pairs import Block
from fmicl_text.core.reduce import pair_mean

logger = logging.getLogger(__name__)

BATCHES = 4
"""From how many training batches a balance is measured."""
_CHECK_EVERY = 50
"""Training batches from one check of the balance to the next."""


def require_weight(alpha: float) -> None:
    """Refuse a number that is no weight of a term.

    Raises:
        ValueError: If it is negative, or not finite.
    """
    if not 0 <= alpha < math.inf:
        raise ValueError(f"alpha must be a finite number of at least 0, got {alpha!r}")


class Alpha(nn.Module):
    r"""Gives ``alpha`` for a batch.

    Unless it is ``"auto"``, alpha is checked against the data: in every 50th training batch ``alpha mean u`` is
    computed, and a value outside of [0.1, 10] is warned of, once. One of the two terms then dominates, and training
    pushes everything apart or pulls everything together.

    Args:
        alpha: A number of at least 0, or ``"auto"`` for ``alpha = 1 / EMA(mean u over negative pairs)``: negatives then
            weigh as much as positives on average, as in the Donsker-Varadhan form of KL. The average is kept over
            training batches and devices, and is part of the state.
        balance_cosine: The cosine ``s*`` at which push and pull balance: ``alpha = 1 / u(s*)``. With a learned width
            it is where they balance at the start: alpha is a constant, with the ``u`` that training starts from. If
            it followed the width, what is minimised would change with the width that is to minimise it; with a
            constant alpha the loss is, up to a constant, minus the bound of one divergence, ``f_alpha``, bounded
            below, of which the width is a parameter as any other. ``"measured"``: ``alpha = 1 / mean u`` over the
            negative pairs of the first 4 training batches, see :mod:`fmicl_text.core.balance`; then a constant, and
            part of the state.
        decay: With ``"auto"``, share of the old average that each training batch keeps, in [0, 1).

    Raises:
        ValueError: Unless exactly one of the two is given; if alpha is negative, or the cosine not in [-1, 1].
    """

    mean_ratio: Tensor
    batches: Tensor

    def __init__(
        self,
        alpha: float | Literal["auto"] | None = None,
        balance_cosine: float | Measured | None = None,
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
        if isinstance(balance_cosine, str) and balance_cosine != "measured":
            raise ValueError(f"balance_cosine must be a number or 'measured', got {balance_cosine!r}")
        if isinstance(balance_cosine, (int, float)) and not -1 <= balance_cosine <= 1:
            raise ValueError(f"balance_cosine must be in [-1, 1], got {balance_cosine!r}")
        self.alpha = alpha
        self.balance_cosine = balance_cosine
        self.decay = decay
        if self.from_data:
            self.register_buffer("mean_ratio", torch.zeros(()))
        if balance_cosine == "measured":
            self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self._is_measured = False
        self._batches_seen = 0
        self._warned = False

    @property
    def from_data(self) -> bool:
        """Whether the negative pairs decide it."""
        return self.alpha == "auto" or self.balance_cosine == "measured"

    def forward(self, kernel: Kernel, blocks: Sequence[Block]) -> float | Tensor:
        """Return alpha, a constant for the gradient.

        Args:
            kernel: The density ratio of a pair.
            blocks: The negative pairs of the batch.
        """
        weight: float | Tensor
        if self.from_data:
            weight = 1 / self._mean_ratio(kernel, blocks)
        elif isinstance(self.balance_cosine, (int, float)):
            weight = self._at_balance(kernel, self.balance_cosine)
        else:
            weight = float(self.alpha)  # type: ignore[arg-type]  # a number: __init__ saw to it
        if self.training and self.alpha != "auto" and blocks:
            self._check_balance(weight, kernel, blocks)
        return weight

    def measured(self, kernel: Kernel) -> dict[str, float]:
        """Return what was measured: ``balance_cosine`` if the kernel has one at ``mean u``, else ``alpha``."""
        if self.balance_cosine != "measured" or self.mean_ratio == 0:
            return {}
        ratio = self.mean_ratio.item()
        cosine = balance_cosine_of(kernel, ratio)
        return {"alpha": 1 / ratio} if cosine is None else {"balance_cosine": cosine}

    @torch.no_grad()
    def _at_balance(self, kernel: Kernel, cosine: float) -> Tensor:
        device = next((p.device for p in kernel.parameters()), None)
        return torch.exp(-kernel.at_start(torch.full((), cosine, device=device)))

    @torch.no_grad()
    def _mean_ratio(self, kernel: Kernel, blocks: Sequence[Block]) -> Tensor:
        """Return the average of ``u``, moved on by this batch in training; before any training, the batch's own."""
        smallest = torch.finfo(self.mean_ratio.dtype).tiny
        if self.balance_cosine == "measured" and (self._is_measured or self.batches >= BATCHES):
            self._is_measured = True  # which no longer asks the device
            return self.mean_ratio
        ratio = average(pair_mean(blocks, kernel)).to(self.mean_ratio.dtype)
        mean = torch.where(self.mean_ratio > 0, self.mean_ratio, ratio)
        if self.training and (self.alpha == "auto" or ratio > 0):
            # u is positive: a mean of 0 says that there was no negative pair, which changes nothing
            mean = torch.where(ratio > 0, torch.lerp(ratio, mean, self._kept()), mean)
            self.mean_ratio.copy_(torch.where(ratio > 0, mean.clamp(min=smallest), self.mean_ratio))
            if self.balance_cosine == "measured":
                self.batches += 1
                if self.batches == BATCHES:
                    self._log_measured(kernel)
        return mean.clamp(min=smallest)

    def _kept(self) -> float:
        """Return the share of the old average that a training batch keeps."""
        if self.alpha == "auto":
            return self.decay
        return 1 - 1 / (1 + self.batches.item())

    def _log_measured(self, kernel: Kernel) -> None:
        if process_count() > 1 and dist.get_rank() > 0:
            return
        found = {"sigma": kernel.sigma, "temperature": kernel.temperature, **self.measured(kernel)}
        words = ", ".join(f"{name} {float(value):.4g}" for name, value in found.items())
        logger.info("balanced on the first %d batches: %s", BATCHES, words)

    @torch.no_grad()
    def _check_balance(self, weight: float | Tensor, kernel: Kernel, blocks: Sequence[Block]) -> None:
        """Warn, once, if one of the two terms dominates the other."""
        self._batches_seen += 1
        if self._warned or self._batches_seen % _CHECK_EVERY != 1:
            return
        ratio = average(pair_mean(blocks, kernel)).item()
        push = float(weight) * ratio
        if not push > 0 or EVEN[0] <= push <= EVEN[1]:  # 0: no negative pair; NaN is told by the trainer
            return
        self._warned = True
        cosine = balance_cosine_of(kernel, ratio)
        even = f"alpha {1 / ratio:.3g}" if cosine is None else f"balance_cosine {cosine:.2f} (alpha {1 / ratio:.3g})"
        if self.from_data:
            remedy = f"The balance of the first {BATCHES} batches no longer holds; alpha 'auto' follows the encoder"
        else:
            remedy = "Left out, the balance is measured"
        logger.warning(
            "%s would be even: now negatives push %.3g times as hard as positives pull (alpha times their mean density "
            "ratio), so that %s. %s; with the shift 'row' none is needed",
            even,
            push,
            "positives move apart" if push > 1 else "hardly anything is pushed apart",
            remedy,
        )
