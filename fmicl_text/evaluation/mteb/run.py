"""Tasks and benchmarks of mteb, and a user's own tasks: mteb scores them and keeps the results.

Results are in mteb's own cache (``MTEB_CACHE``, by default ``~/.cache/mteb``) in its own format, one file per task, so
that an evaluation that was stopped continues where it was. The same weights are not scored on the same data again; to
do so, point ``MTEB_CACHE`` elsewhere. Intervals come from what each item scored, which is kept beside the results; a
result that mteb itself put there has no interval, and the output says so.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import mteb
import numpy as np
from mteb.abstasks import AbsTask
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.benchmarks.benchmark import BenchmarkAggregation
from mteb.models import ModelMeta, SentenceTransformerEncoderWrapper
from mteb.results import TaskResult
from mteb.types import PromptType

from fmicl_text.encoders.tokens import longest_text
from fmicl_text.errors import InputError
from fmicl_text.evaluation.items import Measured, Parts, average_interval, interval
from fmicl_text.evaluation.kind import Effort, NoScoreError
from fmicl_text.evaluation.metrics import mteb_metric
from fmicl_text.evaluation.mteb.cache import Kept
from fmicl_text.evaluation.mteb.items import NoItemsError, require_items
from fmicl_text.evaluation.mteb.model import IN_TRAINING, LOCAL, wrapped
from fmicl_text.evaluation.mteb.registered import loaded_otherwise
from fmicl_text.evaluation.mteb.selection import Selection
from fmicl_text.evaluation.results import Result
from fmicl_text.evaluation.scored_model import ScoredModel
from fmicl_text.versions import versions


@dataclass(frozen=True)
class MtebResult:
    """The result of :func:`evaluate`.

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


def measure_selection(scored: ScoredModel, effort: Effort, selection: Selection) -> Measured:
    """Have mteb score an encoder; see :func:`evaluate`.

    Raises:
        NoScoreError: No task has a result.
    """
    result = evaluate(
        wrapped(scored), selection, effort.batch_size, effort.show_progress, scored.name, effort.intervals
    )
    if not result.results:
        raise NoScoreError([f"{selection.name}: {task} is missing: {why}" for task, why in result.missing.items()])
    return result.measured()


def evaluate(
    model: SentenceTransformerEncoderWrapper,
    selection: Selection,
    batch_size: int = 128,
    show_progress: bool = False,
    name: str | None = None,
    intervals: bool = True,
) -> MtebResult:
    """Have mteb score a model; a task whose data is missing, or that fails, is reported, and the others are still run.

    Args:
        model: What :func:`fmicl_text.evaluation.mteb.model.load_for_mteb` loaded.
        selection: The tasks.
        batch_size: Texts encoded at a time.
        show_progress: Draw progress bars on standard error.
        name: What to call the model in the result; by default as mteb does.
        intervals: Whether to keep what each item scored, from which intervals follow.
    """
    with result_cache(model.mteb_model_meta) as cache:
        return _evaluate(model, selection, batch_size, show_progress, name, intervals, cache)


@contextmanager
def result_cache(meta: ModelMeta) -> Iterator[mteb.ResultCache]:
    """Yield mteb's cache; a temporary one for a model in training, whose later states must not reuse the results."""
    if meta.revision != IN_TRAINING:
        yield mteb.ResultCache()
        return
    with tempfile.TemporaryDirectory() as folder:
        yield mteb.ResultCache(folder)


def _evaluate(
    model: SentenceTransformerEncoderWrapper,
    selection: Selection,
    batch_size: int,
    show_progress: bool,
    name: str | None,
    intervals: bool,
    cache: mteb.ResultCache,
) -> MtebResult:
    kept = Kept(model.mteb_model_meta, cache)
    run = _Run(model, kept, batch_size, show_progress)
    results: dict[str, TaskResult] = {}
    missing: dict[str, str] = {}
    items: dict[str, Parts] = {}
    no_interval: dict[str, str] = {}
    for task in selection.tasks:
        task_name = task.metadata.name
        if task_name in selection.absent:
            missing[task_name] = selection.absent[task_name]
            continue
        try:
            result = run.result(task)
        except _NoResultError as error:
            missing[task_name] = str(error)
            continue
        if not np.isfinite(result.get_score()):
            missing[task_name] = "failed: its main score is not a number; has the model collapsed?"
            continue
        results[task_name] = result
        if not intervals:
            continue
        try:
            items[task_name] = kept.items(task, result)
        except NoItemsError as error:
            no_interval[task_name] = str(error)
    return MtebResult(
        scored=ScoredModel(
            model.model,
            name or model.mteb_model_meta.name,
            None if model.mteb_model_meta.revision == IN_TRAINING else model.mteb_model_meta.revision,
        ),
        meta=model.mteb_model_meta,
        selection=selection,
        results=results,
        prompts={task.metadata.name: _prompts(model, task) for task in selection.tasks},
        missing=missing,
        items=items,
        no_interval=no_interval,
        max_seq_length=longest_text(model.model),
        precision=str(model.model.dtype).removeprefix("torch."),
        batch_size=batch_size,
    )


