"""One shift for each row: the bound of f-MICL by an anchor's candidates, see :mod:`fmicl_text.core.shift`.

Shapes: ``B`` rows of ``N`` candidates each; ``(b, m)`` is a tile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fmicl_text.core.conditions import note
from fmicl_text.core.cosines import all_cosines
from fmicl_text.core.devices import total, visit, world_size
from fmicl_text.core.divergence import Divergence
from fmicl_text.core.fused import fused
from fmicl_text.core.kernels import Kernel
from fmicl_text.core.pairs import Block, Rows
from fmicl_text.core.shift import MARGIN, constant, precise
from fmicl_text.core.tiles import (
    Gradients,
    Score,
    every,
    fits_one_tile,
    is_symmetric,
    learned_by,
    left_out,
    refuse_second_derivative,
    surroundings,
    tile_scores,
    tiles,
)

logger = logging.getLogger(__name__)

_SWEEPS = 60
"""Upper limit on the sweeps of the search, which usually needs a handful."""
_UNSEEN = 12
"""Sweeps where nobody looks whether they are enough; 10 were the most over all divergences, widths and spreads."""
_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}
"""How near 1 the sum of a row's weights must come, by the precision of the vectors."""
_EVERY = 16
"""In tiles, the search begins where it ends for every 16th column alone."""
_NEAR = 1e-2
"""The tolerance of that first search."""


class _Sums(NamedTuple):
    """What a sweep at a shift finds of each row's candidates, ``(B,)`` each, in float64."""

    weight: Tensor
    slope: Tensor  # of w, by t
    conjugate: Tensor
    inside: Tensor  # how many are inside the domain
    candidates: Tensor
    top: Tensor  # the largest critic, before the shift

    def add(self, other: _Sums, rows: slice, times: float = 1.0) -> None:
        """Add what was found of some rows, as often as what was seen stands for what was not."""
        for mine, more in zip(self[:-1], other[:-1], strict=True):
            mine[rows].add_(more, alpha=times)
        torch.maximum(self.top[rows], other.top, out=self.top[rows])


def row_bound(
    blocks: Sequence[Block],
    own: Tensor,
    kernel: Kernel,
    score: Score,
    divergence: Divergence,
    alpha: float | None = None,
) -> Tensor:
    """Return ``F`` of each row's candidates, its positive and its pairs of all blocks, with a shift each: ``(B,)``.

    Args:
        blocks: Blocks that all have the same ``B`` rows.
        own: ``r`` of each row's positive ``(B,)``.
        kernel: The log density ratio ``r`` of a pair from its cosine.
        score: The critic ``T`` by ``r``, increasing.
        divergence: The divergence.
        alpha: Weight of the conjugate; default the number of the row's candidates.
    """
    critic = partial(_critic, score=score)
    if all(map(fits_one_tile, blocks)):
        candidates = [critic(own).unsqueeze(1)]  # (B, 1)
        for block in blocks:
            cosines = all_cosines(block)  # (B, M)
            candidates.append(tile_scores(cosines, left_out(block, cosines), kernel, critic))
        bound = _DenseRowBound.apply(torch.cat(candidates, dim=1), divergence, alpha, _TOLERANCE[own.dtype])
    else:
        sides = [side for block in blocks for side in (block.rows.vectors, block.columns.vectors)]
        bound = _RowBound.apply(blocks, kernel, critic, divergence, alpha, critic(own), *sides, *learned_by(kernel))
    return bound.to(own.dtype)


def _critic(r: Tensor, score: Score) -> Tensor:
    return score(precise(r))


def _slope(function: Score, at: Tensor) -> Tensor:
    """Return the derivative of an elementwise function."""
    if torch.compiler.is_compiling():  # cannot take the other way, which is the faster one where nothing is compiled
        return torch.func.jvp(function, (at,), (torch.ones_like(at),))[1]
    with torch.enable_grad():
        at = at.detach().requires_grad_()
        return torch.autograd.grad(function(at).sum(), at)[0]


