"""Which tasks of mteb, or of the user's own, are evaluated, and where their data comes from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mteb
import mteb.tasks
from mteb.abstasks import AbsTask
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.benchmarks.benchmark import Benchmark

from fmicl_text.encoders.revisions import folder_revision
from fmicl_text.errors import InputError
from fmicl_text.evaluation.mteb.own_suite import load_own_suite
from fmicl_text.evaluation.mteb.own_tasks import RETRIEVAL_RULES, is_public, own_tasks
from fmicl_text.text import did_you_mean


@dataclass(frozen=True)
class Selection:
    """Tasks to evaluate on.

    Attributes:
        name: Of the benchmark or suite; ``mteb`` for tasks picked by name.
        tasks: The tasks, none of them loaded but the user's own.
        data: Where the data comes from: ``Hub``, or a folder.
        absent: Task -> why its data is known to be missing.
        benchmark: The benchmark they make up, if any.
        rules: What else a reader must know to compare the scores, in words that follow on the protocol.
    """

    name: str
    tasks: tuple[AbsTask, ...]
    data: str
    absent: dict[str, str]
    benchmark: Benchmark | None = None
    rules: str = ""


def select_tasks(names: Sequence[str], data: Path | None = None) -> Selection:
    """Select public tasks by name; see :func:`select_benchmark`."""
    unknown = [name for name in names if not is_public(name)]
    if unknown:
        classes: list[Any] = [value for value in vars(mteb.tasks).values() if isinstance(value, type)]
        known = [task.metadata.name for task in classes if issubclass(task, AbsTask)]  # none of the 2,000 is made
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
    tasks = tuple(own_tasks(suite, path.parent))
    rules = RETRIEVAL_RULES if any(task.type == "retrieval" for task in suite.tasks) else ""
    return Selection(suite.name, tasks, data=str(path.parent), absent={}, rules=rules)


def leaves(task: AbsTask) -> list[AbsTask]:
    """Return the tasks that a task is the mean of, or the task itself."""
    if isinstance(task, AbsTaskAggregate):
        return [leaf for part in task.metadata.tasks for leaf in leaves(part)]
    return [task]


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
