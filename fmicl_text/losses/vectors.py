"""From the embeddings of an encoder to the unit vectors of an objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

_FARTHEST = 100
"""Largest power of two by which a row is scaled; its squares then neither overflow nor vanish."""


def embeddings_of(output: Any) -> Tensor:
    """Return the embeddings ``(B, D)`` that an encoder gave, as a tensor or among sentence-transformers' features."""
    embeddings: Tensor = output["sentence_embedding"] if isinstance(output, Mapping) else output
    return embeddings


def unit_vectors(embeddings: Tensor, head: nn.Sequential | None) -> Tensor:
    """Apply the train-only head, if there is one, and scale each row to length 1, in float32, also under autocast.

    Args:
        embeddings: ``(B, D)``, of any floating type; float64 stays.
        head: A linear layer and what follows it, or ``None``.

    Returns:
        Unit vectors ``(B, D)``; a row of zeros stays one, as :func:`torch.nn.functional.normalize` leaves it.

    Raises:
        ValueError: If the head takes another number of dimensions.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        vectors = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
        if head is not None:
            layer: Any = head[0]
            width: int = layer.in_features
            if vectors.shape[1] != width:
                raise ValueError(
                    f"the head takes embeddings of {width} dimensions, got {vectors.shape[1]}: "
                    "a train-only head does not go with MatryoshkaLoss or Matryoshka2dLoss"
                )
            vectors = head(vectors.to(layer.weight.dtype))
        return normalize(_moderate(vectors), dim=1)


def _moderate(vectors: Tensor) -> Tensor:
    """Scale rows by powers of two so that their largest number is near 1: exact, and lengths are finite and not 0."""
    largest = vectors.detach().abs().amax(dim=1, keepdim=True)  # (B, 1)
    _, exponent = torch.frexp(largest)
    scale = torch.ldexp(torch.ones_like(largest), -exponent.clamp(-_FARTHEST, _FARTHEST))
    return vectors * scale.masked_fill(largest == 0, 0)  # zeros have no direction to train either
