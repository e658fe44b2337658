"""Tokenised columns: the identity of each text, and the same batch twice for dropout views."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

Features = dict[str, Any]
"""One tokenised column as sentence-transformers hands it to a loss."""


def batch_size(features: Features) -> int:
    """Number of texts in a padded column.

    Raises:
        ValueError: If the texts are flattened into one sequence, which dropout views and text identities
            do not support.
    """
    if "cu_seq_lens_q" in features:
        raise ValueError("flattened inputs are not supported: load the model without unpadding (flash attention 2)")
    return len(next(v for v in features.values() if isinstance(v, Tensor) and v.ndim > 0))


def text_ids(features: Features) -> Tensor | None:
    """Hash each text to 64 bits: ``(B,)``, equal for texts whose tokens are equal, wherever they stand.

    Two texts that differ only beyond the model's maximum length are the same text to the encoder, and here.
    The hash is a sum of token ids weighted by fixed random 64-bit numbers, modulo 2^64: it does not depend on
    padding, column, device or process, and two different texts collide with a probability of about 2^-60.
    Columns that are not tokens (images, bags of words) have no identities: ``None``.
    """
    tokens, mask = features.get("input_ids"), features.get("attention_mask")
    if not isinstance(tokens, Tensor) or not isinstance(mask, Tensor) or tokens.ndim != 2:  # (B, L)
        return None
    position = mask.cumsum(dim=1) - 1  # (B, L); counts from the first real token under left padding too
    weights = _position_weights(tokens.shape[1]).to(tokens.device)[position.clamp(min=0)]  # (B, L)
    return ((tokens + 1) * weights * mask).sum(dim=1)  # (B,)


@functools.lru_cache(maxsize=64)
def _position_weights(length: int) -> Tensor:
    """Odd random numbers ``(L,)``; drawn one after another, so a longer list begins with a shorter one."""
    generator = torch.Generator().manual_seed(0)
    limit = 2**62
    drawn = [torch.randint(-limit, limit, (), generator=generator) for _ in range(length)]
    return torch.stack(drawn) * 2 + 1


def twice(features: Features) -> Features:
    """Repeat the batch, ``(B, ...)`` to ``(2B, ...)``: one forward pass gives two dropout views of each text."""
    rows = batch_size(features)
    return {
        key: torch.cat([value, value]) if isinstance(value, Tensor) and value.ndim and len(value) == rows else value
        for key, value in features.items()
    }
