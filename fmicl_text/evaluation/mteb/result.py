"""What mteb found of one model: its scores, their intervals, and all of it as every evaluation gives it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version

import numpy as np
from mteb.benchmarks.benchmark import BenchmarkAggregation
from mteb.models import ModelMeta
from mteb.results import TaskResult

from fmicl_text.evaluation.items import Measured, Parts, average_interval, interval
from fmicl_text.evaluation.metrics import mteb_metric
from fmicl_text.evaluation.mteb.selection import Selection
from fmicl_text.evaluation.results import Result
from fmicl_text.evaluation.scored_model import ScoredModel
from fmicl_text.versions import versions


@dataclass(frozen=True)
class MtebResult:
    """The result of :func:`fmicl_text.evaluation.mteb.run.evaluate`.

    Attributes:
        scored: The model, with what the user called it.
        meta: What mteb knows of the model, such as its name there.
        selection: What it was evaluated on.
        results: Task -> mteb's result of the splits and subsets that were selected.
        prompts: Task -> what is put before a ``query``, a ``document`` and any other ``text``; None for nothing.
        missing: Task -> why it has no result.
        items: Task -> what each item scored, if that is known.
        no_interval: Task -> why that is not known.
        max_seq_length: Tokens after which the model cuts a text; None if it never does.
        precision: Type of the model's weights, such as ``float32``.
        batch_size: Texts encoded at a time.
    """

    scored: ScoredModel
    meta: ModelMeta
    selection: Selection
    results: dict[str, TaskResult]
    prompts: dict[str, dict[str, str | None]]
    missing: dict[str, str]
    items: dict[str, Parts]
    no_interval: dict[str, str]
    max_seq_length: int | None
    precision: str
    batch_size: int

    def main_score(self, task: str) -> float:
        """Return mteb's main score of a task: the mean over its splits and subsets, from 0 to 1."""
        return float(self.results[task].get_score())

    @cached_property
    def ci95(self) -> dict[str, tuple[float, float]]:
        """Task -> the 95% bootstrap interval of its main score over the items, from 0 to 1, where these are known.

        Texts that mteb trains a classifier on are not resampled; splits and languages are resampled separately.
        """
        intervals = {task: interval(parts) for task, parts in self.items.items()}
        return {task: (low / 100, high / 100) for task, (low, high) in intervals.items()}

    @property
    def average(self) -> float | None:
        """Mean of the main scores; None if any task is missing, since the rest is not comparable with any other."""
        return None if self.missing else float(np.mean([self.main_score(task) for task in self.results]))

    @cached_property
    def average_ci95(self) -> tuple[float, float] | None:
        """95% bootstrap interval of the average, from 0 to 1; None unless the items of every task are known."""
        if self.average is None or self.items.keys() != self.results.keys():
            return None
        low, high = average_interval(self.items.values())
        return low / 100, high / 100

    @property
    def benchmark_scores(self) -> dict[str, float | None]:
        """The benchmark's own means, such as by type of task; empty without a benchmark, or if tasks are missing."""
        if self.selection.benchmark is None or self.missing:
            return {}
        means: dict[str, float | None] = {}
        for aggregation in self.selection.benchmark.aggregations:
            if isinstance(aggregation, BenchmarkAggregation):
                means |= aggregation.aggregate(list(self.results.values()))
        return means

    def measured(self) -> Measured:
        """Return the result in percent, as every evaluation gives it, and what each item scored."""
        tasks = {task.metadata.name: task.metadata for task in self.selection.tasks}
        metrics = {name: mteb_metric(tasks[name].main_score) for name in self.results}
        scores = []
        for name, metric in metrics.items():
            n = sum(len(part.values) for part in self.items[name]) if name in self.items else None
            why = self.no_interval.get(name)
            scores.append(metric.score(name, 100 * self.main_score(name), n, _percent(self.ci95.get(name)), why))
        of_means = mteb_metric(*{tasks[name].main_score for name in self.results})
        if self.average is not None and len(scores) > 1:
            scores.insert(0, of_means.score("average", 100 * self.average, ci95=_percent(self.average_ci95)))
        for heading, mean in self.benchmark_scores.items():
            if mean is not None:
                scores.append(of_means.score(heading, 100 * mean))
        result = Result(
            kind="mteb",
            name=self.selection.name,
            protocol=f"mteb {version('mteb')}: main score of each task{self.selection.rules}",
            model=self.scored.name,
            revision=self.scored.revision,
            data=self.selection.data,
            facts={
                "max_seq_length": self.max_seq_length,
                "precision": self.precision,
                "batch_size": self.batch_size,
                "mteb_name": self.meta.model_name_with_experiment,
            },
            versions=versions() | {"mteb": version("mteb")},
            scores=scores,
            missing=self.missing,
            details={
                "tasks": {
                    name: {
                        "type": tasks[name].type,
                        "splits": result.eval_splits,
                        "subsets": sorted(result.hf_subsets),
                        "dataset": tasks[name].dataset["path"],
                        "dataset_revision": result.dataset_revision,
                        "mteb_version": result.mteb_version,
                        "prompts": self.prompts[name],
                        "seconds": _known(result.evaluation_time),
                    }
                    for name, result in self.results.items()
                }
            },
        )
        return Measured(result, {metrics[name].key(name): parts for name, parts in self.items.items()})


def _known(seconds: float | None) -> float | None:
    """Return the time of a task, which is NaN in mteb for a mean over tasks of which one has no time."""
    return None if seconds is None or np.isnan(seconds) else seconds


def _percent(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return interval and (100 * interval[0], 100 * interval[1])
