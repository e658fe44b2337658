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
from fmicl_text.core.devices import total, visit
from fmicl_text.core.divergence import Divergence
from fmicl_text.core.kernels import Kernel
from fmicl_text.core.pairs import Block, Rows
from fmicl_text.core.shift import MARGIN, constant, precise
from fmicl_text.core.tiles import (
    Gradients,
    Score,
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


class _Sums(NamedTuple):
    """Sums over each row's candidates at a shift, ``(B,)`` each, in float64."""

    weight: Tensor
    slope: Tensor  # of w, by t
    conjugate: Tensor
    inside: Tensor  # how many are inside the domain

    def add(self, other: _Sums, rows: slice = slice(None)) -> None:
        for mine, more in zip(self, other, strict=True):
            mine[rows] += more


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


def _say_unfinished() -> None:
    logger.warning("the shift of some rows is not found exactly: the loss is a bound, but not the tightest one")


class _Found(NamedTuple):
    """The result of the search for each row, ``(B,)``: the bound, the shift, and the sum of weights at it."""

    bound: Tensor
    shift: Tensor
    weight: Tensor


def best_shifts(
    sweep: Callable[[Tensor], _Sums],
    top: Tensor,
    count: Tensor,
    divergence: Divergence,
    alpha: float | None,
    tolerance: float,
    looks: bool = True,
) -> _Found:
    """Solve ``sum_j w(T_ij - v_i) = n/alpha`` for each row.

    Args:
        sweep: Sums over each row's candidates, given shifts ``(B,)``.
        top: Each row's largest critic ``(B,)``.
        count: Each row's number of candidates ``(B,)``.
        divergence: The divergence.
        alpha: Weight of the conjugate; ``None`` for the number of candidates.
        tolerance: Largest absolute log of the sum over its target at which the search ends.
        looks: Whether the host asks after each sweep if all rows are found, which then do not move. Otherwise there are
            as many sweeps as are enough, and it is told afterwards if they were not.
    """
    count = count.to(top.dtype)
    each = count if alpha is None else torch.full_like(count, alpha)  # alpha of each row
    level = (count / each).log()
    aim = divergence.critic(level)
    low, high = top - aim, top - divergence.critic(-each.log())
    shift, last = low, torch.zeros_like(low)
    resolution = 4 * torch.finfo(top.dtype).eps * (top.abs() + aim.abs())  # of critics less shift
    for _ in range(_SWEEPS if looks else _UNSEEN):
        sums = sweep(shift)
        log = sums.weight.log()
        excess = log - level
        low, high = torch.where(excess > 0, shift, low), torch.where(excess > 0, high, shift)
        step = (divergence.critic(log) - aim) / (_slope(divergence.critic, log) * sums.slope / sums.weight)
        newton = shift + step
        between = (low < newton) & (newton < high) & ((step * last >= 0) | (step.abs() < last.abs() / 2))
        better = torch.where(between, newton, (low + high) / 2)
        moving = (excess.abs() > tolerance) & (step.abs() > resolution)
        if looks and total(moving.sum()) == 0:
            break
        last = torch.where(moving, better - shift, 0)
        shift = torch.where(moving, better, shift)
    else:
        note(moving.any(), _say_unfinished)
    conjugate = sums.conjugate
    if divergence.domain[0] > -torch.inf:  # below it, f* is -f(0)
        conjugate = conjugate - (count - sums.inside) * divergence.generator(torch.zeros_like(count))
    bound = shift + each / count * conjugate + constant(divergence, each)
    return _Found(bound, shift, sums.weight)


class _DenseRowBound(torch.autograd.Function):
    """``F`` of each row of a matrix of critics ``(B, N)``, of which those at minus infinity do not count."""

    @staticmethod
    def forward(ctx: Any, critics: Tensor, divergence: Divergence, alpha: float | None, tolerance: float) -> Tensor:
        def sweep(shift: Tensor) -> _Sums:
            return _sums(divergence, critics - shift.unsqueeze(1))

        count = (critics > -torch.inf).sum(dim=1)
        looks = critics.device.type == "cpu"  # a small matrix is swept sooner than a GPU has answered
        bound, shift, weight = best_shifts(sweep, critics.amax(dim=1), count, divergence, alpha, tolerance, looks)
        ctx.divergence = divergence
        ctx.save_for_backward(critics, shift, weight)
        return bound

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("f-MICL with a shift for each row")
        critics, shift, total_weight = ctx.saved_tensors
        weight, _, _ = _weights(ctx.divergence, critics - shift.unsqueeze(1))  # (B, N)
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
        top, count = own.clone(), torch.ones_like(own)  # (B,)

        def survey(block: Block, visiting: Rows, _: Tensor | None) -> None:
            for tile in tiles(block, visiting):
                critics = tile_scores(tile.cosines, tile.out, kernel, critic)  # (b, m)
                for part, dim in ((tile.i, 1), (tile.j, 0))[: 1 + is_symmetric(block)]:
                    top[part] = torch.maximum(top[part], critics.amax(dim=dim))
                    count[part] += pairs_along(tile.cosines, tile.out, dim=dim)

        for block in blocks:
            visit(block.columns, partial(survey, block))

        def sweep(shift: Tensor) -> _Sums:
            found = _sums(divergence, (own - shift).unsqueeze(1))

            def look(block: Block, visiting: Rows, _: Tensor | None) -> None:
                for tile in tiles(block, visiting):
                    critics = tile_scores(tile.cosines, tile.out, kernel, critic)
                    found.add(_sums(divergence, critics - shift[tile.i, None]), tile.i)
                    if is_symmetric(block):
                        found.add(_sums(divergence, critics - shift[tile.j], dim=0), tile.j)

            for block in blocks:
                visit(block.columns, partial(look, block))
            return found

        tolerance = _TOLERANCE[blocks[0].rows.vectors.dtype]
        bound, shift, weight = best_shifts(sweep, top, count, divergence, alpha, tolerance)
        ctx.blocks, ctx.kernel, ctx.critic, ctx.divergence = blocks, kernel, critic, divergence
        ctx.surroundings = surroundings()
        ctx.save_for_backward(own, shift, weight)
        return bound

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("f-MICL with a shift for each row")
        own, shift, weight = ctx.saved_tensors
        scale = gradient / weight  # (B,)

        def shares(critics: Tensor) -> Tensor:
            return _weights(ctx.divergence, critics)[0]

        def look(block: Block, gradients: Gradients, visiting: Rows, visitors: Tensor | None) -> None:
            for tile in tiles(block, visiting):
                with torch.enable_grad():
                    critics = tile_scores(tile.cosines, tile.out, ctx.kernel, ctx.critic)  # (b, m)
                share = shares(critics.detach() - shift[tile.i, None]) * scale[tile.i, None]
                if is_symmetric(block):
                    share += shares(critics.detach() - shift[tile.j]) * scale[tile.j]
                assert visitors is not None  # the buffer travels with the columns
                gradients.add(tile, visitors, critics, share)

        sides: list[Tensor | None] = []
        learned: list[Tensor] = []
        with ctx.surroundings(own.device):
            for block in ctx.blocks:
                found = Gradients(block, ctx.kernel)
                found.columns = visit(block.columns, partial(look, block, found), found.columns)
                sides += found.of_inputs()[:2]
                learned = [a + b for a, b in zip(learned, found.learned, strict=True)] if learned else found.learned
        return None, None, None, None, None, shares(own - shift) * scale, *sides, *learned
