"""One column of a batch as sentence-transformers hands it to a loss, and the same column twice for dropout views.

Texts are padded, ``(B, L)`` tokens, or under flash attention one sequence without padding, ``(1, T)`` tokens, of which
``cu_seq_lens_q`` ``(B + 1,)`` says where each text begins and the last one ends.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Features = dict[str, Any]
"""What the encoder reads of one column, such as ``input_ids`` and ``attention_mask``."""
BOUNDS = "cu_seq_lens_q"
"""Key of where texts begin and end in one sequence."""
_OF_TEXTS, _NUMBERS = (BOUNDS, "cu_seq_lens_k"), "seq_idx"  # (B + 1,); each token's text, counted from 0, (1, T)


def batch_size(features: Features) -> int:
    """Return the number of rows of a column."""
    if BOUNDS in features:
        return len(features[BOUNDS]) - 1
    return len(next(v for v in features.values() if isinstance(v, Tensor) and v.ndim > 0))


def twice(features: Features) -> Features:
    """Repeat the batch, ``(B, ...)`` to ``(2B, ...)``: one forward pass gives two dropout views of each text."""
    rows = batch_size(features)
    if BOUNDS in features:
        return {key: _continued(key, value, rows) for key, value in features.items()}
    return {
        key: torch.cat([value, value]) if isinstance(value, Tensor) and value.ndim and len(value) == rows else value
        for key, value in features.items()
    }


def _continued(key: str, value: Any, rows: int) -> Any:
    """Return a value of one sequence of texts as it is when all texts follow once more."""
    if not isinstance(value, Tensor) or not value.ndim:
        return value
    if key in _OF_TEXTS:
        return torch.cat([value, value[1:] + value[-1]])
    if key == _NUMBERS:
        return torch.cat([value, value + rows], dim=1)
    if value.ndim > 1:  # of tokens
        return torch.cat([value, value], dim=1)
    return torch.cat([value, value]) if len(value) == rows else value
