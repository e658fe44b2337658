r"""The two reductions over pairs that objectives are made of: a mean, and a log-sum-exp over each row.

Neither ever holds the matrix of all pairs. The matrix is visited tile by tile; a tile's cosines are scored, reduced and
discarded, and their gradient flows into ``(B, D)`` and ``(M, D)`` buffers:

- **mean**: the weight of a pair is known before the sweep, so the value *and the gradient* of a tile are final when
  it is visited: one sweep, done in the forward pass. Backward only scales.
- **row log-sum-exp**: the weight of a pair is its share of its row, known after the first sweep: the backward pass
  makes a second one.

The pairs within one set are symmetric, and each unordered pair is visited once. Few enough pairs for one tile are
reduced by plain autograd, which is the same arithmetic without the bookkeeping.

Shapes: ``B`` rows, ``M`` columns, ``D`` dimensions; ``(b, m)`` is a tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fmicl_text.core.checks import require_positive
from fmicl_text.core.cosines import all_cosines
from fmicl_text.core.devices import across_devices, total, visit, world_size
from fmicl_text.core.kernels import Kernel
from fmicl_text.core.pairs import Block, Rows, share_text
from fmicl_text.core.products import add_product, product

Score = Callable[[Tensor], Tensor]
"""The score of a pair as a function of its log density ratio ``r``, elementwise."""

_COPIES = 8
"""Tensors of a tile's size that are alive at once: cosines, the kernel's and score's steps, their gradients."""
_MEMORY = {"cpu": 8 * 2**20, "cuda": 512 * 2**20}
"""Bytes for one tile by device: on a CPU about what the caches hold, on a GPU enough to keep it busy."""
_TILE_MEMORY: ContextVar[int | None] = ContextVar("tile_memory", default=None)


@contextmanager
def tile_memory(size: int) -> Iterator[None]:
    """Let reductions in this context use about ``size`` bytes for a tile, in place of the default of the device.

    Raises:
        ValueError: If ``size`` is not positive.
    """
    require_positive(size=size)
    token = _TILE_MEMORY.set(size)
    try:
        yield
    finally:
        _TILE_MEMORY.reset(token)


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


class Tile(NamedTuple):
    """A rectangle of the matrix of pairs: its place, its cosines, and which of them do not count (``None``: all do)."""

    i: slice
    j: slice
    pairs: Block  # (b, m)
    cosines: Tensor  # (b, m), a leaf of autograd
    out: Tensor | None  # (b, m)


def tiles(block: Block, columns: Rows) -> Iterator[Tile]:
    """Cut the pairs of the block's rows with some process's columns into tiles.

    Of a symmetric block only the pairs above the diagonal are in them: each unordered pair once.
    """
    vectors, symmetric = block.rows.vectors, is_symmetric(block)
    area = tile_area(vectors)
    high = math.isqrt(area) if symmetric else min(len(vectors), math.isqrt(area))
    wide = high if symmetric else area // high
    for start in range(0, len(vectors), high):
        i = slice(start, start + high)
        for begin in range(start if symmetric else 0, len(columns.vectors), wide):
            j = slice(begin, begin + wide)
            pairs = _part(block, columns, i, j)
            cosines = product(pairs.rows.vectors, pairs.columns.vectors)  # (b, m)
            out = left_out(pairs, cosines)
            if symmetric and i == j:
                twin = torch.ones_like(cosines, dtype=torch.bool).tril()
                out = twin if out is None else out | twin
            yield Tile(i, j, pairs, cosines.requires_grad_(), out)


def _part(block: Block, columns: Rows, i: slice, j: slice) -> Block:
    """Return the pairs ``(b, m)`` of some rows of a block with some of a process's columns, detached from autograd."""
    return Block(
        Rows(block.rows.vectors[i].detach(), block.rows.texts[i]),
        Rows(columns.vectors[j].detach(), columns.texts[j]),
        None if block.bounds is None else block.bounds[i],
        None if block.offered is None else block.offered[i, j],
    )


def left_out(block: Block, cosines: Tensor) -> Tensor | None:
    """Return which pairs of a block do not count: bool ``(B, M)``, or ``None`` if all do."""
    out = share_text(block.rows.texts, block.columns.texts)
    if block.offered is not None:
        out = ~block.offered if out is None else out | ~block.offered
    if block.bounds is not None:
        low, high = block.bounds[:, :1], block.bounds[:, 1:]
        outside = (cosines < low) | (cosines > high)
        out = outside if out is None else out | outside
    return out


def tile_scores(cosines: Tensor, out: Tensor | None, kernel: Kernel, score: Score, fill: float = -math.inf) -> Tensor:
    """Return the score of each pair, ``(B, M)``, and ``fill`` for those that do not count."""
    scores = score(kernel(cosines))
    return scores if out is None else scores.masked_fill(out, fill)


