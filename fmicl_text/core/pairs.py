r"""Which pairs of a batch are negatives.

Shapes: ``B`` rows of a batch, ``M`` candidate rows, ``D`` dimensions, ``K`` texts a row stands for.

Every row carries the identities of the texts it stands for. An anchor and its positive both stand for the
two texts of their pair, an explicit negative for itself alone. **Two rows that share a text are never each
other's negatives.** So a sentence that occurs twice in a batch is not pushed away from itself, an anchor is
not pushed away from a second copy of its own positive, and neither a row's own positive nor the row itself
needs a special case.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

NEGATIVES = ("within", "cross", "both")
"""``within``: anchors (x_i, x_j), the paper's. ``cross``: (x_i, y_j). ``both``: all pairs of the 2B rows."""


class Rows(NamedTuple):
    """Unit vectors ``(B, D)`` and the identities ``(B, K)``, int64, of the texts each stands for."""

    vectors: Tensor
    texts: Tensor


class Block(NamedTuple):
    """All pairs of a row and a column that share no text."""

    rows: Rows
    columns: Rows

    def keep(self) -> Tensor:
        """Return which pairs count: bool ``(B, M)``."""
        a, b = self.rows.texts, self.columns.texts
        shared = torch.zeros(len(a), len(b), dtype=torch.bool, device=a.device)  # (B, M)
        for i in range(a.shape[1]):
            for j in range(b.shape[1]):
                shared |= a[:, i, None] == b[None, :, j]
        return ~shared


def as_rows(
    x: Tensor, y: Tensor, extra: Tensor | None, texts: Tensor | None, extra_texts: Tensor | None
) -> tuple[Rows, Rows, Rows | None]:
    """Attach text identities to anchors, positives and explicit negatives; by default all texts differ.

    Args:
        x: Anchors ``(B, D)``.
        y: Positives ``(B, D)``.
        extra: Explicit negatives ``(M, D)`` or ``None``.
        texts: ``(B, K)`` int64, the texts of each pair (x_i, y_i).
        extra_texts: ``(M,)`` int64, the text of each explicit negative.

    Raises:
        ValueError: If shapes do not fit together.
    """
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(f"x and y must both be (B, D), got {tuple(x.shape)} and {tuple(y.shape)}")
    if extra is not None and (extra.ndim != 2 or extra.shape[1] != x.shape[1]):
        raise ValueError(f"extra must be (M, {x.shape[1]}) like x, got {tuple(extra.shape)}")
    if texts is None:
        texts = torch.arange(len(x), device=x.device).unsqueeze(1)  # (B, 1)
    if texts.ndim != 2 or len(texts) != len(x):
        raise ValueError(f"texts must be (B, K) with B = {len(x)}, got {tuple(texts.shape)}")
    if extra is None:
        return Rows(x, texts), Rows(y, texts), None
    if extra_texts is None:
        extra_texts = -1 - torch.arange(len(extra), device=x.device)  # negative: no row of the batch has them
    if extra_texts.shape != (len(extra),):
        raise ValueError(f"extra_texts must be (M,) with M = {len(extra)}, got {tuple(extra_texts.shape)}")
    return Rows(x, texts), Rows(y, texts), Rows(extra, extra_texts.unsqueeze(1))


def negative_blocks(x: Rows, y: Rows, extra: Rows | None, negatives: str) -> Sequence[Block]:
    """Return the blocks whose kept pairs are the negatives of one batch.

    Args:
        x: Anchors.
        y: Positives.
        extra: Explicit negatives; they add the pairs (x_i, n_j).
        negatives: One of :data:`NEGATIVES`.

    Raises:
        ValueError: If ``negatives`` is none of them.
    """
    if negatives == "within":
        blocks = [Block(x, x)]
    elif negatives == "cross":
        blocks = [Block(x, y)]
    elif negatives == "both":
        both = Rows(torch.cat([x.vectors, y.vectors]), torch.cat([x.texts, y.texts]))  # 2B rows
        blocks = [Block(both, both)]
    else:
        raise ValueError(f"negatives must be one of {', '.join(NEGATIVES)}, got {negatives!r}")
    if extra is not None:
        blocks.append(Block(x, extra))
    return blocks
