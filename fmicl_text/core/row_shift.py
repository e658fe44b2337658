"""One shift for each row: the bound of f-MICL by an anchor's candidates, see :mod:`fmicl_text.core.shift`.

Shapes: ``B`` rows of ``N`` candidates each; ``(b, m)`` is a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fmicl_text.core.cosines import all_cosines
from fmicl_text.core.devices import visit, world_size
from fmicl_text.core.divergence import Divergence
from fmicl_text.core.fused import fused
from fmicl_text.core.kernels import Kernel
from fmicl_text.core.pairs import Block, Rows
from fmicl_text.core.reduce import identity
from fmicl_text.core.shift import precise
from fmicl_text.core.shift_search import (
    ALL,
    Found,
    Search,
    Sums,
    Target,
    begun,
    best_shifts,
    improved,
    shifted,
    sums_of,
    weights,
)
from fmicl_text.core.tiles import (
    Gradients,
    Score,
    Tile,
    every,
    fits_one_tile,
    is_symmetric,
    learned_by,
    left_out,
    of_rows,
    pairs_along,
    refuse_second_derivative,
    surroundings,
    tile_scores,
    tiles,
)

_TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-4}
"""How near 1 the sum of a row's weights must come before the last step, by the precision of the vectors."""
_EVERY = 32
"""In tiles, the search begins where it ends for every 32nd column alone."""
_NEAR = 0.1
"""The tolerance of that first search."""

_Seen = Callable[[float, Block, Tile], None]
"""What is done with a tile of a block, as often as what was seen stands for what was not."""


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
    critic = _critic(score, divergence, alpha)
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


def _critic(score: Score, divergence: Divergence, alpha: float | None) -> Score:
    """Return the critic in the precision that the search for the shift needs.

    That of the vectors is enough for log density ratios if the weights of a row sum to 1. ``f'(u)`` may exceed float32,
    with another ``alpha`` the critic comes too near to the end of the domain for it, and what is derived from functions
    of ``log u`` loses digits.
    """
    if score is identity and alpha is None and divergence.closed_conjugate:
        return score
    return partial(_in_float64, score=score)


def _in_float64(r: Tensor, score: Score) -> Tensor:
    return score(precise(r))


@fused
def _tile_tops(cosines: Tensor, out: Tensor | None, kernel: Kernel, critic: Score, symmetric: bool) -> list[Tensor]:
    """Largest critic of each row ``(b,)`` of a tile, and of each column ``(m,)`` where it stands for its twin too."""
    critics = tile_scores(cosines, out, kernel, critic)  # (b, m)
    return [precise(critics.amax(dim)) for dim in (1, 0)[: 1 + symmetric]]


@fused
def _tile_sums(
    cosines: Tensor,
    out: Tensor | None,
    kernel: Kernel,
    critic: Score,
    divergence: Divergence,
    shift: Tensor,
    shift_of_columns: Tensor | None,
) -> list[Sums]:
    """Sums over the rows ``(b,)`` of a tile, and over its columns ``(m,)`` where it stands for its twin too."""
    critics = tile_scores(cosines, out, kernel, critic)  # (b, m)
    sums = [sums_of(divergence, shifted(critics, shift.unsqueeze(1)))]
    return sums if shift_of_columns is None else [*sums, sums_of(divergence, shifted(critics, shift_of_columns), dim=0)]


@fused
def _tile_weights(
    cosines: Tensor,
    out: Tensor | None,
    kernel: Kernel,
    critic: Score,
    divergence: Divergence,
    rows: tuple[Tensor, Tensor],
    columns: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor]:
    """Return the critics of a tile, and the gradient by them of the bounds of its rows, and columns as above.

    Args:
        cosines: ``(b, m)``.
        out: Which pairs do not count.
        kernel: As of :func:`row_bound`.
        critic: As of :func:`row_bound`.
        divergence: As of :func:`row_bound`.
        rows: Each row's shift, and the gradient by its bound over the sum of its weights, ``(b,)`` each.
        columns: Each column's, ``(m,)`` each.
    """
    critics = tile_scores(cosines, out, kernel, critic)
    with torch.no_grad():
        shift, scale = rows
        share = weights(divergence, shifted(critics, shift.unsqueeze(1))).mul_(scale.unsqueeze(1))
        if columns is not None:
            shift, scale = columns
            share += weights(divergence, shifted(critics, shift)).mul_(scale)
    return critics, share


@fused
def _dense_step(critics: Tensor, search: Search, target: Target) -> Search:
    return improved(search, sums_of(target.divergence, shifted(critics, search.shift.unsqueeze(1))), target)


