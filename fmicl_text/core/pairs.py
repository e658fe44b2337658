r"""Which pairs of a batch are negatives.

Shapes: ``B`` rows of a batch, ``M`` candidate rows, ``D`` dimensions, ``K`` texts a row stands for.

Every row carries the identities of the texts it stands for. An anchor and its positive both stand for the
two texts of their pair, an explicit negative for itself alone. **Two rows that share a text are never each
other's negatives.** So a sentence that occurs twice in a batch is not pushed away from itself, an anchor is
not pushed away from a second copy of its own positive, and neither a row's own positive nor the row itself
needs a special case.

**Groups** (a label, the document that passages are from) are one more identity: rows of one group are then never each
other's negatives. Give every set of rows, the explicit negatives and a queue's too, a further column with the group's
identity. It must differ from the identity of every text: hash texts and groups with different prefixes to 64 bits, or
number groups from where texts end. A row without a group repeats one of its texts there. Rows need not all have the
same number of columns: an explicit negative may have one text and one group where a pair has two texts and one group.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_FEW = 2**14
"""Up to this many pairs, comparing all of them is faster than sorting their identities; on a GPU always."""


class Rows(NamedTuple):
    """Unit vectors ``(B, D)`` and the identities ``(B, K)``, int64, of the texts each stands for."""

    vectors: Tensor
    texts: Tensor


class Block(NamedTuple):
    """All pairs of a row and a column that share no text.

    Attributes:
        rows: ``B`` rows.
        columns: ``M`` columns; the very same :class:`Rows` for the pairs within one set.
        bounds: The lowest and the highest cosine ``(B, 2)`` at which a pair of a row counts; ``None`` for all.
        offered: Which columns were offered to which row, bool ``(B, M)``; ``None`` for all.
    """

    rows: Rows
    columns: Rows
    bounds: Tensor | None = None
    offered: Tensor | None = None


def share_text(a: Tensor, b: Tensor) -> Tensor | None:
    """Return which rows share a text: bool ``(B, M)``; of many pairs on a CPU, ``None`` if none do.

    Args:
        a: Text identities ``(B, K)``.
        b: Text identities ``(M, K')``.
    """
    if a.shape[0] * b.shape[0] <= _FEW or a.device.type != "cpu":  # a GPU would have to be waited for
        return _compare(a, b)  # (B, M); asking whether there is any would take as long as using it
    # Sorting B + M identities is far cheaper than comparing B x M.
    common = torch.isin(a.contiguous(), b.contiguous()).any(dim=1)  # (B,)
    if not common.any():
        return None
    shared = torch.zeros(len(a), len(b), dtype=torch.bool, device=a.device)  # (B, M)
    shared[common] = _compare(a[common], b)
    return shared


def _compare(a: Tensor, b: Tensor) -> Tensor:
    shared = a[:, :1] == b[:, 0]  # (B, M)
    for k in range(a.shape[1]):  # one matrix at a time: all comparisons together would be K K' of them
        for other in range(b.shape[1]):
            if k or other:
                shared |= a[:, k, None] == b[:, other]
    return shared


def together(x: Rows, y: Rows) -> Rows:
    """Return the 2B rows of both views as one set: ``(2B, D)``."""
    return Rows(torch.cat([x.vectors, y.vectors]), torch.cat([x.texts, y.texts]))
