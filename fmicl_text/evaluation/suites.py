"""Suites of STS tasks: which pairs are scored, where they come from, and how many there must be."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict, PositiveInt, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from fmicl_text.data.fingerprints import fingerprint
from fmicl_text.data.formats import read_file
from fmicl_text.data.readers import require_columns
from fmicl_text.data.yaml_tree import Tree
from fmicl_text.errors import InputError
from fmicl_text.files import resource_folder, user_path
from fmicl_text.hub_errors import explained
from fmicl_text.text import did_you_mean

_COLUMNS = ("sentence1", "sentence2", "score")
_SHOWN = 5  # bad rows of one file that are listed
_STRICT = ConfigDict(extra="forbid")


@checked_dataclass(frozen=True, config=_STRICT)
class HubSource:
    """A data set on the Hugging Face Hub; ``columns`` are the two sentences and the gold score."""

    dataset: str
    revision: str
    split: str
    columns: tuple[str, str, str] = _COLUMNS


@checked_dataclass(frozen=True, config=_STRICT)
class FileSource:
    """A Parquet file in the data folder: columns ``split``, ``sentence1``, ``sentence2``, ``score``."""

    path: str
    splits: tuple[str, ...]


@checked_dataclass(frozen=True, config=_STRICT)
class SampleSource:
    """A split of a sample that an installed package contains."""

    name: Literal["stsb"]
    split: Literal["train", "dev", "test"]


@checked_dataclass(frozen=True, config=_STRICT)
class Task:
    """One task: ``n`` pairs, and each source that has them."""

    name: str
    n: PositiveInt
    hub: HubSource | None = None
    file: FileSource | None = None
    sample: SampleSource | None = None


@checked_dataclass(frozen=True, config=_STRICT)
class Suite:
    """Tasks scored together. ``protocol`` says in words exactly what is scored."""

    name: str
    protocol: str
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Pairs:
    """Sentence pairs with gold scores ``(n,)``: the higher, the more alike."""

    sentences1: list[str]
    sentences2: list[str]
    scores: np.ndarray

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield the two sentences of each pair."""
        return zip(self.sentences1, self.sentences2, strict=True)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What they are known by, scores included."""
        rows = zip(self.sentences1, self.sentences2, self.scores.tolist(), strict=True)
        return fingerprint(list(_COLUMNS), rows)


class MissingTask(InputError):
    """The source that was asked for does not contain a task."""


def load_suite(name: str) -> Suite:
    """Read a shipped suite by name, or the user's own from the path of a YAML file.

    Raises:
        InputError: No such suite; or the file breaks the schema (all problems at once).
    """
    folder = resource_folder("suites")
    path = user_path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not os.path.isfile(path):
        shipped = sorted(file.stem for file in folder.glob("*.yaml"))
        raise InputError(
            f'no suite "{name}"{did_you_mean(name, shipped)}; '
            f"there are {', '.join(shipped)}, or give the path of a YAML file"
        )
    tree = Tree(path)
    if tree.problems:
        raise InputError([f"{place.text}: {problem}" for place, problem in tree.problems])
    try:
        suite = TypeAdapter(Suite).validate_python(tree.value)
    except ValidationError as error:
        raise InputError([f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]) from error
    names = [task.name for task in suite.tasks]
    if not names or len(set(names)) < len(names):
        raise InputError(f"{path}: tasks: must be one or more, each with a name of its own; found {names}")
    return suite


def load_pairs(suite: Suite, data: str | None = None) -> tuple[dict[str, Pairs], dict[str, str]]:
    """Load every task of ``suite`` that ``data`` holds; see :func:`load_task` for the arguments.

    Returns:
        Task -> pairs, and task -> why it is missing.

    Raises:
        InputError: Data that is there is wrong (the problems of all tasks at once), or every task is missing.
    """
    pairs: dict[str, Pairs] = {}
    missing: dict[str, str] = {}
    problems: list[str] = []
    for task in suite.tasks:
        try:
            pairs[task.name] = load_task(task, data)
        except MissingTask as error:
            missing[task.name] = str(error)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(list(dict.fromkeys(problems)))
    if not pairs:
        reasons = [f"{task}: {reason}" for task, reason in missing.items()]
        where = "name a folder that holds it by --data DIR, or by evaluate.data in a recipe"
        raise InputError([*reasons, f"no task of {suite.name} has data: {where}"])
    return pairs, missing


def load_task(task: Task, data: str | None = None) -> Pairs:
    """Load the pairs of one task. Pairs without a gold score are left out, as in SentEval.

    Args:
        task: What to load.
        data: None for the Hugging Face Hub, ``sample:stsb`` for the sample package, or a folder of Parquet files.

    Raises:
        MissingTask: The source does not hold this task, or the Hub cannot be reached.
        InputError: The data is there and wrong: not text, no number, another count than the protocol has.
    """
    if data is None:
        return _from_hub(task)
    if data.startswith("sample:"):
        return _from_sample(task, data)
    return _from_file(task, user_path(data))


def stsb_pairs(split: Literal["dev", "test"], data: str | None = None) -> Pairs:
    """Load STS-B ``dev`` (1,500 pairs) or ``test`` (1,379); ``data`` and errors as :func:`load_task`."""
    return load_task(load_suite({"dev": "stsb-dev", "test": "stsb"}[split]).tasks[0], data)


def _from_hub(task: Task) -> Pairs:
    from datasets import load_dataset

    if task.hub is None:
        raise MissingTask("its suite names no data set on the Hub")
    hub = task.hub
    where = f"{hub.dataset} ({hub.split}) on the Hub"
    with explained(where, hub.dataset, "data set", hub.revision, MissingTask):
        rows = load_dataset(hub.dataset, revision=hub.revision, split=hub.split)
    require_columns(hub.columns, rows.column_names, where)
    return _checked(task, where, enumerate(zip(*(rows[column] for column in hub.columns), strict=True), 1))


def _from_sample(task: Task, data: str) -> Pairs:
    from fmicl_text.data.samples import stsb_rows

    if data != "sample:stsb":
        raise InputError(f"no STS data in {data!r}: the sample that has some is sample:stsb")
    if task.sample is None:
        raise MissingTask(f"not in {data}")
    rows = [(row["sentence1"], row["sentence2"], row["score"]) for row in stsb_rows(task.sample.split)]
    return _checked(task, f"{data} ({task.sample.split})", enumerate(rows, 1))


def _from_file(task: Task, folder: Path) -> Pairs:
    if not folder.is_dir():
        raise InputError(f"no such data folder: {folder}")
    if task.file is None:
        raise MissingTask("its suite names no file")
    path, splits = folder / task.file.path, task.file.splits
    if not path.exists():
        raise MissingTask(f"no file {path}")
    columns, numbers, _ = read_file(path, ("split", *_COLUMNS))
    rows = zip(numbers, *(columns[name] for name in ("split", *_COLUMNS)), strict=True)
    of_splits = ((number, row) for number, split, *row in rows if split in splits)
    return _checked(task, f"{path} ({' + '.join(splits)})", of_splits)


def _checked(task: Task, where: str, rows: Iterable[tuple[int, Sequence[Any]]]) -> Pairs:
    """Gather the numbered rows that have a gold score; all must be valid, and as many as the protocol has."""
    kept: list[tuple[str, str, float]] = []
    problems: list[str] = []
    for number, (first, second, score) in rows:
        if score is None or score == "" or score != score:  # the last: NaN
            continue
        if not all(isinstance(text, str) and text.strip() for text in (first, second)):
            problems.append(f"{where}: row {number}: sentences must be text, found {first!r:.60} and {second!r:.60}")
        elif not (isinstance(score, int | float) and math.isfinite(score)):
            problems.append(f"{where}: row {number}: the gold score must be a number, found {score!r}")
        else:
            kept.append((first, second, float(score)))
    if problems:
        more = len(problems) - _SHOWN
        raise InputError(problems[:_SHOWN] + [f"{where}: and {more:,} more such rows"] * (more > 0))
    if len(kept) != task.n:
        raise InputError(
            f"{where}: {len(kept):,} pairs with a gold score, but {task.name} has {task.n:,}: "
            "another copy or split of the data would give another figure"
        )
    firsts, seconds, scores = zip(*kept, strict=True)
    if len(set(scores)) == 1:
        raise InputError(f"{where}: every pair has the gold score {scores[0]:g}, there is nothing to rank")
    return Pairs(list(firsts), list(seconds), np.array(scores))
