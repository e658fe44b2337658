"""A user's own pairs of sentences: does their cosine agree with scores, or tell apart the two labels?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from fmicl_text.errors import InputError
from fmicl_text.evaluation.columns import binary, number, read_columns, text
from fmicl_text.evaluation.items import Items, Measured
from fmicl_text.evaluation.kind import Effort, NoScoreError
from fmicl_text.evaluation.metrics import PAIR_METRICS
from fmicl_text.evaluation.results import Result
from fmicl_text.evaluation.scored_model import ScoredModel, scored_model
from fmicl_text.evaluation.statistics import (
    percentile_interval,
    redrawn_detections,
    resampled,
    resampled_statistics,
)
from fmicl_text.evaluation.sts import encode_pairs
from fmicl_text.evaluation.suites import Pairs

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Gold = Literal["score", "label"]
"""What people say of a pair: a number, the higher the more alike; or 1 if the two belong together, else 0."""

METRICS: dict[Gold, tuple[str, ...]] = {
    "score": ("spearman", "pearson", "kendall"),
    "label": ("auc", "average_precision", "f1", "threshold"),
}
"""What is measured against each kind of gold; keys of :data:`~fmicl_text.evaluation.metrics.PAIR_METRICS`."""


def evaluate(
    model: SentenceTransformer | str,
    file: str | Path,
    gold: Gold = "score",
    column: str | None = None,
    sentences: tuple[str, str] = ("sentence1", "sentence2"),
    batch_size: int = 128,
    show_progress: bool = False,
    name: str | None = None,
) -> Measured:
    """Measure how well the cosine of two sentences agrees with what a file says of them.

    Scores: Spearman's rho, Pearson's r and Kendall's tau-b. Labels: area under the ROC curve, average precision, and
    the best F1 with the threshold of the cosine that reaches it. The threshold is chosen on the pairs that F1 is
    measured on, again in each resample; on other pairs, F1 at that threshold is a little lower.

    Args:
        model: A loaded model, or what :func:`fmicl_text.encoders.text.load_model` takes.
        file: A csv, tsv, jsonl or Parquet file.
        gold: Whether the pairs have scores or labels (0 and 1).
        column: Which column has them; by default the one called ``score`` or ``label``.
        sentences: Which columns have the two sentences.
        batch_size: Sentences encoded at a time.
        show_progress: Draw a progress bar on standard error.
        name: Name of the model in the result; by default ``model`` itself, if it is a string.

    Returns:
        The scores; items of the one that is Spearman's rho or the average precision.

    Raises:
        InputError: No such model or file; rows that are not two texts and a score or label, each named; nothing to
            tell apart, in the file or to the model.
    """
    pairs = read_pairs(Path(file), gold, column or gold, sentences)
    return measure_pairs(scored_model(model, name), Effort(batch_size, show_progress), str(file), gold, pairs)


def measure_pairs(scored: ScoredModel, effort: Effort, file: str, gold: Gold, pairs: Pairs) -> Measured:
    """Score an encoder on pairs that were read; see :func:`evaluate`."""
    similarities = encode_pairs(scored.encoder, {"pairs": pairs}, effort.batch_size, effort.show_progress)["pairs"]
    if not np.ptp(similarities) > 0:  # NaN too
        raise NoScoreError(f"{scored.name} gives all pairs the same similarity, or none at all (NaN)")
    figures = {"score": correlations, "label": detection}[gold](pairs.scores, similarities)
    intervals: list[tuple[float, float] | None] = [None] * len(METRICS[gold])
    if effort.intervals:
        intervals = [percentile_interval(row) for row in _resampled(gold, pairs.scores, similarities)]
    task, n = Path(file).name, len(pairs.scores)
    scores = [
        PAIR_METRICS[metric].score(task, value, n, ci95)
        for metric, value, ci95 in zip(METRICS[gold], figures, intervals, strict=True)
    ]
    described = scored.described()
    described["facts"] |= {"gold": gold} | ({"positives": int(pairs.scores.sum())} if gold == "label" else {})
    result = Result(
        kind="pairs",
        name=task,
        protocol=f"the cosine of two sentences against the {gold} of their pair",
        data=file,
        scores=scores,
        **described,
    )
    items = {
        "score": {PAIR_METRICS["spearman"].key(task): (Items("spearman", similarities, pairs.scores),)},
        "label": {
            PAIR_METRICS["average_precision"].key(task): (Items("average precision", similarities, pairs.scores),)
        },
    }
    return Measured(result, items[gold])


def correlations(gold: np.ndarray, similarity: np.ndarray) -> Sequence[float]:
    """Return Spearman's rho, Pearson's r and Kendall's tau-b, x 100, of two ``(n,)``; NaN if either is constant."""
    from scipy.stats import kendalltau, rankdata

    if np.ptp(gold) == 0 or np.ptp(similarity) == 0:
        return [float("nan")] * 3
    both = np.stack([gold, similarity.astype(np.float64)])  # (2, n)
    # Without p values, which scipy's spearmanr and pearsonr take most of their time for.
    spearman, pearson = (np.corrcoef(rows)[0, 1] for rows in (rankdata(both, axis=1), both))
    kendall = kendalltau(*both, method="asymptotic").statistic
    return [100 * float(figure) for figure in (spearman, pearson, kendall)]


def detection(labels: np.ndarray, similarity: np.ndarray) -> Sequence[float]:
    """Return how well a similarity ``(n,)`` tells the labels 1 from the labels 0 ``(n,)``; NaN if one is not there.

    Returns:
        Area under the ROC curve, average precision, the best F1, all x 100; and the lowest similarity that must
        count as 1 to reach that F1, the highest such threshold if there are several.
    """
    once = np.ones((1, len(labels)), int)
    return [float(figure) for figure in redrawn_detections(similarity, labels)(once)[:, 0]]


def _resampled(gold: Gold, values: np.ndarray, similarity: np.ndarray, resamples: int = 1000) -> np.ndarray:
    """Return what is measured against this kind of gold, on resamples of the pairs: ``(K, R)``."""
    if gold == "score":
        return resampled_statistics(correlations, values, similarity, resamples=resamples).T
    return resampled(redrawn_detections(similarity, values), len(values), resamples, np.random.default_rng(0))


def read_pairs(path: Path, gold: Gold, column: str, sentences: tuple[str, str]) -> Pairs:
    """Read a file of pairs with the scores or labels in a column.

    Raises:
        InputError: The file or a column is missing, rows are not two texts and a score or label, or all have the same.
    """
    names = [*sentences, column]
    if len(set(names)) < 3:
        raise InputError(f"{path}: the two sentences and the {gold} are three columns, got {', '.join(names)}")
    kind = {"score": number, "label": binary}[gold]
    read = read_columns(path, {sentences[0]: text, sentences[1]: text, column: kind})
    firsts, seconds, scores = (read.columns[name] for name in names)
    if len(set(scores)) == 1:
        raise InputError(f"{path}: every pair has the same {gold}, {scores[0]:g}: there is nothing to tell apart")
    return Pairs(firsts, seconds, np.array(scores))
