"""One batch as the objectives see it: anchors, positives, explicit negatives, and which pairs are negatives.

Shapes: ``B`` rows of a batch, ``M`` explicit negatives, ``D`` dimensions, ``K`` texts a row stands for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fmicl_text.core.checks import not_one_of
from fmicl_text.core.conditions import note, read_together
from fmicl_text.core.devices import rank
from fmicl_text.core.kernels import Kernel
from fmicl_text.core.pairs import Block, Rows, together
from fmicl_text.core.regions import Region, restricted

NEGATIVES = ("within", "cross", "both", "anchor")
"""``within``: anchors (x_i, x_j), the paper's. ``cross``: (x_i, y_j). ``both``: all pairs of the 2B rows. ``anchor``:
what an anchor meets, (x_i, x_j) and (x_i, y_j), so ``both`` without the pairs of positives (y_i, y_j)."""

Terms = dict[str, Tensor]
"""The scalar terms of an objective by name, ``positive`` and ``negative``; their sum is the loss."""


class Batch(NamedTuple):
    """Anchors ``(B, D)``, their positives ``(B, D)`` and explicit negatives ``(M, D)``, and the negatives' region."""

    x: Rows
    y: Rows
    extra: Rows | None = None
    region: Region | None = None

    def own(self, kernel: Kernel) -> Tensor:
        """Return ``r(x_i, y_i)``: ``(B,)``."""
        return kernel(torch.linalg.vecdot(self.x.vectors, self.y.vectors))

    def against(self, rows: Rows, *columns: Rows | None) -> Sequence[Block]:
        """Return the negative pairs of ``rows`` with each set of columns that is not None."""
        return restricted([Block(rows, of) for of in columns if of is not None], self.region)

    def negatives(self, which: str) -> Sequence[Block]:
        """Return the negative pairs of a kind, and the pairs (x_i, n_j) with the explicit negatives.

        Raises:
            ValueError: If ``which`` is none of :data:`NEGATIVES`.
        """
        if which == "within":
            return self.against(self.x, self.x, self.extra)
        if which == "cross":
            return self.against(self.x, self.y, self.extra)
        if which == "both":
            rows = together(self.x, self.y)
            return [*self.against(rows, rows), *self.against(self.x, self.extra)]
        if which == "anchor":
            return self.against(self.x, self.x, self.y, self.extra)
        raise not_one_of("negatives", which, NEGATIVES)

    def candidates(self, which: str) -> list[Sequence[Block]]:
        """Return the same pairs by row: for each set of rows that has negatives, the blocks of those B rows.

        Raises:
            ValueError: If ``which`` is none of :data:`NEGATIVES`.
        """
        if which == "both":
            rows = together(self.x, self.y)
            return [self.against(self.x, rows, self.extra), self.against(self.y, rows)]
        return [self.negatives(which)]

    def swapped(self) -> Batch:
        """Return the batch with anchors and positives swapped, without explicit negatives."""
        return self._replace(x=self.y, y=self.x, extra=None)


class Objective(Protocol):
    """The signature of every objective."""

    def __call__(
        self,
        x: Tensor,
        y: Tensor,
        extra: Tensor | None = None,
        *,
        texts: Tensor | None = None,
        extra_texts: Tensor | None = None,
        region: Region | None = None,
        **settings: Any,
    ) -> Terms:
        """Return the terms of the objective on one batch.

        Computes in float32 at least, with autocast off: a bfloat16 cosine near 1 has steps of 0.004, which a kernel
        of width sigma = 0.16 turns into 16 percent.

        A batch without any negative pair, of one row or of rows that all share a text, has a negative term of 0: its
        gradient is the positive term's. Where the positive is in the denominator, as in InfoNCE, the loss is 0.

        Args:
            x: Anchors, unit vectors ``(B, D)``.
            y: Positives, unit vectors ``(B, D)``.
            extra: Explicit negatives, unit vectors ``(M, D)``, offered to every anchor; default none.
            texts: Text identities of the pairs ``(B, K)``, int64; default all differ. Rows that share a text are
                never each other's negatives, see :mod:`fmicl_text.core.pairs`.
            extra_texts: Text identities of the explicit negatives, ``(M,)`` or ``(M, K)``; default all differ.
            region: Restricts each row's negatives to a ball or a ring of similarity; default all.
            settings: The objective's own.

        Raises:
            ValueError: If shapes do not fit together, or rows are not of unit length.
        """


