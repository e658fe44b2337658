"""The search for the shift of each row, see :mod:`fmicl_text.core.shift`, by sums over a row's candidates.

Shapes: ``B`` rows, ``N`` candidates. What is said of pairs is in the critics' precision, what of rows in float64.
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
from fmicl_text.core.shift import MARGIN, constant, precise

logger = logging.getLogger(__name__)

SWEEPS = 60
"""Upper limit on the sweeps of the search, which usually needs a handful."""
UNSEEN = 12
"""Sweeps where nobody looks whether they are enough; 10 were the most over all divergences, widths and spreads."""
ALL = slice(None)
"""All rows, where some are a tensor of their numbers."""


class Sums(NamedTuple):
    """Sums over each row's candidates at a shift, ``(B,)`` each."""

    weight: Tensor
    slope: Tensor  # of w, by t
    conjugate: Tensor  # f*(t) + f(0), 0 for a pair that does not count

    def add(self, other: Sums, rows: slice, times: float = 1.0) -> None:
        """Add the sums of some rows, as often as what was seen stands for what was not."""
        for mine, more in zip(self, other, strict=True):
            mine[rows].add_(more, alpha=times)


def shifted(critic: Tensor, shift: Tensor) -> Tensor:
    """Return ``critic - shift`` in the critic's precision, without the rounding of a shift in float64 to it.

    That would be the same for all candidates of a row, so that their errors would add up.
    """
    if critic.dtype == shift.dtype:
        return critic - shift
    near = shift.to(critic.dtype)
    return critic - near - (shift - near).to(critic.dtype)


def weights(divergence: Divergence, critic: Tensor) -> Tensor:
    """Return ``w(t) = f*'(t)``, 0 below the domain, so for a pair that does not count, at minus infinity, too."""
    low, high = divergence.domain
    margin = max(MARGIN, 32 * torch.finfo(critic.dtype).eps)
    return divergence.conjugate.ratio(critic.clamp(low, high - margin))


def sums_of(divergence: Divergence, critic: Tensor, dim: int = 1) -> Sums:
    """Sum over one dimension of shifted critics."""
    weight, conjugate = weights(divergence, critic), divergence.conjugate
    parts = weight, conjugate.curvature(weight), conjugate.value(weight)
    return Sums(*(precise(part.sum(dim)) for part in parts))


class Target(NamedTuple):
    """What the weights of each row are to sum to, ``n/alpha``, and how near; ``(B,)`` each."""

    divergence: Divergence
    tolerance: float  # largest absolute log of the sum over its target at which one more step is enough
    candidates: Tensor  # n
    alpha: Tensor
    level: Tensor  # log n/alpha
    aim: Tensor  # the critic there
    resolution: Tensor  # of critics less shift

    def of(self, rows: Tensor | slice) -> Target:
        """Return what some rows are to reach."""
        return Target(self.divergence, self.tolerance, *(field[rows] for field in self[2:]))


class Search(NamedTuple):
    """Where the search for each row's shift is, ``(B,)`` each."""

    shift: Tensor  # where to look next, or the end
    moving: Tensor  # whether to look there, bool
    last: Tensor  # the last step
    low: Tensor  # these bracket the shift
    high: Tensor
    seen: Tensor  # the shift at which there are sums
    weight: Tensor
    slope: Tensor
    conjugate: Tensor

    def of(self, rows: Tensor) -> Search:
        """Return the search of some rows."""
        return Search(*(field[rows] for field in self))

    def put(self, rows: Tensor, search: Search) -> None:
        """Let the search of some rows be another one."""
        for mine, other in zip(self, search, strict=True):
            mine[rows] = other


