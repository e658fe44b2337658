r"""Negatives from a region of similarity: Ball and Ring.

Wu, Zhuang, Mosse, Yamins, Goodman, "On Mutual Information in Contrastive Learning for Visual Representations"
(VINCE), arXiv 2005.13149; Wu, Mosse, Zhuang, Yamins, Goodman, "Conditional Negative Sampling for Contrastive Learning
of Visual Representations", ICLR 2021, arXiv 2010.02037.

Of a row's ``n`` candidates, ordered from the most similar down, a **ball** keeps the first ``outer n``, the hard
ones. A **ring** drops the closest ``inner`` of those, which are likely to be really positives. The papers draw
at random from the region of a memory bank; here all of the region counts.

Shapes: ``B`` rows, ``M`` columns; ``(b, M)`` is a strip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fmicl_text.core.checks import not_one_of
from fmicl_text.core.devices import visit
from fmicl_text.core.pairs import Block, Rows, share_text
from fmicl_text.core.shift import precise
from fmicl_text.core.tiles import tile_area


@dataclass(frozen=True)
class Region:
    """A ball, or with ``inner > 0`` a ring.

    Attributes:
        outer: Share of a row's candidates in the ball, in (0, 1]; at least one is kept.
        inner: Share of the ball that is dropped, the closest, in [0, 1); at least one is left.

    Raises:
        ValueError: If a share is out of range.
    """

    outer: float = 0.1
    inner: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.outer <= 1:
            raise ValueError(f"outer must be above 0 and at most 1, or the region keeps nothing, got {self.outer!r}")
        if not 0 <= self.inner < 1:
            raise ValueError(f"inner must be in [0, 1), or the ring keeps nothing, got {self.inner!r}")

    def at(self, step: int) -> Region:
        """Return the region itself, the same at every training step."""
        return self


def _linear(progress: float) -> float:
    return progress


def _step(progress: float) -> float:
    return min(math.floor(progress * 10 + 1e-9) / 9, 1.0)


def _exponential(progress: float) -> float:
    return 1 - math.exp(-10 * progress) if progress < 1 else 1.0


SCHEDULES: dict[str, Callable[[float], float]] = {"linear": _linear, "step": _step, "exponential": _exponential}
"""Name -> progress from all candidates to the region, from 0 to 1, as a function of the share of annealing steps done.

As in the authors' code over its 100 epochs of annealing: ``step`` has ten levels, the last a tenth of the steps long.
"""


@dataclass(frozen=True)
class Annealing:
    """A region that starts with all candidates, ``outer = 1``, and shrinks to its final size.

    Training on hard negatives from the start fails; the papers shrink the ball over the first half of training.

    Attributes:
        region: Where it ends.
        steps: Training steps until then.
        schedule: ``linear``; ``step``, linear in ten levels; ``exponential``, by a factor of e each tenth of the steps.

    Raises:
        ValueError: If ``steps`` is not positive, or the schedule unknown.
    """

    region: Region
    steps: int
    schedule: str = "linear"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps!r}")
        if self.schedule not in SCHEDULES:
            raise not_one_of("schedule", self.schedule, SCHEDULES)

    def at(self, step: int) -> Region:
        """Return the region after ``step`` training steps."""
        way = SCHEDULES[self.schedule](min(step / self.steps, 1.0))
        return Region(outer=(1 - way) + way * self.region.outer, inner=self.region.inner)


@dataclass(frozen=True)
class Adaptation:
    """A region that shrinks while the loss falls and grows while it rises, as in the authors' code.

    It starts with all candidates. After each training step whose loss is below the mean of the steps before, the ball
    loses the share ``delta`` of the candidates; after one above it, it gets that back.

    Attributes:
        region: The smallest it becomes.
        delta: Share by which the ball changes in a step, in (0, 1); the authors' 0.01.
        window: Training steps that the mean is of; the authors' 10.

    Raises:
        ValueError: If ``delta`` or ``window`` is out of range.
    """

    region: Region
    delta: float = 0.01
    window: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.delta < 1:
            raise ValueError(f"delta must be above 0 and below 1, got {self.delta!r}")
        if self.window < 1:
            raise ValueError(f"window must be at least 1, got {self.window!r}")

    def at(self, level: int) -> Region:
        """Return the region after it has become smaller ``level`` times more often than larger."""
        return Region(outer=max(self.region.outer, 1 - level * self.delta), inner=self.region.inner)

    def after(self, level: int, loss: float, before: Sequence[float]) -> int:
        """Return the level after a training step.

        Args:
            level: The level in this step, from 0.
            loss: The step's loss.
            before: The losses of the last steps before it, up to ``window`` of them.
        """
        if not before:
            return level
        mean = sum(before) / len(before)
        smallest = math.ceil((1 - self.region.outer) / self.delta - 1e-9)
        return min(max(level + (loss < mean) - (loss > mean), 0), smallest)


def restricted(blocks: Sequence[Block], region: Region | None) -> Sequence[Block]:
    """Return the blocks with each row's pairs restricted to ``region``, in each block separately."""
    if region is None:
        return blocks
    return [block._replace(bounds=_bounds(block, region)) for block in blocks]


@torch.no_grad()
def _bounds(block: Block, region: Region) -> Tensor:
    """Cosines between which a row's candidates are in the region: ``(B, 2)``.

    They lie halfway between two candidates, so that rounding never moves one across. Of candidates that tie at a
    border, to float precision, all are in the region.
    """
    columns: list[Rows] = []
    visit(block.columns, lambda visiting, _: columns.append(visiting))
    vectors = torch.cat([rows.vectors for rows in columns])  # (M, D), of all processes that share the batch
    texts = torch.cat([rows.texts for rows in columns])  # (M, K)
    height = max(1, tile_area(vectors) // len(vectors))
    strips = [slice(start, start + height) for start in range(0, len(block.rows.vectors), height)]
    return torch.cat([_bounds_of(block.rows, strip, vectors, texts, region) for strip in strips])


def _bounds_of(rows: Rows, strip: slice, vectors: Tensor, texts: Tensor, region: Region) -> Tensor:
    cosines = rows.vectors[strip] @ vectors.T  # (b, M)
    shared = share_text(rows.texts[strip], texts)
    if shared is not None:
        cosines = cosines.masked_fill(shared, -torch.inf)
    candidates = cosines.isfinite().sum(dim=1, keepdim=True)  # (b, 1)
    ball = _share(region.outer, candidates).clamp(min=1)
    dropped = _share(region.inner, ball)
    largest = max(1, math.floor(region.outer * cosines.shape[1] + 1e-9))  # ball, known without asking the device
    ordered = cosines.topk(min(largest + 1, cosines.shape[1]), dim=1).values  # (b, k)
    edge = torch.full_like(ordered[:, :1], torch.inf)
    ordered = torch.cat([edge, ordered, -edge], dim=1)  # (b, k + 2): rank n is at n + 1
    low = (ordered.gather(1, ball) + ordered.gather(1, ball + 1)) / 2
    high = (ordered.gather(1, dropped) + ordered.gather(1, dropped + 1)) / 2
    slack = 16 * torch.finfo(cosines.dtype).eps
    return torch.cat([low - slack, high + slack], dim=1)


def _share(share: float, count: Tensor) -> Tensor:
    """Return ``share * count`` rounded down, where 0.53 of 100 is 53, although 0.53 is a little less in binary."""
    return (share * precise(count) + 1e-9).floor().long()
