"""Cosines of all pairs of a block that fits in memory, differentiable to any order by plain autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fmicl_text.core.pairs import Block


def all_cosines(block: Block) -> Tensor:
    """Return the cosine of each row with each column: ``(B, M)``."""
    vectors = block.rows.vectors
    return _Gram.apply(vectors) if block.rows is block.columns else vectors @ block.columns.vectors.T


class _Gram(torch.autograd.Function):
    """``X X'``, whose gradient ``(G + G') X`` is one product of matrices where that of ``A B'`` is two."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        ctx.save_for_backward(vectors)
        return vectors @ vectors.T  # (B, B)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (vectors,) = ctx.saved_tensors
        return (gradient + gradient.T) @ vectors  # (B, D)
