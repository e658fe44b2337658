"""Semantic textual similarity: does the cosine of two sentences rank pairs as people do?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from fmicl_text.errors import InputError
from fmicl_text.evaluation.embeddings import embed
from fmicl_text.evaluation.items import Items, Parts, average_interval
from fmicl_text.evaluation.scored_model import scored_model
from fmicl_text.evaluation.statistics import bootstrap_interval, spearman
from fmicl_text.evaluation.suites import Pairs, Suite, load_pairs, load_suite
from fmicl_text.versions import versions

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


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
        revision: The Hub's commit or a digest of the folder, of a model that was given by name; None of a loaded one.
        suite: The suite it was scored on.
        data: Where the pairs came from: ``Hub``, ``sample:stsb`` or a folder.
        max_seq_length: Tokens after which the model cuts a sentence; None if it never does.
        tasks: Task -> score.
        missing: Task -> why it could not be scored.
        gold: Task -> gold scores, ``(n,)``.
        similarities: Task -> cosines of the same pairs, ``(n,)``.
        precision: Type of the model's weights, such as ``float32``, or ``bfloat16 autocast``.
    """

    model: str
    revision: str | None
    suite: Suite
    data: str
    max_seq_length: int | None
    tasks: dict[str, TaskScore]
    missing: dict[str, str]
    gold: dict[str, np.ndarray]
    similarities: dict[str, np.ndarray]
    precision: str = "float32"

    @property
    def average(self) -> float | None:
        """Mean over the tasks; None if any is missing, since the rest is not comparable with any suite average."""
        return None if self.missing else float(np.mean([task.spearman for task in self.tasks.values()]))

    @cached_property
    def average_ci95(self) -> tuple[float, float] | None:
        """95% bootstrap interval of the average, over the items of each task; None where there is no average."""
        return None if self.average is None else average_interval(self.items.values())

    @property
    def items(self) -> dict[str, Parts]:
        """Task -> its pairs, for paired tests."""
        return {task: (Items("spearman", self.similarities[task], gold),) for task, gold in self.gold.items()}

    def document(self) -> dict[str, Any]:
        """Return the result as plain values, ready for JSON."""
        return {
            "model": self.model,
            "revision": self.revision,
            "suite": self.suite.name,
            "protocol": self.suite.protocol,
            "tasks": {
                name: {"spearman": task.spearman, "n": task.n, "ci95": list(task.ci95)}
                for name, task in self.tasks.items()
            },
            "average": self.average,
            "average_ci95": self.average_ci95,
            "missing": list(self.missing),
            "missing_reasons": self.missing,
            "data": self.data,
            "max_seq_length": self.max_seq_length,
            "precision": self.precision,
            "versions": versions(),
        }


def evaluate(
    model: SentenceTransformer | str,
    suite: Suite | str = "sts7",
    data: str | None = None,
    batch_size: int = 128,
    show_progress: bool = False,
    name: str | None = None,
    bf16: bool = False,
) -> StsResult:
    """Score a sentence encoder on a suite of STS tasks.

    Every distinct sentence of the suite is encoded once, to the model's own maximum length and, unless ``bf16`` is
    set, in its own precision.

    Args:
        model: A loaded model, or what :func:`fmicl_text.encoders.text.load_model` takes.
        suite: A suite, the name of a shipped one, or the path of a YAML file.
        data: None for the Hugging Face Hub, ``sample:stsb``, or a folder of Parquet files.
        batch_size: Sentences encoded at a time.
        show_progress: Draw a progress bar on standard error.
        name: What to call the model in the result; by default what ``model`` says, if it is a string.
        bf16: Multiply in bfloat16, about twice as fast where the device has it; a task's score can differ by a few
            hundredths of a point.

    Raises:
        InputError: Unknown suite or model; data that is wrong or altogether missing; a model that gives every pair
            of a task the same similarity; ``bf16`` on a CPU without.
    """
    if isinstance(suite, str):
        suite = load_suite(suite)
    pairs, missing = load_pairs(suite, data)
    encoder, name, revision = scored_model(model, name)
    similarities = encode_pairs(encoder, pairs, batch_size, show_progress, bf16)
    flat = [task for task, values in similarities.items() if not np.ptp(values) > 0]  # NaN too
    if flat:
        raise InputError(
            f"{name} gives all pairs of {', '.join(flat)} the same similarity, or none at all (NaN): "
            "it cannot rank them"
        )
    gold = {task: of_task.scores for task, of_task in pairs.items()}
    return StsResult(
        model=name,
        revision=revision,
        suite=suite,
        data=data or "Hub",
        max_seq_length=encoder.max_seq_length,
        precision="bfloat16 autocast" if bf16 else str(encoder.dtype).removeprefix("torch."),
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


def encode_pairs(
    model: SentenceTransformer, pairs: dict[str, Pairs], batch_size: int, show_progress: bool, bf16: bool = False
) -> dict[str, np.ndarray]:
    """Encode each distinct sentence once, and return the cosines ``(n,)`` of every task's pairs."""
    sides = chain.from_iterable((task.sentences1, task.sentences2) for task in pairs.values())
    embedded = embed(model, chain.from_iterable(sides), batch_size, show_progress, bf16)
    return {name: cosines(embedded.of(task.sentences1), embedded.of(task.sentences2)) for name, task in pairs.items()}