def _weights(divergence: Divergence, critic: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``w(t)``, its log where it is not 0 (elsewhere any number), and where it is not 0."""
    low, high = divergence.domain
    inside = critic > low  # false also for a pair that does not count, at minus infinity
    at_one = divergence.critic(torch.zeros((), dtype=critic.dtype, device=critic.device))
    log = divergence.inverse_critic(critic.where(inside, at_one).clamp(max=high - MARGIN))
    return log.exp() * inside, log, inside


def _sums(divergence: Divergence, critics: Tensor, shift: Tensor, dim: int = 1) -> _Sums:
    """Sum over one dimension of critics; ``shift`` has the other one."""
    weight, log, inside = _weights(divergence, critics - shift.unsqueeze(dim))
    slope = (weight / _slope(divergence.critic, log)).where(inside & (weight > 0), 0)
    conjugate = divergence.penalty(log) * inside

    def along(values: Tensor) -> Tensor:
        return values.sum(dim, dtype=weight.dtype)

    count = along(critics > -torch.inf)
    return _Sums(along(weight), along(slope), along(conjugate), along(inside), count, critics.amax(dim))


@fused()
def _tile_sums(
    cosines: Tensor,
    out: Tensor | None,
    kernel: Kernel,
    critic: Score,
    divergence: Divergence,
    shift: Tensor,
    shift_of_columns: Tensor | None,
) -> list[_Sums]:
    """Sums over the rows ``(b,)`` of a tile, and over its columns ``(m,)`` where it stands for its twin too."""
    critics = tile_scores(cosines, out, kernel, critic)  # (b, m)
    sums = [_sums(divergence, critics, shift)]
    return sums if shift_of_columns is None else [*sums, _sums(divergence, critics, shift_of_columns, dim=0)]


@fused()
def _tile_slope(
    cosines: Tensor,
    out: Tensor | None,
    kernel: Kernel,
    critic: Score,
    divergence: Divergence,
    rows: tuple[Tensor, Tensor],
    columns: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Return a scalar whose gradient is that of the bounds of a tile's rows, and of its columns as in a sweep.

    Args:
        cosines: ``(b, m)``.
        out: Which pairs do not count.
        kernel: As of :func:`row_bound`.
        critic: As of :func:`row_bound`.
        divergence: As of :func:`row_bound`.
        rows: Each row's shift, and the gradient by its bound over the sum of its weights, ``(b,)`` each.
        columns: Each column's, ``(m,)`` each.
    """
    critics = tile_scores(cosines, out, kernel, critic, fill=0.0)
    with torch.no_grad():
        shift, scale = rows
        share = _weights(divergence, critics - shift.unsqueeze(1))[0] * scale.unsqueeze(1)
        if columns is not None:
            shift, scale = columns
            share += _weights(divergence, critics - shift)[0] * scale
    return (critics * share).sum()


def _say_unfinished() -> None:
    logger.warning("the shift of some rows is not found exactly: the loss is a bound, but not the tightest one")


class _Found(NamedTuple):
    """The result of the search for each row, ``(B,)``: the bound, the shift, and the sum of weights at it."""

    bound: Tensor
    shift: Tensor
    weight: Tensor


class _Search(NamedTuple):
    """Where the search for each row's shift is, ``(B,)`` each: the shift, the last step, what brackets the shift."""

    shift: Tensor
    last: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def from_shift(cls, start: Tensor) -> _Search:
        infinite = torch.full_like(start, torch.inf)
        return cls(start, torch.zeros_like(start), -infinite, infinite)


class _Target(NamedTuple):
    """What each row's weights are to sum to: ``n/alpha``, by default 1, with ``alpha`` the number of candidates."""

    divergence: Divergence
    alpha: float | None
    tolerance: float

    def alphas(self, sums: _Sums) -> Tensor:
        """Return the alpha of each row."""
        return sums.candidates if self.alpha is None else torch.full_like(sums.candidates, self.alpha)


def _improved(search: _Search, sums: _Sums, target: _Target) -> tuple[_Search, Tensor]:
    """Return where the search is after a step, and which rows it is not at the end for."""
    shift, last, low, high = search
    divergence, each = target.divergence, target.alphas(sums)
    level = (sums.candidates / each).log()
    aim = divergence.critic(level)
    low, high = torch.maximum(low, sums.top - aim), torch.minimum(high, sums.top - divergence.critic(-each.log()))
    outside = (shift < low) | (shift > high)  # where the search began: sums may be beyond all bounds there
    log = sums.weight.log()
    excess = log - level
    step = (divergence.critic(log) - aim) / (_slope(divergence.critic, log) * sums.slope / sums.weight)
    low, high = torch.where((excess > 0) & ~outside, shift, low), torch.where((excess > 0) | outside, high, shift)
    newton = shift + step
    between = (low < newton) & (newton < high) & ((step * last >= 0) | (step.abs() < last.abs() / 2))
    better = torch.where(outside, low, torch.where(between, newton, (low + high) / 2))
    resolution = 4 * torch.finfo(shift.dtype).eps * (sums.top.abs() + aim.abs())  # of critics less shift
    moving = outside | ((excess.abs() > target.tolerance) & (step.abs() > resolution))
    last = torch.where(moving & ~outside, better - shift, 0)
    return _Search(torch.where(moving, better, shift), last, low, high), moving


def best_shifts(
    step: Callable[[_Search], tuple[_Sums, _Search, Tensor]], start: Tensor, target: _Target, looks: bool = True
) -> _Found:
    """Solve ``sum_j w(T_ij - v_i) = n/alpha`` for each row.

    Args:
        step: From where the search is, the sums there and what :func:`_improved` makes of them.
        start: The first shifts ``(B,)``; any will do.
        target: What is solved, and how near; the tolerance is the largest absolute log of the sum over its target.
        looks: Whether the host asks after each sweep if all rows are found, which then do not move. Otherwise there are
            as many sweeps as are enough, and it is told afterwards if they were not.
    """
    search = _Search.from_shift(start)
    for _ in range(_SWEEPS if looks else _UNSEEN):
        sums, search, moving = step(search)
        if looks and total(moving.sum()) == 0:
            break
    else:
        note(moving.any(), _say_unfinished)
    divergence, each = target.divergence, target.alphas(sums)
    conjugate = sums.conjugate
    if divergence.domain[0] > -torch.inf:  # below it, f* is -f(0)
        conjugate = conjugate - (sums.candidates - sums.inside) * divergence.generator(torch.zeros_like(each))
    bound = search.shift + each / sums.candidates * conjugate + constant(divergence, each)
    return _Found(bound, search.shift, sums.weight)


@fused(after=200 * _UNSEEN)  # some 200 steps of training
def _dense_step(critics: Tensor, search: _Search, target: _Target) -> tuple[_Sums, _Search, Tensor]:
    sums = _sums(target.divergence, critics, search.shift)
    return sums, *_improved(search, sums, target)


class _DenseRowBound(torch.autograd.Function):
    """``F`` of each row of a matrix of critics ``(B, N)``, of which those at minus infinity do not count."""

    @staticmethod
    def forward(ctx: Any, critics: Tensor, divergence: Divergence, alpha: float | None, tolerance: float) -> Tensor:
        target = _Target(divergence, alpha, tolerance)
        start = critics.amax(dim=1) - divergence.critic(torch.zeros_like(critics[0, 0]))
        looks = critics.device.type == "cpu"  # a small matrix is swept sooner than a GPU has answered
        bound, shift, weight = best_shifts(partial(_dense_step, critics, target=target), start, target, looks)
        ctx.divergence = divergence
        ctx.save_for_backward(critics, shift, weight)
        return bound

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("f-MICL with a shift for each row")
        critics, shift, total_weight = ctx.saved_tensors
        weight = _weights(ctx.divergence, critics - shift.unsqueeze(1))[0]  # (B, N)
        return weight * (gradient / total_weight).unsqueeze(1), None, None, None


class _RowBound(torch.autograd.Function):
    """The same of blocks of any size, tile by tile: sweeps for the shift forward, one for the gradient backward."""

    @staticmethod
    def forward(
        ctx: Any,
        blocks: Sequence[Block],
        kernel: Kernel,
        critic: Score,
        divergence: Divergence,
        alpha: float | None,
        own: Tensor,
        *sides_and_learned: Tensor,
    ) -> Tensor:
        def look(found: _Sums, shift: Tensor, times: float, block: Block, visiting: Rows, _: Tensor | None) -> None:
            for tile in tiles(block, visiting):
                twin = shift[tile.j] if is_symmetric(block) else None
                sums = _tile_sums(tile.cosines, tile.out, kernel, critic, divergence, shift[tile.i], twin)
                for part, more in zip((tile.i, tile.j), sums, strict=False):
                    found.add(more, part, times)

        def sampled(shift: Tensor) -> _Sums:
            found = _sums(divergence, own.unsqueeze(1), shift)
            for block in blocks:
                few = every(block, _EVERY)
                times = len(block.columns.vectors) / len(few.columns.vectors) * world_size()
                look(found, shift, times, few, few.columns, None)
            return found

        def sweep(shift: Tensor) -> _Sums:
            found = _sums(divergence, own.unsqueeze(1), shift)
            for block in blocks:
                visit(block.columns, partial(look, found, shift, 1.0, block))
            return found

        def solved(sweep: Callable[[Tensor], _Sums], start: Tensor, tolerance: float) -> _Found:
            target = _Target(divergence, alpha, tolerance)

            def step(search: _Search) -> tuple[_Sums, _Search, Tensor]:
                sums = sweep(search.shift)
                return sums, *_improved(search, sums, target)

            return best_shifts(step, start, target)

        start = own - divergence.critic(torch.zeros_like(own[0]))
        start = solved(sampled, start, _NEAR).shift
        bound, shift, weight = solved(sweep, start, _TOLERANCE[blocks[0].rows.vectors.dtype])
        ctx.blocks, ctx.kernel, ctx.critic, ctx.divergence = blocks, kernel, critic, divergence
        ctx.surroundings = surroundings()
        ctx.save_for_backward(own, shift, weight)
        return bound

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("f-MICL with a shift for each row")
        own, shift, weight = ctx.saved_tensors
        scale = gradient / weight  # (B,)

        def look(block: Block, gradients: Gradients, visiting: Rows, visitors: Tensor | None) -> None:
            for tile in tiles(block, visiting):
                rows, columns = (shift[tile.i], scale[tile.i]), (shift[tile.j], scale[tile.j])
                twin = columns if is_symmetric(block) else None
                with torch.enable_grad():
                    found = _tile_slope(tile.cosines, tile.out, ctx.kernel, ctx.critic, ctx.divergence, rows, twin)
                assert visitors is not None  # the buffer travels with the columns
                gradients.add(tile, visitors, found)

        sides: list[Tensor | None] = []
        learned: list[Tensor] = []
        with ctx.surroundings(own.device):
            for block in ctx.blocks:
                found = Gradients(block, ctx.kernel)
                found.columns = visit(block.columns, partial(look, block, found), found.columns)
                sides += found.of_inputs()[:2]
                learned = [a + b for a, b in zip(learned, found.learned, strict=True)] if learned else found.learned
        share = _weights(ctx.divergence, own - shift)[0] * scale
        return None, None, None, None, None, share, *sides, *learned