def _tile_sum(cosines: Tensor, out: Tensor | None, kernel: Kernel, score: Score) -> tuple[Tensor, Tensor]:
    scores = tile_scores(cosines, out, kernel, score, fill=0.0)
    if out is None:
        return scores.sum(), torch.full((), scores.numel(), device=scores.device)
    return scores.sum(), out.logical_not().count_nonzero()


def pairs_along(cosines: Tensor, out: Tensor | None, dim: int) -> Tensor:
    """Return how many pairs of each row (``dim=1``) or each column (``dim=0``) count."""
    if out is None:
        return torch.full((cosines.shape[1 - dim],), cosines.shape[dim], device=cosines.device)
    return cosines.shape[dim] - out.count_nonzero(dim=dim)


def learned_by(kernel: Kernel) -> list[Tensor]:
    """Return the parameters of a kernel that are trained."""
    return [parameter for parameter in kernel.parameters() if parameter.requires_grad]


def is_symmetric(block: Block) -> bool:
    """Say whether the block has each unordered pair twice, of which tiles hold one."""
    plain = block.bounds is None and block.offered is None
    return block.rows is block.columns and plain and world_size() == 1


def tile_area(vectors: Tensor) -> int:
    """Number of pairs of ``vectors`` that one tile may have, at least 1."""
    size = _TILE_MEMORY.get() or _MEMORY.get(vectors.device.type, _MEMORY["cuda"])
    return max(1, size // (_COPIES * vectors.element_size()))


def fits_one_tile(block: Block) -> bool:
    """Say whether the pairs of a block are few enough to be reduced by plain autograd."""
    pairs = block.rows.vectors.shape[0] * block.columns.vectors.shape[0]
    return world_size() == 1 and pairs <= tile_area(block.rows.vectors)


class Gradients:
    """Buffers for the gradient of a sweep's result by rows, columns and the kernel's parameters."""

    def __init__(self, block: Block, kernel: Kernel) -> None:
        self.rows = torch.zeros_like(block.rows.vectors)  # (B, D)
        self.columns: Tensor | None  # (M, D); shared with the rows where the two are one set
        self.columns = self.rows if is_symmetric(block) else torch.zeros_like(block.columns.vectors)
        self.parameters = learned_by(kernel)
        self.learned = [torch.zeros_like(parameter) for parameter in self.parameters]

    def add(self, tile: Tile, visitors: Tensor, result: Tensor, weight: Tensor | None = None) -> None:
        """Add the gradient of ``result``, a function of the tile's cosines; ``visitors`` is its columns' buffer."""
        slope, *slopes = torch.autograd.grad(result, [tile.cosines, *self.parameters], weight)  # (b, m), ...
        add_product(self.rows[tile.i], slope, tile.pairs.columns.vectors)
        add_product(visitors[tile.j], slope.T, tile.pairs.rows.vectors)
        for gradient, more in zip(self.learned, slopes, strict=True):
            gradient += more

    def of_inputs(self) -> tuple[Tensor | None, ...]:
        """Return the gradients of rows, columns (``None`` if they are the rows) and parameters."""
        return self.rows, None if self.columns is self.rows else self.columns, *self.learned


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
        wanted = wanted and any(ctx.needs_input_grad)
        gradients = Gradients(block, kernel) if wanted else None
        # Summed in place: small tensors that stay, left between the tiles' large ones, would fragment the heap.
        precise = rows.dtype if rows.device.type == "mps" else torch.float64
        sums = torch.zeros((), dtype=precise, device=rows.device)
        counts = torch.zeros((), dtype=torch.long, device=rows.device)

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
        ctx.gradients = gradients
        ctx.times = 2.0 if is_symmetric(block) else 1.0  # each unordered pair stands for two
        count = counts * int(ctx.times)
        ctx.mark_non_differentiable(count)
        return (sums * ctx.times).to(rows.dtype), count

    @staticmethod
    def backward(ctx: Any, weight: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("a loss computed tile by tile", remedy="; for one, let tile_memory() hold all pairs")
        factor = weight * ctx.times
        gradients = ctx.gradients.of_inputs()
        return None, None, None, None, *(None if gradient is None else gradient * factor for gradient in gradients)


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
        ctx.save_for_backward(rows, columns, log)
        ctx.block, ctx.kernel, ctx.score, ctx.across = block, kernel, score, world_size() > 1
        ctx.mark_non_differentiable(count)
        return log, count, own

    @staticmethod
    def backward(ctx: Any, weight: Tensor, _: Tensor, weight_of_own: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative("a loss computed tile by tile", remedy="; for one, let tile_memory() hold all pairs")
        rows, columns, log = ctx.saved_tensors
        with across_devices(ctx.across), torch.autocast(log.device.type, enabled=False):
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


def refuse_second_derivative(loss: str, remedy: str = "") -> None:
    """Refuse ``create_graph`` in a backward pass that autograd cannot differentiate.

    Raises:
        NotImplementedError: If a second derivative is asked for.
    """
    if torch.is_grad_enabled():  # autograd's create_graph
        raise NotImplementedError(f"{loss} has no second derivative{remedy}")
