r"""The two reductions over pairs that objectives are made of: a mean, and a log-sum-exp over each row.

Both visit the matrix of all pairs tile by tile, see :mod:`fmicl_text.core.tiles`:

- **mean**: the weight of a pair is known before the sweep, so the value *and the gradient* of a tile are final when
  it is visited: one sweep, done in the forward pass. The backward pass scales what that found.
- **row log-sum-exp**: the weight of a pair is its share of its row, known after the first sweep: the backward pass
  makes a second one.

Shapes: ``B`` rows, ``M`` columns, ``D`` dimensions; ``(b, m)`` is a tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fmicl_text.core.cosines import all_cosines
from fmicl_text.core.devices import total, visit
from fmicl_text.core.kernels import Kernel
from fmicl_text.core.pairs import Block, Rows
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


def identity(r: Tensor) -> Tensor:
    """Score a pair by its log density ratio itself."""
    return r


def pair_mean(blocks: Sequence[Block], kernel: Kernel, score: Score = torch.exp) -> Tensor:
    """Mean of ``score(kernel(cosine))`` over all kept pairs of all blocks; 0 when none is kept.

    Being a mean, it is unbiased under any split of the pairs: batches, accumulation steps, devices.

    Args:
        blocks: The pairs.
        kernel: The log density ratio ``r`` of a pair from its cosine.
        score: The score of a pair by its ``r``; default the density ratio ``u = exp(r)``.
    """
    value, count = sum_and_count(blocks, kernel, score)
    return value / count.clamp(min=1)


def log_pair_mean(blocks: Sequence[Block], kernel: Kernel, score: Score = torch.exp) -> Tensor:
    """Log of :func:`pair_mean` of a positive score, 0 when no pair is kept.

    Where the mean underflows, it is the log of the smallest float.
    """
    value, count = sum_and_count(blocks, kernel, score)
    mean = (value / count.clamp(min=1)).clamp(min=torch.finfo(value.dtype).tiny)
    return mean.log().masked_fill(count == 0, 0)


class RowSums(NamedTuple):
    """Result of :func:`row_log_sum_exp`, ``(B,)`` each: the log of the sum, the number of pairs in it, own cosines."""

    log: Tensor
    pairs: Tensor
    own: Tensor | None = None


def row_log_sum_exp(
    blocks: Sequence[Block], kernel: Kernel, score: Score = identity, *, paired: bool = False
) -> RowSums:
    """Log of the sum of ``exp(score(kernel(cosine)))`` over each row's kept pairs, of all blocks together.

    A row without any pair has a sum of 0, whose log is minus infinity with a gradient of 0.

    Args:
        blocks: Blocks that all have the same ``B`` rows.
        kernel: The log density ratio ``r`` of a pair from its cosine.
        score: The log weight of a pair by its ``r``; default ``r`` itself.
        paired: Also return the cosine of each row with its own column, the one in its place, of the first block. In a
            large batch their gradient then needs no ``(B, D)`` tensors of its own.
    """
    (log, count, own), *others = (
        _row_log_sum_exp(block, kernel, score, paired and block is blocks[0]) for block in blocks
    )
    logs, counts = [log, *(other[0] for other in others)], [count, *(other[1] for other in others)]
    return RowSums(log_sum_exp(*logs), torch.stack(counts).sum(dim=0), own if paired else None)


def log_sum_exp(*logs: Tensor) -> Tensor:
    """Elementwise log of a sum given the logs of its terms, of which any or all may be minus infinity."""
    stacked = torch.stack(logs)  # (N, B)
    nothing = stacked.isneginf().all(dim=0)
    return stacked.masked_fill(nothing, 0).logsumexp(dim=0).masked_fill(nothing, -torch.inf)


def finite(logs: Tensor) -> Tensor:
    """Replace the log-sum-exp of a row without pairs, minus infinity, by 0: nothing pushes it."""
    return logs.masked_fill(logs.isneginf(), 0)


def sum_and_count(blocks: Sequence[Block], kernel: Kernel, score: Score) -> tuple[Tensor, Tensor]:
    """Sum of the scores of all blocks' pairs on all processes that share the batch, and their number."""
    value, count = _pair_sum(blocks[0], kernel, score)
    for block in blocks[1:]:
        more = _pair_sum(block, kernel, score)
        value, count = value + more[0], count + more[1]
    return total(value), total(count)


def _pair_sum(block: Block, kernel: Kernel, score: Score) -> tuple[Tensor, Tensor]:
    """Sum of the scores of a block's pairs that have this process's rows, and their number."""
    if not fits_one_tile(block):
        wanted = torch.is_grad_enabled()  # inside an autograd function it never is
        return _PairSum.apply(
            block, kernel, score, wanted, block.rows.vectors, block.columns.vectors, *learned_by(kernel)
        )
    cosines = all_cosines(block)  # (B, M)
    return _tile_sum(cosines, left_out(block, cosines), kernel, score)


