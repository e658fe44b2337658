"""SentEval's transfer tasks: what they are, where their data lies, and how many rows there must be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fmicl_text.data.fingerprints import fingerprint
from fmicl_text.data.formats import read_file
from fmicl_text.data.readers import require_columns
from fmicl_text.errors import InputError
from fmicl_text.evaluation.suites import MissingTask
from fmicl_text.files import user_path
from fmicl_text.hub_errors import explained
from fmicl_text.text import did_you_mean

_SHOWN = 5  # bad rows of one part that are listed


@dataclass(frozen=True)
class HubPart:
    """Splits of a data set on the Hugging Face Hub; ``columns`` are the texts and, last, the label."""

    dataset: str
    splits: tuple[str, ...]
    columns: tuple[str, ...] = ("text", "label")
    config: str | None = None
    revision: str = "main"


@dataclass(frozen=True)
class Part:
    """One part of a task: ``n`` rows, the splits of the task's file that make it up, and the same on the Hub."""

    n: int
    splits: tuple[str, ...]
    hub: HubPart


@dataclass(frozen=True, eq=False)
class TransferTask:
    """One task. The names of its parts decide how it is scored, see :mod:`fmicl_text.evaluation.transfer`.

    Attributes:
        name: As SentEval has it; the file in a data folder is ``transfer/<name in lower case>.parquet``.
        classes: Number of classes; labels are 0 to ``classes - 1``.
        parts: ``all``; ``train`` and ``test``; or ``train``, ``dev`` and ``test``.
        texts: The columns of the file that hold the texts: one, or two for a pair. The label is in ``label``.
    """

    name: str
    classes: int
    parts: dict[str, Part]
    texts: tuple[str, ...] = ("text",)


@dataclass(frozen=True, eq=False)
class Labelled:
    """Rows of one or two texts, ``texts[column][row]``, with their classes ``labels`` ``(n,)``."""

    texts: tuple[list[str], ...]
    labels: np.ndarray

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What they are known by, classes included."""
        columns = [*(f"text {number}" for number in range(1, len(self.texts) + 1)), "label"]
        return fingerprint(columns, zip(*self.texts, self.labels.tolist(), strict=True))


# Revisions are given where they are known; row counts are checked everywhere.
_ROTTEN_TOMATOES = HubPart(
    "cornell-movie-review-data/rotten_tomatoes",
    ("train", "validation", "test"),
    revision="aa13bc287fa6fcab6daf52f0dfb9994269ffea28",
)
_sst2 = partial(
    HubPart,
    "stanfordnlp/sst2",
    columns=("sentence", "label"),
    revision="8d51e7e4887a4caaa95b3fbebbf53c0490b58bbb",
)
_mrpc = partial(
    HubPart,
    "nyu-mll/glue",
    columns=("sentence1", "sentence2", "label"),
    config="mrpc",
    revision="bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c",
)
_trec = partial(HubPart, "SetFit/TREC-QC", columns=("text", "label_coarse"))
_senteval = partial(HubPart, splits=("train", "test"), columns=("sentence", "label"))


def _whole(n: int, hub: HubPart) -> dict[str, Part]:
    return {"all": Part(n, ("all",), hub)}


_LIST = (
    TransferTask("MR", 2, _whole(10_662, _ROTTEN_TOMATOES)),
    TransferTask("CR", 2, _whole(3_775, _senteval("rahulsikder223/SentEval-CR"))),
    TransferTask("SUBJ", 2, _whole(10_000, HubPart("SetFit/subj", ("train", "test")))),
    TransferTask("MPQA", 2, _whole(10_606, _senteval("rahulsikder223/SentEval-MPQA"))),
    TransferTask(
        "SST2",
        2,
        {
            "train": Part(67_349, ("train",), _sst2(("train",))),  # with the phrases of its sentences
            "dev": Part(872, ("dev",), _sst2(("validation",))),
            "test": Part(1_821, ("test",), HubPart("SetFit/sst2", ("test",))),  # GLUE's copy hides these labels
        },
    ),
    TransferTask(
        "TREC",
        6,
        {
            "train": Part(5_452, ("train",), _trec(("train",))),
            "test": Part(500, ("test",), _trec(("test",))),
        },
    ),
    TransferTask(
        "MRPC",
        2,
        {
            "train": Part(4_076, ("train", "dev"), _mrpc(("train", "validation"))),
            "test": Part(1_725, ("test",), _mrpc(("test",))),
        },
        texts=("sentence1", "sentence2"),
    ),
)
TASKS = {task.name: task for task in _LIST}
"""The seven tasks by name, in the order of SimCSE's tables."""


def choose_tasks(names: Sequence[str]) -> list[TransferTask]:
    """Return the tasks of these names, each once; upper and lower case are the same.

    Raises:
        InputError: A name is unknown.
    """
    unknown = [name for name in names if name.upper() not in TASKS]
    if unknown:
        raise InputError(
            [f'no transfer task "{n}"{did_you_mean(n.upper(), TASKS)}; there are {", ".join(TASKS)}' for n in unknown]
        )
    return [TASKS[name] for name in dict.fromkeys(name.upper() for name in names)]


