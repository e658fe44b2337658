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
    pairs_along,
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
    """Sums over each row's candidates at a shift, ``(B,)`` each, in float64."""

    weight: Tensor
    slope: Tensor  # of w, by t
    conjugate: Tensor
    inside: Tensor  # how many are inside the domain

    def add(self, other: _Sums, rows: slice, times: float = 1.0) -> None:
        """Add the sums of some rows, as often as what was seen stands for what was not."""
        for mine, more in zip(self, other, strict=True):
            mine[rows].add_(more, alpha=times)


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


def _sums(divergence: Divergence, critic: Tensor, dim: int = 1) -> _Sums:
    """Sum over one dimension of shifted critics."""
    weight, log, inside = _weights(divergence, critic)
    slope = (weight / _slope(divergence.critic, log)).where(inside & (weight > 0), 0)
    conjugate = divergence.penalty(log) * inside
    return _Sums(weight.sum(dim), slope.sum(dim), conjugate.sum(dim), inside.sum(dim).to(weight.dtype))


@fused
def _tile_tops(cosines: Tensor, out: Tensor | None, kernel: Kernel, critic: Score, symmetric: bool) -> list[Tensor]:
    """Largest critic of each row ``(b,)`` of a tile, and of each column ``(m,)`` where it stands for its twin too."""
    critics = tile_scores(cosines, out, kernel, critic)  # (b, m)
    return [critics.amax(dim) for dim in (1, 0)[: 1 + symmetric]]


@fused
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
    sums = [_sums(divergence, critics - shift.unsqueeze(1))]
    return sums if shift_of_columns is None else [*sums, _sums(divergence, critics - shift_of_columns, dim=0)]


@fused
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


class _Target(NamedTuple):
    """What the weights of each row are to sum to, ``n/alpha``, and how near; ``(B,)`` each."""

    divergence: Divergence
    tolerance: float  # largest absolute log of the sum over its target
    candidates: Tensor  # n
    alpha: Tensor
    level: Tensor  # log n/alpha
    aim: Tensor  # the critic there
    resolution: Tensor  # of critics less shift


class _Search(NamedTuple):
    """Where the search for each row's shift is, ``(B,)`` each: the shift, the last step, what brackets the shift."""

    shift: Tensor
    last: Tensor
    low: Tensor
    high: Tensor


def _begun(
    divergence: Divergence, alpha: float | None, tolerance: float, top: Tensor, count: Tensor
) -> tuple[_Search, _Target]:
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
    target = _Target(divergence, tolerance, count, each, level, aim, resolution)
    return _Search(low, torch.zeros_like(low), low, high), target


def _improved(search: _Search, sums: _Sums, target: _Target) -> tuple[_Search, Tensor]:
    """Return where the search is after a step, and which rows it has not ended for."""
    shift, last, low, high = search
    log = sums.weight.log()
    excess = log - target.level
    low, high = torch.where(excess > 0, shift, low), torch.where(excess > 0, high, shift)
    critic = target.divergence.critic
    step = (critic(log) - target.aim) / (_slope(critic, log) * sums.slope / sums.weight)
    newton = shift + step
    between = (low < newton) & (newton < high) & ((step * last >= 0) | (step.abs() < last.abs() / 2))
    better = torch.where(between, newton, (low + high) / 2)
    moving = (excess.abs() > target.tolerance) & (step.abs() > target.resolution)
    last = torch.where(moving, better - shift, 0)
    return _Search(torch.where(moving, better, shift), last, low, high), moving


class _Found(NamedTuple):
    """The result of the search for each row, ``(B,)``: the bound, the shift, and the sum of weights at it."""

    bound: Tensor
    shift: Tensor
    weight: Tensor