class _DenseRowBound(torch.autograd.Function):
    """``F`` of each row of a matrix of critics ``(B, N)``, of which those at minus infinity do not count."""

    @staticmethod
    def forward(ctx: Any, critics: Tensor, divergence: Divergence, alpha: float | None, tolerance: float) -> Tensor:
        count = (critics > -torch.inf).sum(dim=1)
        search, target = begun(divergence, alpha, tolerance, precise(critics.amax(dim=1)), count)

        def step(search: Search, _: Tensor | slice) -> Search:
            return _dense_step(critics, search, target)

        looks = critics.device.type == "cpu"  # a small matrix is swept sooner than a GPU has answered
        bound, shift, weight = best_shifts(step, search, target, looks=looks)
        ctx.divergence = divergence
        ctx.save_for_backward(critics, shift, weight)
        return bound

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("f-MICL with a shift for each row")
        critics, shift, total_weight = ctx.saved_tensors
        weight = weights(ctx.divergence, shifted(critics, shift.unsqueeze(1)))  # (B, N)
        return weight * (gradient / total_weight).to(weight.dtype).unsqueeze(1), None, None, None


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
        few = [(every(block, _EVERY), block) for block in blocks if len(block.columns.vectors)]

        def survey(top: Tensor, count: Tensor, times: float, block: Block, tile: Tile) -> None:
            tops = _tile_tops(tile.cosines, tile.out, kernel, critic, is_symmetric(block))
            for part, dim, more in zip((tile.i, tile.j), (1, 0), tops, strict=False):
                top[part] = torch.maximum(top[part], more)
                count[part] += times * pairs_along(tile.cosines, tile.out, dim=dim)

        def look(found: Sums, shift: Tensor, times: float, block: Block, tile: Tile) -> None:
            twin = shift[tile.j] if is_symmetric(block) else None
            sums = _tile_sums(tile.cosines, tile.out, kernel, critic, divergence, shift[tile.i], twin)
            for part, more in zip((tile.i, tile.j), sums, strict=False):
                found.add(more, part, times)

        def see(seen: Sequence[_Seen], times: float, block: Block, visiting: Rows, _: Tensor | None = None) -> None:
            for tile in tiles(block, visiting):
                for each in seen:
                    each(times, block, tile)

        def over_all(rows: Tensor | slice, *seen: _Seen) -> None:
            for block in blocks:
                visit(block.columns, partial(see, seen, 1.0, of_rows(block, rows)))

        def over_few(rows: Tensor | slice, *seen: _Seen) -> None:
            for some, block in few:
                times = world_size() * len(block.columns.vectors) / len(some.columns.vectors)
                see(seen, times, of_rows(some, rows), some.columns)

        def solved(over: Callable[..., None], tolerance: float, start: Tensor | None = None) -> Found:
            top = precise(own).clone()
            count = torch.ones_like(top)  # (B,)
            if start is None:
                over(ALL, partial(survey, top, count))
                search, target = begun(divergence, alpha, tolerance, top, count)
            else:  # the sweep that finds the largest critics sums up too
                sums = sums_of(divergence, shifted(own, start).unsqueeze(1))
                over(ALL, partial(survey, top, count), partial(look, sums, start))
                search, target = begun(divergence, alpha, tolerance, top, count, start)
                low = search.low  # may be above the start, which was found without the largest critic
                search = improved(search, sums, target)
                search = search._replace(shift=search.shift.maximum(low), low=search.low.maximum(low))

            def step(search: Search, rows: Tensor | slice) -> Search:
                sums = sums_of(divergence, shifted(own[rows], search.shift).unsqueeze(1))
                over(rows, partial(look, sums, search.shift))
                return improved(search, sums, target.of(rows))

            return best_shifts(step, search, target, leaves_out=True)

        start = solved(over_few, _NEAR).shift
        bound, shift, weight = solved(over_all, _TOLERANCE[blocks[0].rows.vectors.dtype], start)
        ctx.blocks, ctx.kernel, ctx.critic, ctx.divergence = blocks, kernel, critic, divergence
        ctx.surroundings = surroundings()
        ctx.save_for_backward(own, shift, weight, *sides_and_learned)
        return bound

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("f-MICL with a shift for each row")
        own, shift, weight, *_ = ctx.saved_tensors
        scale = (gradient / weight).to(own.dtype)  # (B,)

        def look(block: Block, gradients: Gradients, visiting: Rows, visitors: Tensor | None) -> None:
            for tile in tiles(block, visiting):
                rows, columns = (shift[tile.i], scale[tile.i]), (shift[tile.j], scale[tile.j])
                twin = columns if is_symmetric(block) else None
                with torch.enable_grad():
                    found = _tile_weights(tile.cosines, tile.out, ctx.kernel, ctx.critic, ctx.divergence, rows, twin)
                assert visitors is not None  # the buffer travels with the columns
                gradients.add(tile, visitors, *found)

        sides: list[Tensor | None] = []
        learned: list[Tensor] = []
        with ctx.surroundings(own.device):
            for block in ctx.blocks:
                found = Gradients(block, ctx.kernel)
                found.columns = visit(block.columns, partial(look, block, found), found.columns)
                sides += found.of_inputs()[:2]
                learned = [a + b for a, b in zip(learned, found.learned, strict=True)] if learned else found.learned
        share = weights(ctx.divergence, shifted(own, shift)) * scale
        return None, None, None, None, None, share, *sides, *learned