def _row_log_sum_exp(block: Block, kernel: Kernel, score: Score, paired: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Log-sum-exp and number of the pairs of each of this process's rows in a block, and its own cosine: ``(B,)``."""
    if not fits_one_tile(block):
        return _RowLogSumExp.apply(
            block, kernel, score, paired, block.rows.vectors, block.columns.vectors, *learned_by(kernel)
        )
    cosines = all_cosines(block)  # (B, M)
    out = left_out(block, cosines)
    log = tile_scores(cosines, out, kernel, score).logsumexp(dim=1)
    return log, pairs_along(cosines, out, dim=1), cosines.diagonal()


def _tile_sum(cosines: Tensor, out: Tensor | None, kernel: Kernel, score: Score) -> tuple[Tensor, Tensor]:
    scores = tile_scores(cosines, out, kernel, score, fill=0.0)
    if out is None:
        return scores.sum(), torch.full((), scores.numel(), device=scores.device)
    return scores.sum(), out.logical_not().count_nonzero()


def _swept(block: Block, kernel: Kernel, score: Score, wanted: bool) -> tuple[Tensor, Tensor, Gradients | None]:
    """Sum of the scores of a block's pairs as tiles hold them, their number, and if wanted the gradient of the sum."""
    vectors = block.rows.vectors
    gradients = Gradients(block, kernel) if wanted else None
    # Summed in place: small tensors that stay, left between the tiles' large ones, would fragment the heap.
    precise = vectors.dtype if vectors.device.type == "mps" else torch.float64
    sums = torch.zeros((), dtype=precise, device=vectors.device)
    counts = torch.zeros((), dtype=torch.long, device=vectors.device)

    def look(visiting: Rows, visitors: Tensor | None) -> None:
        for tile in tiles(block, visiting):
            with torch.set_grad_enabled(wanted):
                value, count = _tile_sum(tile.cosines, tile.out, kernel, score)
            sums.add_(value.detach())
            counts.add_(count)
            if gradients is not None and visitors is not None:
                gradients.add(tile, visitors, value)

    home = visit(block.columns, look, gradients.columns if gradients else None)
    if gradients is not None:
        gradients.columns = home
    return sums, counts, gradients


class _PairSum(torch.autograd.Function):
    """Sum and number of a block's pairs, value and gradient in one sweep."""

    @staticmethod
    def forward(
        ctx: Any,
        block: Block,
        kernel: Kernel,
        score: Score,
        wanted: bool,
        rows: Tensor,
        columns: Tensor,
        *learned: Tensor,
    ) -> tuple[Tensor, Tensor]:
        sums, counts, ctx.gradients = _swept(block, kernel, score, wanted and any(ctx.needs_input_grad))
        ctx.times = 2.0 if is_symmetric(block) else 1.0  # each unordered pair stands for two
        ctx.save_for_backward(rows, columns, *learned)
        ctx.swept, ctx.surroundings = partial(_swept, block, kernel, score), surroundings()
        count = counts * int(ctx.times)
        ctx.mark_non_differentiable(count)
        return (sums * ctx.times).to(rows.dtype), count

    @staticmethod
    def backward(ctx: Any, weight: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("a loss computed tile by tile", remedy="; for one, let tile_memory() hold all pairs")
        _ = ctx.saved_tensors  # refuses a graph that is gone, and what was changed since the forward pass
        # Scaled in place and given away: a copy would take as much memory again. So a second backward pass of a
        # retained graph sweeps again, in all processes.
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            with ctx.surroundings(weight.device):
                *_, gradients = ctx.swept(wanted=True)
        factor = weight * ctx.times
        given = (None if gradient is None else gradient.mul_(factor) for gradient in gradients.of_inputs())
        return None, None, None, None, *given


class _RowLogSumExp(torch.autograd.Function):
    """Log-sum-exp and number of each row's pairs, and its own cosine: one sweep forward, one backward."""

    @staticmethod
    def forward(
        ctx: Any,
        block: Block,
        kernel: Kernel,
        score: Score,
        paired: bool,
        rows: Tensor,
        columns: Tensor,
        *learned: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        log = torch.full_like(rows[:, 0], -torch.inf)  # (B,)
        count = torch.zeros(len(rows), dtype=torch.long, device=rows.device)  # (B,)
        symmetric = is_symmetric(block)

        def look(visiting: Rows, _: Tensor | None) -> None:
            for tile in tiles(block, visiting):
                scores = tile_scores(tile.cosines, tile.out, kernel, score)
                for part, dim in ((tile.i, 1), (tile.j, 0))[: 1 + symmetric]:
                    log[part] = torch.logaddexp(log[part], scores.logsumexp(dim=dim))
                    count[part] += pairs_along(tile.cosines, tile.out, dim=dim)

        visit(block.columns, look)
        own = torch.bmm(rows.unsqueeze(1), columns.unsqueeze(2)).flatten() if paired else rows.new_zeros(0)
        ctx.paired = paired
        ctx.save_for_backward(rows, columns, log, *learned)
        ctx.block, ctx.kernel, ctx.score, ctx.surroundings = block, kernel, score, surroundings()
        ctx.mark_non_differentiable(count)
        return log, count, own

    @staticmethod
    def backward(ctx: Any, weight: Tensor, _: Tensor, weight_of_own: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("a loss computed tile by tile", remedy="; for one, let tile_memory() hold all pairs")
        rows, columns, log, *_ = ctx.saved_tensors
        with ctx.surroundings(log.device):
            gradients = Gradients(ctx.block, ctx.kernel)
            symmetric = is_symmetric(ctx.block)

            def look(visiting: Rows, visitors: Tensor | None) -> None:
                for tile in tiles(ctx.block, visiting):
                    with torch.enable_grad():
                        scores = tile_scores(tile.cosines, tile.out, ctx.kernel, ctx.score)
                    share = (scores.detach() - log[tile.i, None]).exp() * weight[tile.i, None]  # (b, m)
                    if symmetric:
                        share += (scores.detach() - log[tile.j]).exp() * weight[tile.j]
                    assert visitors is not None  # the buffer went along
                    gradients.add(tile, visitors, scores, share)

            gradients.columns = visit(ctx.block.columns, look, gradients.columns)
            if ctx.paired and gradients.columns is not None:
                gradients.rows.addcmul_(weight_of_own[:, None], columns)
                gradients.columns.addcmul_(weight_of_own[:, None], rows)
        return None, None, None, None, *gradients.of_inputs()
