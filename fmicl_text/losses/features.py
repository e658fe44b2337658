"""One column of a batch as sentence-transformers hands it to a loss, and the same column twice for dropout views."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Features = dict[str, Any]
"""What the encoder reads of one column, such as ``input_ids`` and ``attention_mask``."""


def batch_size(features: Features) -> int:
    """Return the number of rows in a padded column.

    Raises:
        ValueError: If the texts are flattened into one sequence, which dropout views and text identities
            do not support.
    """
    if "cu_seq_lens_q" in features:
        raise ValueError("flattened inputs are not supported: load the model without unpadding (flash attention 2)")
    return len(next(v for v in features.values() if isinstance(v, Tensor) and v.ndim > 0))


def twice(features: Features) -> Features:
    """Repeat the batch, ``(B, ...)`` to ``(2B, ...)``: one forward pass gives two dropout views of each text."""
    rows = batch_size(features)
    return {
        key: torch.cat([value, value]) if isinstance(value, Tensor) and value.ndim and len(value) == rows else value
        for key, value in features.items()
    }