def best_shifts(
    improve: Callable[[_Search], tuple[_Sums, _Search, Tensor]], search: _Search, target: _Target, looks: bool = True
) -> _Found:
    """Solve ``sum_j w(T_ij - v_i) = n/alpha`` for each row.

    Args:
        improve: From where the search is, the sums there and what :func:`_improved` makes of them.
        search: Where it begins, within its bracket.
        target: What is solved.
        looks: Whether the host asks after each sweep if all rows are found, which then do not move. Otherwise there are
            as many sweeps as are enough, and it is told afterwards if they were not.
    """
    for _ in range(_SWEEPS if looks else _UNSEEN):
        sums, search, moving = improve(search)
        if looks and total(moving.sum()) == 0:
            break
    else:
        note(moving.any(), _say_unfinished)
    divergence, conjugate = target.divergence, sums.conjugate
    if divergence.domain[0] > -torch.inf:  # below it, f* is -f(0)
        conjugate = conjugate - (target.candidates - sums.inside) * divergence.generator(
            torch.zeros_like(target.candidates)
        )
    bound = search.shift + target.alpha / target.candidates * conjugate + constant(divergence, target.alpha)
    return _Found(bound, search.shift, sums.weight)


@fused
def _dense_step(critics: Tensor, search: _Search, target: _Target) -> tuple[_Sums, _Search, Tensor]:
    sums = _sums(target.divergence, critics - search.shift.unsqueeze(1))
    return sums, *_improved(search, sums, target)


class _DenseRowBound(torch.autograd.Function):
    """``F`` of each row of a matrix of critics ``(B, N)``, of which those at minus infinity do not count."""

    @staticmethod
    def forward(ctx: Any, critics: Tensor, divergence: Divergence, alpha: float | None, tolerance: float) -> Tensor:
        count = (critics > -torch.inf).sum(dim=1)
        search, target = _begun(divergence, alpha, tolerance, critics.amax(dim=1), count)
        looks = critics.device.type == "cpu"  # a small matrix is swept sooner than a GPU has answered
        bound, shift, weight = best_shifts(partial(_dense_step, critics, target=target), search, target, looks)
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
        few = [(every(block, _EVERY), block) for block in blocks]

        def survey(
            top: Tensor, count: Tensor, times: float, block: Block, visiting: Rows, _: Tensor | None = None
        ) -> None:
            for tile in tiles(block, visiting):
                tops = _tile_tops(tile.cosines, tile.out, kernel, critic, is_symmetric(block))
                for part, dim, more in zip((tile.i, tile.j), (1, 0), tops, strict=False):
                    top[part] = torch.maximum(top[part], more)
                    count[part] += times * pairs_along(tile.cosines, tile.out, dim=dim)

        def look(
            found: _Sums, shift: Tensor, times: float, block: Block, visiting: Rows, _: Tensor | None = None
        ) -> None:
            for tile in tiles(block, visiting):
                twin = shift[tile.j] if is_symmetric(block) else None
                sums = _tile_sums(tile.cosines, tile.out, kernel, critic, divergence, shift[tile.i], twin)
                for part, more in zip((tile.i, tile.j), sums, strict=False):
                    found.add(more, part, times)

        def over_all(seen: Callable[..., None], *into: Any) -> None:
            for block in blocks:
                visit(block.columns, partial(seen, *into, 1.0, block))

        def over_few(seen: Callable[..., None], *into: Any) -> None:
            for some, block in few:
                times = world_size() * len(block.columns.vectors) / len(some.columns.vectors)
                seen(*into, times, some, some.columns)

        def solved(over: Callable[..., None], tolerance: float, start: Tensor | None = None) -> _Found:
            top, count = own.clone(), torch.ones_like(own)  # (B,)
            over(survey, top, count)
            search, target = _begun(divergence, alpha, tolerance, top, count)
            if start is not None:
                search = search._replace(shift=start.clamp(search.low, search.high))

            def improve(search: _Search) -> tuple[_Sums, _Search, Tensor]:
                sums = _sums(divergence, (own - search.shift).unsqueeze(1))
                over(look, sums, search.shift)
                return sums, *_improved(search, sums, target)

            return best_shifts(improve, search, target)

        start = solved(over_few, _NEAR).shift
        bound, shift, weight = solved(over_all, _TOLERANCE[blocks[0].rows.vectors.dtype], start)
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
