"""The search for the shift of each row, see :mod:`fmicl_text.core.shift`, by sums over a row's candidates.

Shapes: ``B`` rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fmicl_text.core.conditions import note
from fmicl_text.core.conjugate import at_zero
from fmicl_text.core.devices import total
from fmicl_text.core.divergence import Divergence
from fmicl_text.core.shift import MARGIN, constant

logger = logging.getLogger(__name__)

SWEEPS = 60
"""Upper limit on the sweeps of the search, which usually needs a handful."""
UNSEEN = 12
"""Sweeps where nobody looks whether they are enough; 10 were the most over all divergences, widths and spreads."""


class Sums(NamedTuple):
    """Sums over each row's candidates at a shift, ``(B,)`` each, in float64."""

    weight: Tensor
    slope: Tensor  # of w, by t
    conjugate: Tensor  # f*(t) + f(0), 0 for a pair that does not count

    def add(self, other: Sums, rows: slice, times: float = 1.0) -> None:
        """Add the sums of some rows, as often as what was seen stands for what was not."""
        for mine, more in zip(self, other, strict=True):
            mine[rows].add_(more, alpha=times)


def weights(divergence: Divergence, critic: Tensor) -> Tensor:
    """Return ``w(t) = f*'(t)``, 0 below the domain, so for a pair that does not count, at minus infinity, too."""
    low, high = divergence.domain
    return divergence.conjugate.ratio(critic.clamp(low, high - MARGIN))


def sums_of(divergence: Divergence, critic: Tensor, dim: int = 1) -> Sums:
    """Sum over one dimension of shifted critics."""
    weight, conjugate = weights(divergence, critic), divergence.conjugate
    return Sums(*(part.sum(dim) for part in (weight, conjugate.curvature(weight), conjugate.value(weight))))


def _say_unfinished() -> None:
    logger.warning("the shift of some rows is not found exactly: the loss is a bound, but not the tightest one")


class Target(NamedTuple):
    """What the weights of each row are to sum to, ``n/alpha``, and how near; ``(B,)`` each."""

    divergence: Divergence
    tolerance: float  # largest absolute log of the sum over its target
    candidates: Tensor  # n
    alpha: Tensor
    level: Tensor  # log n/alpha
    aim: Tensor  # the critic there
    resolution: Tensor  # of critics less shift


class Search(NamedTuple):
    """Where the search for each row's shift is, ``(B,)`` each: the shift, the last step, what brackets the shift."""

    shift: Tensor
    last: Tensor
    low: Tensor
    high: Tensor


def begun(
    divergence: Divergence, alpha: float | None, tolerance: float, top: Tensor, count: Tensor
) -> tuple[Search, Target]:
    """Return the search at its lower end, and its target.

    Args:
        divergence: The divergence.
        alpha: Weight of the conjugate; ``None`` for the number of candidates.
        tolerance: Of the target.
        top: Each row's largest critic ``(B,)``.
        count: Each row's number of candidates ``(B,)``.
    """
    count = count.to(top.dtype)
    each = count if alpha is None else torch.full_like(count, alpha)  # alpha of each row
    level = (count / each).log()
    aim = divergence.critic(level)
    low, high = top - aim, top - divergence.critic(-each.log())
    resolution = 4 * torch.finfo(top.dtype).eps * (top.abs() + aim.abs())
    target = Target(divergence, tolerance, count, each, level, aim, resolution)
    return Search(low, torch.zeros_like(low), low, high), target


def improved(search: Search, sums: Sums, target: Target) -> tuple[Search, Tensor]:
    """Return where the search is after a step, and which rows it has not ended for."""
    shift, last, low, high = search
    log = sums.weight.log()
    excess = log - target.level
    low, high = torch.where(excess > 0, shift, low), torch.where(excess > 0, high, shift)
    critic, curvature = target.divergence.critic, target.divergence.conjugate.curvature
    step = (critic(log) - target.aim) * curvature(sums.weight) / sums.slope
    newton = shift + step
    # The solution may be an end, where one candidate has all the weight, and rounding takes the step beyond it.
    between = (low - target.resolution <= newton) & (newton <= high + target.resolution)
    shrinking = (step * last >= 0) | (step.abs() < last.abs() / 2)
    better = torch.where(between & shrinking, newton.clamp(low, high), (low + high) / 2)
    moving = (excess.abs() > target.tolerance) & (step.abs() > target.resolution)
    last = torch.where(moving, better - shift, 0)
    return Search(torch.where(moving, better, shift), last, low, high), moving


class Found(NamedTuple):
    """The result of the search for each row, ``(B,)``: the bound, the shift, and the sum of weights at it."""

    bound: Tensor
    shift: Tensor
    weight: Tensor


def best_shifts(
    improve: Callable[[Search], tuple[Sums, Search, Tensor]], search: Search, target: Target, looks: bool = True
) -> Found:
    """Solve ``sum_j w(T_ij - v_i) = n/alpha`` for each row.

    Args:
        improve: From where the search is, the sums there and what :func:`improved` makes of them.
        search: Where it begins, within its bracket.
        target: What is solved.
        looks: Whether the host asks after each sweep if all rows are found, which then do not move. Otherwise there are
            as many sweeps as are enough, and it is told afterwards if they were not.
    """
    for _ in range(SWEEPS if looks else UNSEEN):
        sums, search, moving = improve(search)
        if looks and total(moving.sum()) == 0:
            break
    else:
        note(moving.any(), _say_unfinished)
    divergence = target.divergence
    conjugate = sums.conjugate / target.candidates - at_zero(divergence.generator, sums.conjugate)  # mean of f*
    bound = search.shift + target.alpha * conjugate + constant(divergence, target.alpha)
    return Found(bound, search.shift, sums.weight)
