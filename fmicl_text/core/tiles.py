r"""Tiles of the matrix of pairs: how it is cut, what its pairs score, and where their gradient goes.

The matrix of all pairs is never held. It is visited tile by tile; a tile's cosines are scored, reduced and discarded,
and their gradient flows into ``(B, D)`` and ``(M, D)`` buffers. The pairs within one set are symmetric, and each
unordered pair is visited once. Few enough pairs for one tile are reduced by plain autograd: the same arithmetic without
the bookkeeping.

Shapes: ``B`` rows, ``M`` columns, ``D`` dimensions; ``(b, m)`` is a tile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fmicl_text.core.checks import require_positive
from fmicl_text.core.devices import across_devices, world_size
from fmicl_text.core.kernels import Kernel
from fmicl_text.core.pairs import Block, Rows, share_text
from fmicl_text.core.products import add_product, product, takes_tf32, tensor_cores

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


def surroundings() -> Callable[[torch.device], AbstractContextManager[Any]]:
    """Return what enters the present context again, in a backward pass: on a GPU that has a thread of its own.

    What is returned takes the device of the pass, and is entered with autocast off.
    """
    across, memory, cores = world_size() > 1, _TILE_MEMORY.get(), takes_tf32()

    def again(device: torch.device) -> ExitStack:
        stack = ExitStack()
        stack.enter_context(across_devices(across))
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(tensor_cores(cores))
        if memory is not None:
            stack.enter_context(tile_memory(memory))
        return stack

    return again


class Tile(NamedTuple):
    """A rectangle of the matrix of pairs: its place, its cosines, and which of them do not count (``None``: all do)."""

    i: slice
    j: slice
    pairs: Block  # (b, m)
    cosines: Tensor  # (b, m), a leaf of autograd
    out: Tensor | None  # (b, m)


def tiles(block: Block, columns: Rows) -> Iterator[Tile]:
    """Cut the pairs of the block's rows with some process's columns into tiles.

    Of a symmetric block only the pairs above the diagonal are in them: each unordered pair once. Sides are cut evenly,
    as torch.compile makes a function of its own for a last tile that has a single row or column.
    """
    vectors, symmetric = block.rows.vectors, is_symmetric(block)
    area = tile_area(vectors)
    high = _even(len(vectors), math.isqrt(area))
    wide = high if symmetric else _even(len(columns.vectors), area // high)
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


def _even(length: int, most: int) -> int:
    """Return the length of the pieces, but for a shorter last one, of as few as have at most so many."""
    return math.ceil(length / math.ceil(length / most)) if length else 1


def _part(block: Block, columns: Rows, i: slice | Tensor, j: slice) -> Block:
    """Return the pairs ``(b, m)`` of some rows of a block with some of a process's columns, detached from autograd."""
    return Block(
        Rows(block.rows.vectors[i].detach(), block.rows.texts[i]),
        Rows(columns.vectors[j].detach(), columns.texts[j]),
        None if block.bounds is None else block.bounds[i],
        None if block.offered is None else block.offered[i, j],
    )


def every(block: Block, step: int) -> Block:
    """Return the pairs of a block with this process's columns number 0, ``step``, ``2 step`` and so on."""
    return _part(block, block.columns, slice(None), slice(None, None, step))


def of_rows(block: Block, rows: Tensor | slice) -> Block:
    """Return the pairs of some rows of a block, of their numbers; all rows are a slice."""
    return block if isinstance(rows, slice) else _part(block, block.columns, rows, slice(None))


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


def refuse_second_derivative(loss: str, remedy: str = "") -> None:
    """Refuse ``create_graph`` in a backward pass that autograd cannot differentiate.

    Raises:
        NotImplementedError: If a second derivative is asked for.
    """
    if torch.is_grad_enabled():  # autograd's create_graph
        raise NotImplementedError(f"{loss} has no second derivative{remedy}")
