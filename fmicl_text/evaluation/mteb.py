"""Tasks and benchmarks of mteb, and a user's own tasks in its way: mteb scores them and keeps the results.

Results lie in mteb's own cache (``MTEB_CACHE``, by default ``~/.cache/mteb``) in its own format, a file a task, so that
an evaluation that was stopped goes on where it was. What was scored once, the same weights on the same data, is not
scored again; to do so, point ``MTEB_CACHE`` elsewhere.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mteb
import numpy as np
from mteb.abstasks import AbsTask
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.benchmarks.benchmark import Benchmark, BenchmarkAggregation
from mteb.models import ModelMeta, SentenceTransformerEncoderWrapper
from mteb.results import TaskResult
from mteb.types import PromptType

from fmicl_text.errors import InputError
from fmicl_text.evaluation.local_revision import folder_revision
from fmicl_text.evaluation.mteb_model import LOCAL
from fmicl_text.evaluation.mteb_plan import Load, Speed, joint_load, task_load
from fmicl_text.evaluation.own_suite import load_own_suite
from fmicl_text.evaluation.own_tasks import is_public, own_tasks
from fmicl_text.hints import did_you_mean
from fmicl_text.run import versions


@dataclass(frozen=True)
class Selection:
    """Tasks to evaluate on.

    Attributes:
        name: Of the benchmark or suite; ``mteb`` for tasks picked by name.
        tasks: The tasks, none of them loaded but the user's own.
        data: Where the data comes from: ``Hub``, or a folder.
        absent: Task -> why its data is known not to be there.
        benchmark: The benchmark they make up, if any.
    """

    name: str
    tasks: tuple[AbsTask, ...]
    data: str
    absent: dict[str, str]
    benchmark: Benchmark | None = None


@dataclass(frozen=True)
class PlannedTask:
    """What one task will take.

    Attributes:
        name: Of the task.
        load: What it holds; None if unknown.
        minutes: Expected minutes of encoding; None if unknown, 0 if the result is there.
        finished: Whether mteb's cache has its result for this model and data.
    """

    name: str
    load: Load | None
    minutes: float | None
    finished: bool


@dataclass(frozen=True)
class MtebResult:
    """What :func:`evaluate` found.

    Attributes:
        model: What the user called the model.
        meta: What mteb calls it, and more.
        selection: What it was evaluated on.
        results: Task -> mteb's result.
        prompts: Task -> what goes before a ``query``, a ``document`` and any other ``text``; None for nothing.
        missing: Task -> why it has no result.
        max_seq_length: Tokens after which the model cuts a text; None if it never does.
        precision: Type of the model's weights, such as ``float32``.
        batch_size: Texts encoded at a time.
    """

    model: str
    meta: ModelMeta
    selection: Selection
    results: dict[str, TaskResult]
    prompts: dict[str, dict[str, str | None]]
    missing: dict[str, str]
    max_seq_length: int | None
    precision: str
    batch_size: int

    def main_score(self, task: str) -> float:
        """Return mteb's main score of a task: the mean over its splits and subsets, from 0 to 1."""
        return float(self.results[task].get_score())

    @property
    def average(self) -> float | None:
        """Mean of the main scores; None if any task is missing, since the rest is not comparable with any other."""
        return None if self.missing else float(np.mean([self.main_score(task) for task in self.results]))

    @property
    def benchmark_scores(self) -> dict[str, float | None]:
        """The benchmark's own means, such as by type of task; empty if it is none or tasks are missing."""
        if self.selection.benchmark is None or self.missing:
            return {}
        means: dict[str, float | None] = {}
        for aggregation in self.selection.benchmark.aggregations:
            if isinstance(aggregation, BenchmarkAggregation):
                means |= aggregation.aggregate(list(self.results.values()))
        return means

    def document(self) -> dict[str, Any]:
        """Return the result as plain values, ready for JSON; scores are mteb's, from 0 to 1."""
        tasks = {task.metadata.name: task for task in self.selection.tasks}
        return {
            "model": self.model,
            "suite": self.selection.name,
            "protocol": f"mteb {version('mteb')}: main score of each task",
            "tasks": {
                name: {
                    "main_score": self.main_score(name),
                    "metric": tasks[name].metadata.main_score,
                    "type": tasks[name].metadata.type,
                    "splits": result.eval_splits,
                    "subsets": sorted(result.hf_subsets),
                    "dataset": tasks[name].metadata.dataset["path"],
                    "dataset_revision": result.dataset_revision,
                    "mteb_version": result.mteb_version,
                    "prompts": self.prompts[name],
                    "seconds": result.evaluation_time,
                }
                for name, result in self.results.items()
            },
            "average": self.average,
            "benchmark_scores": self.benchmark_scores,
            "missing": list(self.missing),
            "missing_reasons": self.missing,
            "data": self.selection.data,
            "mteb_name": self.meta.name,
            "mteb_revision": self.meta.revision,
            "max_seq_length": self.max_seq_length,
            "precision": self.precision,
            "batch_size": self.batch_size,
            "versions": versions() | {"mteb": version("mteb")},
        }