def objective(equation: Callable[..., Terms]) -> Objective:
    """Make an equation on a :class:`Batch` callable with tensors, as :class:`Objective` says."""

    @functools.wraps(equation)
    def on_tensors(
        x: Tensor,
        y: Tensor,
        extra: Tensor | None = None,
        *,
        texts: Tensor | None = None,
        extra_texts: Tensor | None = None,
        region: Region | None = None,
        **settings: Any,
    ) -> Terms:
        # Entering torch.autocast, even to disable it, takes as long as a small batch's kernel.
        wanted = torch.is_autocast_enabled(x.device.type)
        with torch.autocast(x.device.type, enabled=False) if wanted else nullcontext():
            return equation(as_batch(x, y, extra, texts, extra_texts, region), **settings)

    return on_tensors


def as_batch(
    x: Tensor,
    y: Tensor,
    extra: Tensor | None = None,
    texts: Tensor | None = None,
    extra_texts: Tensor | None = None,
    region: Region | None = None,
) -> Batch:
    """Check the tensors of one batch and attach text identities; arguments as in :class:`Objective`.

    Raises:
        ValueError: If shapes do not fit together, or rows are not of unit length.
    """
    if x.ndim != 2 or x.shape != y.shape or x.shape[0] == 0:
        raise ValueError(f"x and y must both be (B, D) with B > 0, got {tuple(x.shape)} and {tuple(y.shape)}")
    rows, dimensions = x.shape
    if extra is not None and (extra.ndim != 2 or extra.shape[1] != dimensions):
        raise ValueError(f"extra must be (M, {dimensions}) like x, got {tuple(extra.shape)}")
    if extra is not None and len(extra) == 0:
        extra = None
    with read_together():
        x, y = _unit("x", x), _unit("y", y)
        extra = None if extra is None else _unit("extra", extra)
    if texts is None:
        first = rank() * rows
        texts = torch.arange(first, first + rows, device=x.device).unsqueeze(1)  # (B, 1)
    if texts.ndim != 2 or texts.shape[0] != rows:
        raise ValueError(f"texts must be (B, K) with B = {rows}, got {tuple(texts.shape)}")
    if extra is None:
        return Batch(Rows(x, texts), Rows(y, texts), None, region)
    if extra_texts is None:  # negative: no row of the batch has them
        extra_texts = -1 - torch.arange(len(extra), device=x.device) - rank() * len(extra)
    if extra_texts.ndim == 1:
        extra_texts = extra_texts.unsqueeze(1)  # (M, 1)
    if extra_texts.ndim != 2 or len(extra_texts) != len(extra):
        raise ValueError(f"extra_texts must be (M, K) with M = {len(extra)}, got {tuple(extra_texts.shape)}")
    return Batch(Rows(x, texts), Rows(y, texts), Rows(extra, extra_texts), region)


def _unit(name: str, vectors: Tensor) -> Tensor:
    """Return unit vectors in float32 at least, zeros as they are; NaN passes, since the trainer reports it."""
    precise = vectors.float() if vectors.dtype in (torch.float16, torch.bfloat16) else vectors
    lengths = torch.linalg.vector_norm(precise.detach(), dim=1)  # (B,)
    lengths = lengths.masked_fill(lengths == 0, 1)
    shortest, longest = lengths.aminmax()

    def refusal() -> ValueError:
        worst = int((lengths - 1).abs().argmax())
        return ValueError(f"{name} must have rows of length 1, got {lengths[worst].item():.4g} in row {worst}")

    note((shortest < 0.99) | (longest > 1.01), refusal)  # normalising in bfloat16 is off by up to 0.008
    return precise
