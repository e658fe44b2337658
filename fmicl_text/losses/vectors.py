"""From the embeddings of an encoder to the unit vectors of an objective."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


def unit_vectors(embeddings: Tensor, head: nn.Sequential | None) -> Tensor:
    """Apply the train-only head, if there is one, and scale each row to length 1, in float32 whatever autocast says.

    Args:
        embeddings: ``(B, D)``, of any floating type; float64 stays.
        head: A linear layer and what follows it, or ``None``.

    Returns:
        Unit vectors ``(B, D)``.

    Raises:
        ValueError: If the head takes another number of dimensions.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        vectors = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
        if head is not None:
            width = head[0].in_features
            if vectors.shape[1] != width:
                raise ValueError(
                    f"the head takes {width} dimensions, got {vectors.shape[1]}: "
                    "a train-only head does not go with MatryoshkaLoss"
                )
            vectors = head(vectors)
        return normalize(vectors, dim=1)
