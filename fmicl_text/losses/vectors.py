"""From the embeddings of an encoder to the unit vectors of an objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_FARTHEST = 100
"""Largest power of two by which a row is scaled; its squares then neither overflow nor vanish."""
_LEAST = 1e-12  # below which a length counts as this, as in torch.nn.functional.normalize
_ROWS = 1024  # at a time


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
                    f"the head takes embeddings of {width} dimensions, got {vectors.shape[1]}; "
                    "a train-only head does not go with MatryoshkaLoss or Matryoshka2dLoss, which give parts of them, "
                    "nor with an encoder whose get_embedding_dimension() is another number"
                )
            vectors = head(vectors.to(layer.weight.dtype))
        unit: Tensor = _UnitRows.apply(vectors)
        return unit


class _UnitRows(Function):
    """Rows scaled to length 1, keeping and computing nothing of their size ``(B, D)`` but the result and its gradient.

    With ``u = x / |x|``, the gradient of ``x`` is ``(g - u <u, g>) / |x|``. Of a row of zeros, which has no direction
    to train either, both are zero.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        """Return the unit vectors ``(B, D)``; lengths are finite and not 0, as rows are first brought near 1."""
        largest = torch.linalg.vector_norm(vectors, torch.inf, dim=1, keepdim=True)  # (B, 1)
        exponent = largest.log2().floor()  # frexp, which would be exact here too, is not to be had on every device
        scale = torch.ldexp(torch.ones_like(largest), -exponent.clamp(-_FARTHEST, _FARTHEST))  # exact: powers of two
        scale = scale.masked_fill(largest == 0, 0)  # (B, 1)
        unit = vectors * scale  # (B, D)
        length = torch.linalg.vector_norm(unit, dim=1, keepdim=True).clamp_min(_LEAST)  # (B, 1)
        ctx.save_for_backward(unit.div_(length), scale / length)
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the gradient of the vectors ``(B, D)``, some rows at a time."""
        slopes = torch.empty_like(gradient)
        parts = (tensor.split(_ROWS) for tensor in (*ctx.saved_tensors, gradient, slopes))
        for unit, inverse, given, slope in zip(*parts, strict=True):
            along = (unit * given).sum(dim=1, keepdim=True)  # (b, 1)
            torch.sub(given, unit * along, out=slope).mul_(inverse)
        return slopes
