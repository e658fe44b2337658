"""What each item of a task scored: the source of a score's interval, and of the paired test of two systems.

A result NAME.json has its items in NAME.items.json beside it, so that neither an encoder nor the data is needed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, model_validator

from fmicl_text.evaluation.kind import Effort
from fmicl_text.evaluation.metrics import Metric
from fmicl_text.evaluation.results import Result, Score, checked
from fmicl_text.evaluation.statistics import (
    Redrawn,
    percentile_interval,
    redrawn_average_precisions,
    redrawn_means,
    redrawn_spearmans,
    resampled,
)
from fmicl_text.files import read_json, write_bytes, write_json

Document = dict[str, Any]
"""The JSON document of one evaluation."""

Statistic = Literal["mean", "spearman", "average precision"]
"""How a score follows from items: the mean of what each scored, or how well the system's values agree with the gold."""

_STATISTICS: dict[Statistic, Callable[[np.ndarray, Any], Redrawn]] = {
    "mean": redrawn_means,
    "spearman": redrawn_spearmans,
    "average precision": redrawn_average_precisions,
}


@dataclass(frozen=True, eq=False)
class Items:
    """The items of a task, or of one split of it, and what a system made of them.

    Attributes:
        statistic: What the score is, x 100.
        values: What each item scored, from 0 to 1; or what the system says of it, ``(n,)``.
        gold: What it should say, ``(n,)``; None for a mean.
        source: Which items these are: those of two systems can be paired if theirs is the same. See :func:`digest`.
    """

    statistic: Statistic
    values: np.ndarray
    gold: np.ndarray | None = None
    source: str = ""

    def same(self, other: Items) -> bool:
        """Whether another system was scored on the same items, in the same way."""
        alike = (self.statistic, self.source, len(self.values)) == (other.statistic, other.source, len(other.values))
        if self.gold is None or other.gold is None:
            return alike and self.gold is other.gold
        return alike and np.array_equal(self.gold, other.gold)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Items:
        """Return what :meth:`document` wrote."""
        gold = None if document["gold"] is None else np.array(document["gold"])
        return cls(document["statistic"], np.array(document["values"]), gold, document["source"])

    def document(self) -> dict[str, Any]:
        """Return plain values, with the digits that tell two float32 apart, so that ranks and ties are kept."""
        return {
            "statistic": self.statistic,
            "source": self.source,
            "values": [float(str(value)) for value in self.values],
            "gold": None if self.gold is None else self.gold.tolist(),
        }


Parts = tuple[Items, ...]
"""A task's items; a task of several splits or languages is the mean of their scores."""


def score(parts: Parts) -> float:
    """Return the score x 100 of a task; NaN if a part of it has none."""
    once = [np.ones((1, len(part.values))) for part in parts]
    return float(np.mean([_redrawn([part])(drawn) for part, drawn in zip(parts, once, strict=True)]))


def interval(parts: Parts, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Return the 95% percentile interval of :func:`score` over resamples of the items of each part."""
    return average_interval([parts], resamples, seed)


def average_interval(tasks: Iterable[Parts], resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Return the 95% percentile interval of the mean of several tasks' scores, each on resamples of its own items."""
    rng = np.random.default_rng(seed)
    return percentile_interval(np.mean([resampled_scores([parts], resamples, rng)[0] for parts in tasks], axis=0))


def scores_of_items(metric: Metric, items: Mapping[str, Parts], effort: Effort, average: bool) -> list[Score]:
    """Return the score of each task from its items; before them their mean, if it is asked for and there are several.

    Args:
        metric: Of all tasks.
        items: Task -> its items.
        effort: Whether intervals are computed.
        average: Whether a mean over the tasks means something.
    """
    scores = [
        metric.score(
            task, score(parts), sum(len(part.values) for part in parts), interval(parts) if effort.intervals else None
        )
        for task, parts in items.items()
    ]
    if average and len(scores) > 1:
        ci95 = average_interval(items.values()) if effort.intervals else None
        scores.insert(0, metric.score("average", float(np.mean([one.value for one in scores])), ci95=ci95))
    return scores


def resampled_scores(systems: Sequence[Parts], resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return the scores x 100 of ``K`` systems on resamples of the same items: ``(K, R)``."""
    return np.mean(
        [
            resampled(_redrawn(part), len(part[0].values), resamples, rng)
            for part in zip(*systems, strict=True)  # the same part, of each system
        ],
        axis=0,
    )


def digest(*columns: Iterable[str]) -> str:
    """Return a digest of the texts of items, or of whatever else identifies them."""
    texts = hashlib.sha256()
    for column in columns:
        for text in column:
            texts.update(f"{len(text)}:{text}".encode())
    return texts.hexdigest()[:16]


def items_file(file: Path) -> Path:
    """Return where the items of a result in ``file`` are."""
    return file.with_suffix(".items.json")


@dataclass(frozen=True, eq=False)
class Measured:
    """What an evaluation found: its result, and what each item scored, by :attr:`Score.key`.

    Scores that are not made up of items, such as those of the geometry, have none. ``pictures`` are PNG files by what
    they show.
    """

    result: Result
    items: Mapping[str, Parts]
    pictures: Mapping[str, bytes] = field(default_factory=dict)


def write_result(measured: Measured, file: Path) -> None:
    """Write what each item scored to ``NAME.items.json``, if anything, then the result to ``file``, ``NAME.json``.

    Pictures go to ``NAME.WHAT.png``.
    """
    for shown, content in measured.pictures.items():
        write_bytes(file.with_suffix(f".{shown}.png"), content)
    if measured.items:
        items = {key: [part.document() for part in parts] for key, parts in measured.items.items()}
        write_json(items_file(file), {"model": measured.result.model, "items": items}, indent=None)
    write_json(file, measured.result.document())


def read_items(file: Path, result: Result) -> dict[str, Parts]:
    """Read what each item of a result in ``file`` scored, by :attr:`Score.key`; empty if that was not kept.

    Raises:
        InputError: The file of the items is not what :func:`write_result` writes.
    """
    place = items_file(file)
    if not place.exists():
        return {}
    written = checked(_ItemsDocument, read_json(place), place).items
    return {_key(result, name): tuple(Items.of(part.model_dump()) for part in parts) for name, parts in written.items()}


class _Part(BaseModel):
    statistic: Statistic
    source: str
    values: list[float]
    gold: list[float] | None

    @model_validator(mode="after")
    def _gold_for_each(self) -> Self:
        if not self.values or (self.gold is not None and len(self.gold) != len(self.values)):
            raise ValueError("needs one or more values, and as many in gold as in values")
        if (self.gold is None) != (self.statistic == "mean"):
            raise ValueError("gold must be null for a mean, and a list for all else")
        return self


class _ItemsDocument(BaseModel):
    items: dict[str, list[_Part]]


def _key(result: Result, name: str) -> str:
    """Return the key of a score; in format 1, items were kept by the name of a task or of a metric alone."""
    keys = [score.key for score in result.scores]
    named = (
        score.key
        for score in result.scores
        if name == score.name or name.replace("_", " ").lower() == score.metric.lower()
    )
    return name if name in keys else next(named, name)


def _redrawn(of_systems: Sequence[Items]) -> Redrawn:
    values = np.stack([items.values for items in of_systems])
    return _STATISTICS[of_systems[0].statistic](values, of_systems[0].gold)