def begun(
    divergence: Divergence,
    alpha: float | None,
    tolerance: float,
    top: Tensor,
    count: Tensor,
    start: Tensor | None = None,
) -> tuple[Search, Target]:
    """Return a search, and its target.

    Args:
        divergence: The divergence.
        alpha: Weight of the conjugate; ``None`` for the number of candidates.
        tolerance: Of the target.
        top: Each row's largest critic ``(B,)``.
        count: Each row's number of candidates ``(B,)``.
        start: Where to begin ``(B,)``; default the lower end of what brackets the shift.
    """
    count = count.to(top.dtype)
    each = count if alpha is None else torch.full_like(count, alpha)  # alpha of each row
    level = (count / each).log()
    aim = divergence.critic(level)
    low, high = top - aim, top - divergence.critic(-each.log())
    resolution = 4 * torch.finfo(top.dtype).eps * (top.abs() + aim.abs())
    target = Target(divergence, tolerance, count, each, level, aim, resolution)
    none = torch.zeros_like(low)
    start = low if start is None else start
    return Search(start, torch.ones_like(low, dtype=torch.bool), none, low, high, start, none, none, none), target


def improved(search: Search, sums: Sums, target: Target) -> Search:
    """Return where the search is after the sums at its shift are known."""
    shift, _, last, low, high, *_ = search
    log = sums.weight.log()
    excess = log - target.level
    low, high = torch.where(excess > 0, shift, low), torch.where(excess > 0, high, shift)
    critic, curvature = target.divergence.critic, target.divergence.conjugate.curvature
    step = (critic(log) - target.aim) * curvature(sums.weight) / sums.slope
    newton = shift + step
    # The solution may be an end, where one candidate has all the weight, and rounding takes the step beyond it.
    between = (low - target.resolution <= newton) & (newton <= high + target.resolution)
    shrinking = (step * last >= 0) | (step.abs() < last.abs() / 2)
    # Newton's steps square the excess, so the one from within the tolerance needs no look at where it leads.
    moving = (excess.abs() > target.tolerance) & ~(step.abs() <= target.resolution)
    better = torch.where(moving & ~(between & shrinking), (low + high) / 2, newton.clamp(low, high))
    return Search(better, moving, better - shift, low, high, shift, *sums)


class Found(NamedTuple):
    """The result of the search for each row, ``(B,)``: the bound, the shift, and the sum of weights at it."""

    bound: Tensor
    shift: Tensor
    weight: Tensor


def best_shifts(
    step: Callable[[Search, Tensor | slice], Search],
    search: Search,
    target: Target,
    *,
    looks: bool = True,
    leaves_out: bool = False,
) -> Found:
    """Solve ``sum_j w(T_ij - v_i) = n/alpha`` for each row.

    Args:
        step: Takes the search of some rows, and their numbers or :data:`ALL`, to what :func:`improved` makes of it.
        search: Where it begins.
        target: What is solved.
        looks: Whether the host asks before each sweep if all rows are found. Otherwise there are as many sweeps as are
            enough, and it is told afterwards if they were not.
        leaves_out: Whether sweeps are of the other rows alone once more than half are found.
    """
    for _ in range(SWEEPS if looks else UNSEEN):
        if looks and total(search.moving.sum()) == 0:
            break
        if leaves_out and 2 * search.moving.sum() < len(search.moving):
            rows = search.moving.nonzero().squeeze(1)
            search.put(rows, step(search.of(rows), rows))
        else:
            search = step(search, ALL)
    note(search.moving.any(), _say_unfinished)
    return _found(search, target)


def _say_unfinished() -> None:
    logger.warning("the shift of some rows is not found exactly: the loss is a bound, but not the tightest one")


def _found(search: Search, target: Target) -> Found:
    """Return the result where the search has ended; its bound is that of where it looked last, off by a square."""
    divergence = target.divergence
    conjugate = search.conjugate / target.candidates - at_zero(divergence.generator, search.conjugate)  # mean of f*
    bound = search.seen + target.alpha * conjugate + constant(divergence, target.alpha)
    shift = torch.where(search.moving, search.seen, search.shift)
    weight = torch.where(shift == search.seen, search.weight, target.candidates / target.alpha)
    return Found(bound, shift, weight)
