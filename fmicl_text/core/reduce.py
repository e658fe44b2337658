"""The two reductions over pairs that every objective is made of: a mean, and a log-sum-exp over each row.

Shapes: ``B`` rows, ``M`` columns, ``D`` dimensions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from fmicl_text.core.pairs import Block

Score = Callable[[Tensor], Tensor]
"""A pair's cosine to its score, elementwise."""

P = ParamSpec("P")
R = TypeVar("R")


def in_full_precision(objective: Callable[P, R]) -> Callable[P, R]:
    """Run ``objective`` with autocast off and half-precision tensors widened to float32.

    A bfloat16 cosine near 1 has steps of 0.004, which a kernel of width sigma = 0.16 turns into 16 percent.
    """

    def widen(value: Any) -> Any:
        half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
        return value.float() if half else value

    @functools.wraps(objective)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(value.device.type for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):
            return objective(*map(widen, args), **{key: widen(value) for key, value in kwargs.items()})

    return wrapped


def row_cosines(x: Tensor, y: Tensor) -> Tensor:
    """Cosine of each row with its partner: ``(B, D), (B, D)`` unit vectors to ``(B,)``."""
    return (x * y).sum(dim=1)


def pair_mean(blocks: Sequence[Block], score: Score) -> Tensor:
    """Mean of ``score`` over all kept pairs of all blocks; 0 when none is kept.

    Being a mean, it is unbiased under any split of the pairs: batches, accumulation steps, devices.
    """
    device = blocks[0].rows.vectors.device
    total, count = torch.zeros((), device=device), torch.zeros((), dtype=torch.long, device=device)
    for block in blocks:
        keep = block.keep()  # (B, M)
        scores = score(block.rows.vectors @ block.columns.vectors.T)  # (B, M)
        total = total + torch.where(keep, scores, 0).sum()
        count = count + keep.sum()
    return total / count.clamp(min=1)


def row_log_sum_exp(own: Tensor, blocks: Sequence[Block], score: Score) -> Tensor:
    """Log of ``exp(own)`` plus the summed ``exp(score)`` of each row's kept pairs: ``(B,)``.

    Args:
        own: One more score for each row, ``(B,)``; with it no row is empty.
        blocks: Blocks that all have the same ``B`` rows.
        score: Cosine to log weight, elementwise.
    """
    scores = [own.unsqueeze(1)]  # (B, 1)
    for block in blocks:
        block_scores = score(block.rows.vectors @ block.columns.vectors.T)  # (B, M)
        scores.append(block_scores.masked_fill(~block.keep(), -torch.inf))
    return torch.cat(scores, dim=1).logsumexp(dim=1)