def select_tasks(names: Sequence[str], data: Path | None = None) -> Selection:
    """Select public tasks by name; see :func:`select_benchmark`."""
    unknown = [name for name in names if not is_public(name)]
    if unknown:
        known = [task.metadata.name for task in mteb.get_tasks(exclude_superseded=False, exclude_private=False)]
        raise InputError([f'mteb has no task "{name}"{did_you_mean(name, known)}' for name in unknown])
    return _selection("mteb", [mteb.get_task(name) for name in dict.fromkeys(names)], data)


def select_benchmark(name: str, data: Path | None = None) -> Selection:
    """Select the tasks of a public benchmark.

    Args:
        name: As mteb calls it, such as ``MTEB(eng, v2)``.
        data: Where the data is: None for the Hub, or a folder in which ``OWNER/NAME/`` holds the files of the data set
            ``OWNER/NAME`` as the Hub has them.

    Raises:
        InputError: No such benchmark or folder.
    """
    try:
        benchmark = mteb.get_benchmark(name)
    except KeyError:
        known = [benchmark.name for benchmark in mteb.get_benchmarks()]
        raise InputError(f'mteb has no benchmark "{name}"{did_you_mean(name, known)}') from None
    return _selection(benchmark.name, list(benchmark.tasks), data, benchmark)


def select_suite(path: Path) -> Selection:
    """Select a user's own tasks, described in a YAML file.

    Raises:
        InputError: The file breaks the schema, or what it names is missing or wrong; every problem at once.
    """
    suite = load_own_suite(path)
    return Selection(suite.name, tuple(own_tasks(suite, path.parent)), data=str(path.parent), absent={})


def plan(model: SentenceTransformerEncoderWrapper, selection: Selection, batch_size: int = 128) -> list[PlannedTask]:
    """Say what each task will take, after timing the model for a few seconds; arguments as :func:`evaluate`.

    No public data is loaded for it: mteb publishes how much text each of its tasks holds.
    """
    cache = mteb.ResultCache()
    speed = None
    planned = []
    for task in selection.tasks:
        leaves = _leaves(task)
        load = joint_load([task_load(leaf) for leaf in leaves])
        finished = all(_finished(leaf, model.mteb_model_meta, cache) for leaf in leaves)
        minutes = 0.0 if finished else None
        if load is not None and not finished and task.metadata.name not in selection.absent:
            speed = speed or Speed(model.model, batch_size)
            minutes = speed.minutes(load)
        planned.append(PlannedTask(task.metadata.name, load, minutes, finished))
    return planned


def evaluate(
    model: SentenceTransformerEncoderWrapper,
    selection: Selection,
    batch_size: int = 128,
    show_progress: bool = False,
    name: str | None = None,
) -> MtebResult:
    """Have mteb score a model; a task whose data is not there, or that fails, is reported and the others go on.

    Args:
        model: What :func:`fmicl_text.evaluation.mteb_model.load_for_mteb` loaded.
        selection: The tasks.
        batch_size: Texts encoded at a time.
        show_progress: Draw progress bars on standard error.
        name: What to call the model in the result; by default as mteb does.
    """
    run = _Run(model, batch_size, show_progress)
    results: dict[str, TaskResult] = {}
    missing: dict[str, str] = {}
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
        if np.isfinite(result.get_score()):
            results[task_name] = result
        else:
            missing[task_name] = "failed: its main score is not a number; has the model collapsed?"
    return MtebResult(
        model=name or model.mteb_model_meta.name,
        meta=model.mteb_model_meta,
        selection=selection,
        results=results,
        prompts={task.metadata.name: _prompts(model, task) for task in selection.tasks},
        missing=missing,
        max_seq_length=model.model.max_seq_length,
        precision=str(model.model.dtype).removeprefix("torch."),
        batch_size=batch_size,
    )


def check_submittable(models: Sequence[SentenceTransformerEncoderWrapper], selection: Selection) -> None:
    """Raise an InputError if mteb's results repository cannot take results of these models and tasks."""
    names = [model.mteb_model_meta.name for model in models]
    problems = [
        f"{name} is not on the Hub: publish the model, and evaluate it by its id there, to submit results"
        for name in names
        if name.startswith(f"{LOCAL}/")
    ]
    if selection.data != "Hub":
        problems.append(
            f"the data is that of {selection.data}; submitted are results on the Hub's own, at its revision"
        )
    if problems:
        raise InputError(problems)


