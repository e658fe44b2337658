"""Semantic textual similarity: does the cosine of two sentences rank pairs as people do?"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from fmicl_text.evaluation.embeddings import embed
from fmicl_text.evaluation.items import Items, Measured, Parts, scores_of_items
from fmicl_text.evaluation.kind import Effort, NoScoreError
from fmicl_text.evaluation.metrics import SPEARMAN
from fmicl_text.evaluation.results import Result
from fmicl_text.evaluation.scored_model import ScoredModel, scored_model
from fmicl_text.evaluation.suites import Pairs, Suite, load_pairs, load_suite

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def evaluate(
    model: SentenceTransformer | str,
    suite: Suite | str = "sts7",
    data: str | None = None,
    batch_size: int = 128,
    show_progress: bool = False,
    name: str | None = None,
    bf16: bool = False,
) -> Measured:
    """Score a sentence encoder on a suite of STS tasks.

    Every distinct sentence of the suite is encoded once, to the model's own maximum length and, unless ``bf16`` is
    set, in its own precision.

    Args:
        model: A loaded model, or what :func:`fmicl_text.encoders.text.load_model` takes.
        suite: A suite, the name of a shipped one, or the path of a YAML file.
        data: None for the Hugging Face Hub, ``sample:stsb``, or a folder of Parquet files.
        batch_size: Sentences encoded at a time.
        show_progress: Draw a progress bar on standard error.
        name: Name of the model in the result; by default ``model`` itself, if it is a string.
        bf16: Multiply in bfloat16, about twice as fast where the device has it; a task's score can differ by a few
            hundredths of a point.

    Returns:
        Spearman's rho x 100 of each task, with its pairs as items. The average over the tasks is first; there is none
        if a task is missing, since the mean of the others could not be compared with any other average.

    Raises:
        InputError: Unknown suite or model; data that is wrong or altogether missing; a model that gives every pair
            of a task the same similarity; ``bf16`` on a CPU without its instructions.
    """
    if isinstance(suite, str):
        suite = load_suite(suite)
    pairs, missing = load_pairs(suite, data)
    effort = Effort(batch_size, show_progress)
    return measure_sts(scored_model(model, name), effort, suite, pairs, missing, data or "Hub", bf16)


def measure_sts(
    scored: ScoredModel,
    effort: Effort,
    suite: Suite,
    pairs: dict[str, Pairs],
    missing: dict[str, str],
    source: str,
    bf16: bool = False,
) -> Measured:
    """Score an encoder on the pairs of a suite that were loaded; see :func:`evaluate`."""
    similarities = encode_pairs(scored.encoder, pairs, effort.batch_size, effort.show_progress, bf16)
    flat = [task for task, values in similarities.items() if not np.ptp(values) > 0]  # NaN too
    if flat:
        raise NoScoreError(
            f"{scored.name} gives all pairs of {', '.join(flat)} the same similarity, or none at all (NaN): "
            "it cannot rank them"
        )
    items: dict[str, Parts] = {
        task: (Items("spearman", similarities[task], of_task.scores),) for task, of_task in pairs.items()
    }
    result = Result(
        kind="sts",
        name=suite.name,
        protocol=suite.protocol,
        data=source,
        scores=scores_of_items(SPEARMAN, items, effort, average=not missing),
        missing=missing,
        **scored.described("bfloat16 autocast" if bf16 else None),
    )
    return Measured(result, {SPEARMAN.key(task): parts for task, parts in items.items()})


def cosines(embeddings1: np.ndarray, embeddings2: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of one ``(n, D)`` array with the same row of the other: ``(n,)``.

    Taken in float64 as ``1 - |u - v|^2 / 2`` of the unit vectors, then rounded to the embeddings' own type, since they
    are no more precise. So pairs of sentences that are the same to the model all have cosine 1 and tie in rank; by
    ``<u, v>`` rounding errors would put them in an order. mteb's main score does the same.
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
