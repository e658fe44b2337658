"""One shift for the batch: the bound of f-MICL by all negative pairs, see :mod:`fmicl_text.core.shift`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fmicl_text.core.divergence import Divergence
from fmicl_text.core.kernels import Kernel
from fmicl_text.core.pairs import Block
from fmicl_text.core.reduce import log_pair_mean, sum_and_count
from fmicl_text.core.shift import MARGIN, constant, precise
from fmicl_text.core.tiles import Score

_EXACT = 1e-6
"""How near 0 the log of the mean weight must come; the loss is off by the square of it."""
_STEPS, _FARTHEST = 100, 1e40


def batch_bound(
    blocks: Sequence[Block], kernel: Kernel, score: Score, divergence: Divergence, alpha: float = 1.0
) -> Tensor:
    """Return ``F`` of the pairs of all blocks, with one shift for all: a scalar, 0 when there is no pair.

    Args:
        blocks: The pairs.
        kernel: The log density ratio ``r`` of a pair from its cosine.
        score: The critic ``T`` by ``r``, increasing.
        divergence: The divergence.
        alpha: Weight of the conjugate.
    """
    shift = best_shift(blocks, kernel, score, divergence, alpha)

    def conjugate(r: Tensor) -> Tensor:
        return divergence.penalty(_log_weight(divergence, score(precise(r)) - shift)).to(r.dtype)

    value, count = sum_and_count(blocks, kernel, conjugate)
    bound = shift + alpha * value / count.clamp(min=1) + constant(divergence, torch.full_like(shift, alpha))
    return bound.to(value.dtype).masked_fill(count == 0, 0)


def _log_weight(divergence: Divergence, critic: Tensor) -> Tensor:
    """Return ``log w``, taken just inside the ends of the critic's domain beyond them."""
    low, high = divergence.domain
    return divergence.inverse_critic(critic.clamp(low + MARGIN, high - MARGIN))


@torch.no_grad()
def best_shift(
    blocks: Sequence[Block], kernel: Kernel, score: Score, divergence: Divergence, alpha: float = 1.0
) -> Tensor:
    """Solve ``alpha mean w = 1`` over all pairs; arguments as of :func:`batch_bound`."""
    end = divergence.domain[1] - MARGIN
    device = blocks[0].rows.vectors.device
    level = precise(torch.full((), alpha, device=device)).log()

    def excess(shift: Tensor) -> Tensor:
        def weight(r: Tensor) -> Tensor:  # infinite beyond the end, so that no shift takes a pair there
            critic = score(precise(r)) - shift
            return _log_weight(divergence, critic).exp().masked_fill(critic > end, torch.inf)

        return log_pair_mean(blocks, kernel, weight) + level

    coincident = precise(kernel(torch.ones_like(blocks[0].rows.vectors[0, 0])))
    high = score(coincident) - divergence.critic(-level)  # no weight is above 1/alpha there
    at_high, step = excess(high), 1.0
    low, at_low = high, at_high
    while at_low < -_EXACT and step < _FARTHEST:
        high, at_high = low, at_low
        low = high - step
        at_low, step = excess(low), 2 * step
    # Regula falsi, halving the value at an end that stays (Illinois); exact at once for KL, where it is a line.
    shift, value = low, at_low
    for _ in range(_STEPS):
        if abs(value) < _EXACT or not low < high:
            return shift
        shift = (low + high) / 2 if at_low.isinf() else (low * at_high - high * at_low) / (at_high - at_low)
        value = excess(shift)
        if value > 0:
            low, at_low, at_high = shift, value, at_high / 2
        else:
            high, at_high, at_low = shift, value, at_low / 2
    return high
