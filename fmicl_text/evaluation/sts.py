"""Semantic textual similarity: does the cosine of two sentences rank pairs as people do?"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from fmicl_text.encoder import load_model
from fmicl_text.errors import InputError
from fmicl_text.evaluation.statistics import bootstrap_interval, spearman
from fmicl_text.evaluation.suites import Pairs, Suite, load_pairs, load_suite

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_PACKAGES = ("fmicl-text", "sentence-transformers", "transformers", "torch", "numpy", "scipy")


@dataclass(frozen=True)
class TaskScore:
    """Spearman x 100 of one task, over ``n`` pairs, with its 95% bootstrap interval."""

    spearman: float
    n: int
    ci95: tuple[float, float]


@dataclass(frozen=True, eq=False)
class StsResult:
    """What :func:`evaluate` found.

    Attributes:
        model: Name of the model.
        suite: The suite it was scored on.
        data: Where the pairs came from: ``Hub``, ``sample:stsb`` or a folder.
        max_seq_length: Tokens after which the model cuts a sentence; None if it never does.
        tasks: Task -> score.
        missing: Task -> why it could not be scored.
        gold: Task -> gold scores, ``(n,)``; not in the document.
        similarities: Task -> cosines of the same pairs, ``(n,)``, for paired tests; not in the document.
    """

    model: str
    suite: Suite
    data: str
    max_seq_length: int | None
    tasks: dict[str, TaskScore]
    missing: dict[str, str]
    gold: dict[str, np.ndarray]
    similarities: dict[str, np.ndarray]

    @property
    def average(self) -> float | None:
        """Mean over the tasks; None if any is missing, since the rest is not comparable with any suite average."""
        return None if self.missing else float(np.mean([task.spearman for task in self.tasks.values()]))

    def document(self) -> dict[str, Any]:
        """Return the result as plain values, ready for JSON."""
        return {
            "model": self.model,
            "suite": self.suite.name,
            "protocol": self.suite.protocol,
            "tasks": {
                name: {"spearman": task.spearman, "n": task.n, "ci95": list(task.ci95)}
                for name, task in self.tasks.items()
            },
            "average": self.average,
            "missing": list(self.missing),
            "missing_reasons": self.missing,
            "data": self.data,
            "max_seq_length": self.max_seq_length,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        }


def evaluate(
    model: SentenceTransformer | str,
    suite: Suite | str = "sts7",
    data: str | None = None,
    batch_size: int = 128,
    show_progress: bool = False,
    name: str | None = None,
) -> StsResult:
    """Score a sentence encoder on a suite of STS tasks.

    Every distinct sentence of the suite is encoded once, in the model's own precision and to its own maximum length.

    Args:
        model: A loaded model, or what :func:`fmicl_text.encoder.load_model` takes.
        suite: A suite, the name of a shipped one, or the path of a YAML file.
        data: None for the Hugging Face Hub, ``sample:stsb``, or a folder of Parquet files.
        batch_size: Sentences encoded at a time.
        show_progress: Draw a progress bar on standard error.
        name: What to call the model in the result; by default what ``model`` says, if it is a string.

    Raises:
        InputError: Unknown suite or model; data that is wrong or altogether missing; a model that gives every pair
            of a task the same similarity.
    """
    if isinstance(suite, str):
        suite = load_suite(suite)
    pairs, missing = load_pairs(suite, data)
    if isinstance(model, str):
        name = name or model
        model = load_model(model)
    similarities = _similarities(model, pairs, batch_size, show_progress)
    flat = [task for task, values in similarities.items() if not np.ptp(values) > 0]  # NaN too
    if flat:
        raise InputError(
            f"{name or 'the model'} gives all pairs of {', '.join(flat)} the same similarity, or none at all (NaN): "
            "it cannot rank them"
        )
    gold = {task: of_task.scores for task, of_task in pairs.items()}
    return StsResult(
        model=name or "SentenceTransformer",
        suite=suite,
        data=data or "Hub",
        max_seq_length=model.max_seq_length,
        tasks={
            task: TaskScore(
                spearman=spearman(scores, similarities[task]),
                n=len(scores),
                ci95=bootstrap_interval(scores, similarities[task]),
            )
            for task, scores in gold.items()
        },
        missing=missing,
        gold=gold,
        similarities=similarities,
    )


def cosines(embeddings1: np.ndarray, embeddings2: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of one ``(n, D)`` array with the same row of the other: ``(n,)``.

    Taken in float64 as ``1 - |u - v|^2 / 2`` of the unit vectors, then rounded to the embeddings' own type, since they
    carry no more. So pairs of sentences that are the same to the model all have cosine 1 and tie in rank; by ``<u, v>``
    rounding errors would put them in an order. mteb's main score does the same.
    """
    with np.errstate(invalid="ignore"):  # a zero vector has no direction: NaN
        unit1, unit2 = (
            rows / np.linalg.norm(rows, axis=1, keepdims=True)
            for rows in (embeddings1.astype(np.float64), embeddings2.astype(np.float64))
        )
    return (1 - np.square(unit1 - unit2).sum(axis=1) / 2).astype(embeddings1.dtype)


def _similarities(
    model: SentenceTransformer, pairs: dict[str, Pairs], batch_size: int, show_progress: bool
) -> dict[str, np.ndarray]:
    """Encode each distinct sentence once, and return the cosines of every task's pairs."""
    sides = [side for task in pairs.values() for side in (task.sentences1, task.sentences2)]
    row = {sentence: index for index, sentence in enumerate(dict.fromkeys(chain.from_iterable(sides)))}
    # encode() itself sorts by length, so that a batch is padded little.
    embeddings = model.encode(list(row), batch_size=batch_size, show_progress_bar=show_progress)

    def rows(sentences: list[str]) -> np.ndarray:
        return embeddings[[row[sentence] for sentence in sentences]]

    return {name: cosines(rows(task.sentences1), rows(task.sentences2)) for name, task in pairs.items()}