def tested(parts: Mapping[str, Labelled]) -> Labelled:
    """Return the rows of a task that are scored."""
    return parts["all" if "all" in parts else "test"]


def tested_texts(tasks: Mapping[str, Mapping[str, Labelled]]) -> Iterator[tuple[str, ...]]:
    """Yield the texts of each row of some tasks that is scored."""
    for parts in tasks.values():
        yield from zip(*tested(parts).texts, strict=True)


def load_tasks(
    tasks: Sequence[TransferTask], data: str | None = None
) -> tuple[dict[str, dict[str, Labelled]], dict[str, str]]:
    """Load every task that ``data`` holds; see :func:`load_task` for the arguments.

    Returns:
        Task -> part -> rows, and task -> why it is missing.

    Raises:
        InputError: Data that is there is wrong (the problems of all tasks at once), or every task is missing.
    """
    loaded: dict[str, dict[str, Labelled]] = {}
    missing: dict[str, str] = {}
    problems: list[str] = []
    for task in tasks:
        try:
            loaded[task.name] = load_task(task, data)
        except MissingTask as error:
            missing[task.name] = str(error)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    if not loaded:
        reasons = [f"{task}: {reason}" for task, reason in missing.items()]
        raise InputError([*reasons, "no transfer task has data: name a folder that holds them by --data DIR"])
    return loaded, missing


def load_task(task: TransferTask, data: str | None = None) -> dict[str, Labelled]:
    """Load the parts of one task, the rows of each by number of words, then class.

    It is in this order that SentEval draws its folds. A text may be empty: in CR and MPQA some are.

    Args:
        task: What to load.
        data: None for the Hugging Face Hub, or a folder with ``transfer/*.parquet``.

    Raises:
        MissingTask: The folder does not hold this task, or the Hub cannot be reached.
        InputError: The data is there and wrong: no text, no class of this task, another count than SentEval has.
    """
    parts = {}
    problems: list[str] = []
    for name, part in task.parts.items():
        where, rows = _from_hub(part.hub) if data is None else _from_file(task, part, user_path(data))
        try:
            parts[name] = _checked(task, part, where, rows)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return parts


Numbered = Iterable[tuple[int, Sequence[Any]]]
"""Rows with their numbers; a row is the texts and, last, the label."""


def _from_hub(hub: HubPart) -> tuple[str, Numbered]:
    from datasets import load_dataset

    where = f"{hub.dataset} ({' + '.join(hub.splits)}) on the Hub"
    with explained(where, hub.dataset, "data set", hub.revision, MissingTask):
        rows = load_dataset(hub.dataset, hub.config, revision=hub.revision, split="+".join(hub.splits))
    require_columns(hub.columns, rows.column_names, where)
    return where, enumerate(zip(*(rows[column] for column in hub.columns), strict=True), 1)


def _from_file(task: TransferTask, part: Part, folder: Path) -> tuple[str, Numbered]:
    if not folder.is_dir():
        raise InputError(f"no such data folder: {folder}")
    path = folder / "transfer" / f"{task.name.lower()}.parquet"
    if not path.exists():
        raise MissingTask(f"no file {path}")
    wanted = ("split", *task.texts, "label")
    columns, numbers, _ = read_file(path, wanted)
    rows = zip(numbers, *(columns[name] for name in wanted), strict=True)
    where = f"{path} ({' + '.join(part.splits)})"
    return where, ((number, row) for number, split, *row in rows if split in part.splits)


def _checked(task: TransferTask, part: Part, where: str, rows: Numbered) -> Labelled:
    """Gather the numbered rows in SentEval's order; all must be sound, and as many as it has, of every class."""
    kept: list[Sequence[Any]] = []
    problems: list[str] = []
    for number, row in rows:
        *texts, label = row
        if not all(isinstance(text, str) for text in texts):
            problems.append(f"{where}: row {number}: must be text, found {' and '.join(f'{t!r:.60}' for t in texts)}")
        elif type(label) is not int or not 0 <= label < task.classes:
            problems.append(f"{where}: row {number}: the label must be 0 to {task.classes - 1}, found {label!r}")
        else:
            kept.append(row)
    if problems:
        more = len(problems) - _SHOWN
        raise InputError(problems[:_SHOWN] + [f"{where}: and {more:,} more such rows"] * (more > 0))
    if len(kept) != part.n:
        raise InputError(
            f"{where}: {len(kept):,} rows, but {task.name} has {part.n:,} in SentEval: "
            "another copy or split of the data would give another figure"
        )
    kept.sort(key=lambda row: [len(text.split()) for text in row[:-1]] + [row[-1]])
    *texts, labels = (list(column) for column in zip(*kept, strict=True))
    absent = sorted(set(range(task.classes)) - set(labels))
    if absent:
        raise InputError(f"{where}: no row has the label {' or '.join(map(str, absent))}")
    return Labelled(tuple(texts), np.array(labels))