def check_submittable(models: Sequence[SentenceTransformerEncoderWrapper], selection: Selection) -> None:
    """Raise an InputError if mteb's results repository cannot take results of these models and tasks."""
    problems = []
    for model in models:
        name = model.mteb_model_meta.name
        if name.startswith(f"{LOCAL}/"):
            problems.append(
                f"{name} is not on the Hub: publish the model, and evaluate it by its id there, to submit results"
            )
        elif otherwise := loaded_otherwise(name, model.model.prompts):
            problems.append(
                f"{name}: mteb evaluates it {otherwise}, and not by its files alone, as here, so that its leaderboard "
                f"cannot take these scores for this model's; to submit it, have mteb run it: mteb run -m {name} -t TASK"
            )
    if selection.data != "Hub":
        problems.append(
            f"the data is that of {selection.data}; only results on the Hub's data, at its revision, can be submitted"
        )
    if problems:
        raise InputError(problems)


def write_submission(result: MtebResult, folder: Path) -> None:
    """Write results as mteb's results repository has them, for ``mteb submit-results --output-folder FOLDER``.

    As mteb's files are of whole tasks, they have every split and subset of these tasks that has been scored.

    Args:
        result: Of a published model on data of the Hub.
        folder: Gets ``results/OWNER__NAME/REVISION/TASK.json`` and mteb's record of the model and the settings.
    """
    kept, submitted = mteb.ResultCache(), mteb.ResultCache(folder)
    for task in result.results:
        whole = kept.load_task_result(task, result.meta, raise_if_not_found=True)
        submitted.save_to_cache(whole, result.meta, encode_kwargs={"batch_size": result.batch_size})


class _NoResultError(Exception):
    """Says why a task has no result."""


@dataclass(frozen=True)
class _Run:
    """One model over many tasks."""

    model: SentenceTransformerEncoderWrapper
    kept: Kept
    batch_size: int
    show_progress: bool

    def result(self, task: AbsTask) -> TaskResult:
        """Return the result of a task, from mteb's cache if it is there.

        Raises:
            _NoResultError: If its data is not there, or it fails.
        """
        cache, meta = self.kept.cache, self.kept.meta
        if isinstance(task, AbsTaskAggregate):
            combined = task.combine_task_results([self._part(part) for part in task.metadata.tasks])
            cache.save_to_cache(combined, meta)
            return combined
        task = copy.deepcopy(task)  # for its random state, and the data that is loaded into it
        # mteb would take a complete result from its cache even if it is of other data; here that is another result.
        fresh = self.kept.result(task) is not None
        predictions = self.kept.predictions(task)
        self.kept.drop_useless_predictions(task)
        if not (task.data_loaded or self.kept.is_finished(task)):
            try:
                task.load_data()
            except Exception as error:  # each of the many ways a data set can be missing, broken or locked
                raise _NoResultError(f"no data: {_explained(error)}") from error
        encode_kwargs = {"batch_size": self.batch_size, "show_progress_bar": self.show_progress}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # mteb logs what it warns of
                mteb.evaluate(
                    self.model,
                    task,
                    cache=cache,
                    overwrite_strategy="only-missing" if fresh else "always",
                    encode_kwargs=encode_kwargs,
                    prediction_folder=predictions.parent if _has_items(task) else None,
                    co2_tracker=False,
                    show_progress_bar=self.show_progress,
                )
        except Exception as error:  # of mteb, the task or the model: the other tasks may still succeed
            raise _NoResultError(f"failed: {_explained(error)}") from error
        self.kept.keep_items(task)
        if self.kept.is_collapsed(task):
            raise _NoResultError("failed: what the model gives is not a number; has it collapsed?")
        return self.kept.selected(task)  # rounded, as a later run reads it

    def _part(self, task: AbsTask) -> TaskResult:
        try:
            return self.result(task)
        except _NoResultError as error:
            raise _NoResultError(f"{task.metadata.name}, a part of it, has no result: {error}") from error


def _has_items(task: AbsTask) -> bool:
    try:
        require_items(task)
    except NoItemsError:
        return False
    return True


def _prompts(model: SentenceTransformerEncoderWrapper, task: AbsTask) -> dict[str, str | None]:
    """Return what is put before a query, a document and any other text of a task."""
    prompts = model.model.prompts  # mteb's copy lacks those whose names it does not know, such as that of a default
    found: dict[str, str | None] = {}
    for kind in (PromptType.query, PromptType.document, None):
        name = model.get_prompt_name(task.metadata, kind) or model.model.default_prompt_name
        found[kind.value if kind else "text"] = prompts.get(name) if name else None
    return found


def _explained(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
