"""What an evaluation with mteb will take: how much text each task holds, and how long the model needs for it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mteb
import numpy as np
from mteb.abstasks import AbsTask, AbsTaskClassification, AbsTaskRetrieval
from mteb.models import SentenceTransformerEncoderWrapper

from fmicl_text.evaluation.mteb.cache import Kept
from fmicl_text.evaluation.mteb.selection import Selection, leaves

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_LENGTHS = (30, 120, 480, 1920)  # characters of the texts a model is timed on
_TIMED = 4000  # characters of each of these lengths
_CHARACTERS_PER_TOKEN = 5  # of English, generously
_PASSAGE = (
    "The river rises in the hills above the old town and runs for ninety miles to the sea. In spring, when the snow "
    "melts, it floods the meadows on both banks, and for a few weeks the road to the harbour is closed. "
)
_TEXT_COLUMNS = {"sentence1", "sentence2", "text", "sentences"}
"""Columns of texts of the user's own tasks, the only ones that are in memory."""
_PAIRS = ("STS", "PairClassification", "BitextMining")


@dataclass(frozen=True)
class Texts:
    """``count`` texts of ``characters`` on average, which a task has the model encode."""

    count: float
    characters: float


@dataclass(frozen=True)
class Load:
    """What a task holds.

    Attributes:
        size: Its size in words, such as ``1,379 pairs``.
        texts: What is encoded.
    """

    size: str
    texts: tuple[Texts, ...]


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


class Speed:
    """How long a model takes for a text, from encoding a few pages of English.

    Args:
        model: The encoder.
        batch_size: Texts encoded at a time.
    """

    def __init__(self, model: SentenceTransformer, batch_size: int) -> None:
        self._longest = _CHARACTERS_PER_TOKEN * (model.max_seq_length or np.inf)
        page = _PASSAGE * (1 + _LENGTHS[-1] // len(_PASSAGE))
        model.encode([page], show_progress_bar=False)  # the first call includes setting up
        self._seconds = []
        for length in _LENGTHS:
            texts = [page[:length]] * max(1, min(batch_size, _TIMED // length))
            start = time.perf_counter()
            model.encode(texts, batch_size=batch_size, show_progress_bar=False)
            self._seconds.append((time.perf_counter() - start) / len(texts))

    def minutes(self, load: Load) -> float:
        """Return the expected minutes to encode what a task holds; scoring it is not counted."""
        return sum(texts.count * self._of_one(texts.characters) for texts in load.texts) / 60

    def _of_one(self, characters: float) -> float:
        characters = min(characters, self._longest)
        beyond = max(1.0, characters / _LENGTHS[-1])
        return beyond * float(np.interp(characters, _LENGTHS, self._seconds))


def plan(model: SentenceTransformerEncoderWrapper, selection: Selection, batch_size: int = 128) -> list[PlannedTask]:
    """Estimate what each task will take, after timing the model for a few seconds.

    Arguments are those of :func:`fmicl_text.evaluation.mteb.run.evaluate`. No public data is loaded for it: mteb
    publishes how much text each of its tasks holds.
    """
    kept = Kept(model.mteb_model_meta, mteb.ResultCache())
    speed = None
    planned = []
    for task in selection.tasks:
        parts = leaves(task)
        load = joint_load([task_load(part) for part in parts])
        finished = all(kept.is_finished(part) for part in parts)
        minutes = 0.0 if finished else None
        if load is not None and not finished and task.metadata.name not in selection.absent:
            speed = speed or Speed(model.model, batch_size)
            minutes = speed.minutes(load)
        planned.append(PlannedTask(task.metadata.name, load, minutes, finished))
    return planned


def task_load(task: AbsTask) -> Load | None:
    """Return what a task holds: counted if its data is in memory, else from what mteb publishes; None if unknown."""
    splits = {split: _counted(task, split) for split in _splits(task)} if task.data_loaded else _published(task)
    if splits is None or not set(task.eval_splits) <= splits.keys():
        return None
    evaluated = [part for split in task.eval_splits for part in _parts(task, splits[split])]
    texts = [texts for part in evaluated for texts in _texts(part, _encoded_share(task, part))]
    if isinstance(task, AbsTaskClassification) and task.train_split in splits:
        for part in _parts(task, splits[task.train_split]):
            classes = part["label_statistics"]["unique_labels"]
            drawn = task.samples_per_label * classes * task.n_experiments
            texts += _texts(part, min(1.0, drawn / part["num_samples"]))
    return Load(_size(task, evaluated), tuple(texts)) if texts else None


def _published(task: AbsTask) -> dict[str, Any] | None:
    return task.metadata.descriptive_stats


def _counted(task: AbsTask, split: str) -> dict[str, Any]:
    """Count a split of a task in memory, in the form in which mteb publishes its counts.

    mteb's own method for that writes its counts into the installed package.
    """
    if isinstance(task, AbsTaskRetrieval):
        data = task.dataset["default"][split]
        return {
            "num_documents": len(data["corpus"]),
            "num_queries": len(data["queries"]),
            "documents_text_statistics": _lengths(data["corpus"]["text"]),
            "queries_text_statistics": _lengths(data["queries"]["text"]),
        }
    rows = task.dataset[split]
    counts: dict[str, Any] = {"num_samples": len(rows)}
    for column in _TEXT_COLUMNS.intersection(rows.column_names):
        counts[f"{column}_statistics"] = _lengths(rows[column])
    if isinstance(task, AbsTaskClassification):
        counts["label_statistics"] = {"unique_labels": len(set(rows["label"]))}
    return counts


def _lengths(texts: Iterable[str]) -> dict[str, float]:
    lengths = [len(text) for text in texts]
    return {"total_text_length": sum(lengths), "average_text_length": sum(lengths) / len(lengths)}


def joint_load(loads: list[Load | None]) -> Load | None:
    """Return what one or several tasks hold together; None if any of them is unknown."""
    known = [load for load in loads if load is not None]
    if len(known) < len(loads):
        return None
    if len(known) == 1:
        return known[0]
    return Load(f"{len(known)} tasks", tuple(texts for load in known for texts in load.texts))


def _splits(task: AbsTask) -> list[str]:
    training = [task.train_split] if isinstance(task, AbsTaskClassification) else []
    return [*task.eval_splits, *training]


def _parts(task: AbsTask, statistics: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the statistics of the subsets that are evaluated, such as the languages asked for."""
    by_subset = statistics.get("hf_subset_descriptive_stats", {})
    return [by_subset[name] for name in task.hf_subsets if name in by_subset] or [statistics]


def _texts(part: dict[str, Any], share: float) -> Iterator[Texts]:
    for statistics in part.values():
        if isinstance(statistics, dict) and statistics.get("average_text_length"):
            total, average = statistics["total_text_length"], statistics["average_text_length"]
            yield Texts(share * total / average, average)


def _encoded_share(task: AbsTask, part: dict[str, Any]) -> float:
    """Return which share of its texts a clustering task draws; other tasks take all."""
    if fraction := getattr(task, "max_fraction_of_documents_to_embed", None):
        return fraction
    most = getattr(task, "max_document_to_embed", None)
    return min(1.0, most / part["num_samples"]) if most else 1.0


def _size(task: AbsTask, parts: list[dict[str, Any]]) -> str:
    if all("num_documents" in part for part in parts):
        documents, queries = (sum(part[key] for part in parts) for key in ("num_documents", "num_queries"))
        return f"{documents:,} documents, {queries:,} queries"
    samples = sum(part["num_samples"] for part in parts)
    return f"{samples:,} {'pairs' if task.metadata.type in _PAIRS else 'texts'}"