def write_submission(result: MtebResult, folder: Path) -> None:
    """Write results as mteb's results repository has them, for ``mteb submit-results --output-folder FOLDER``.

    Args:
        result: Of a published model on data of the Hub.
        folder: Gets ``results/OWNER__NAME/REVISION/TASK.json`` and mteb's record of the model and the settings.
    """
    cache = mteb.ResultCache(folder)
    for task_result in result.results.values():
        cache.save_to_cache(task_result, result.meta, encode_kwargs={"batch_size": result.batch_size})


class _NoResultError(Exception):
    """Says why a task has no result."""


@dataclass(frozen=True)
class _Run:
    """One model over many tasks."""

    model: SentenceTransformerEncoderWrapper
    batch_size: int
    show_progress: bool

    def result(self, task: AbsTask) -> TaskResult:
        """Return the result of a task, from mteb's cache if it is there.

        Raises:
            _NoResultError: If its data is not there, or it fails.
        """
        cache, meta = mteb.ResultCache(), self.model.mteb_model_meta
        if isinstance(task, AbsTaskAggregate):
            combined = task.combine_task_results([self._part(part) for part in task.metadata.tasks])
            cache.save_to_cache(combined, meta)
            return combined
        task = copy.deepcopy(task)  # its state of random draws, and the data that is loaded into it
        # mteb takes a whole result from its cache though it be of other data; here that is another result.
        fresh = _cached(task, meta, cache) is not None
        if not (task.data_loaded or (fresh and _finished(task, meta, cache))):
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
                    co2_tracker=False,
                    show_progress_bar=self.show_progress,
                )
        except Exception as error:  # of mteb, the task or the model: the other tasks may still succeed
            raise _NoResultError(f"failed: {_explained(error)}") from error
        return cache.load_task_result(
            task.metadata.name, meta, raise_if_not_found=True
        )  # rounded, as a later run reads it

    def _part(self, task: AbsTask) -> TaskResult:
        try:
            return self.result(task)
        except _NoResultError as error:
            raise _NoResultError(f"{task.metadata.name}, a part of it, has no result: {error}") from error


def _selection(name: str, tasks: list[AbsTask], data: Path | None, benchmark: Benchmark | None = None) -> Selection:
    if data is None:
        return Selection(name, tuple(tasks), "Hub", {}, benchmark)
    if not data.is_dir():
        raise InputError(f"no such data folder: {data}")
    placed, absent = [], {}
    for task in tasks:
        try:
            placed.append(_placed(task, data))
        except FileNotFoundError as error:
            placed.append(task)
            absent[task.metadata.name] = str(error)
    return Selection(name, tuple(placed), str(data), absent, benchmark)


def _placed(task: AbsTask, data: Path) -> AbsTask:
    """Return a copy of a task that reads its data set from a folder.

    Raises:
        FileNotFoundError: If the folder has no files of that data set.
    """
    task = copy.copy(task)  # mteb shares some of its tasks, and their metadata
    if isinstance(task, AbsTaskAggregate):
        task.metadata = task.metadata.model_copy(
            update={"tasks": [_placed(leaf, data) for leaf in task.metadata.tasks]}
        )
        return task
    source = task.metadata.dataset
    folder = data / source["path"]
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no data: no folder {folder}; where there is a network, get it by hf download {source['path']} "
            f"--repo-type dataset --revision {source['revision']} --local-dir {folder}"
        )
    local = {"path": str(folder), "revision": folder_revision(folder)}
    task.metadata = task.metadata.model_copy(update={"dataset": {**source, **local}})
    return task


def _leaves(task: AbsTask) -> list[AbsTask]:
    """Return the tasks that a task is the mean of, or the task itself."""
    if isinstance(task, AbsTaskAggregate):
        return [leaf for part in task.metadata.tasks for leaf in _leaves(part)]
    return [task]


def _cached(task: AbsTask, meta: ModelMeta, cache: mteb.ResultCache) -> TaskResult | None:
    """Return the result, perhaps of some splits, that the cache has of this task on this very data."""
    result = cache.load_task_result(task.metadata.name, meta)
    return result if result is not None and result.dataset_revision == task.metadata.revision else None


def _finished(task: AbsTask, meta: ModelMeta, cache: mteb.ResultCache) -> bool:
    result = _cached(task, meta, cache)
    return result is not None and not result.get_missing_evaluations(task)


def _prompts(model: SentenceTransformerEncoderWrapper, task: AbsTask) -> dict[str, str | None]:
    """Return what goes before a query, a document and any other text of a task."""
    prompts = model.model_prompts or {}
    found: dict[str, str | None] = {}
    for kind in (PromptType.query, PromptType.document, None):
        name = model.get_prompt_name(task.metadata, kind) or model.model.default_prompt_name
        found[kind.value if kind else "text"] = prompts.get(name) if name else None
    return found


def _explained(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
