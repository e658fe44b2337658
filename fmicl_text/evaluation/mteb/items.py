"""What each item of an mteb task scored, from the predictions mteb writes.

mteb's results have one number per metric. Intervals and paired tests need the scores of items, which are computed here
for tasks whose main score is their mean, or a correlation or average precision over items. If they do not give mteb's
own score, they are not used: see :func:`require_score`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mteb.abstasks import (
    AbsTask,
    AbsTaskBitextMining,
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
    AbsTaskSummarization,
)
from mteb.abstasks.clustering_legacy import AbsTaskClusteringLegacy

from fmicl_text.evaluation.items import Items, Parts, digest, score

_ROUNDING = 5.6e-6  # mteb keeps six decimals of each split, and five of a mean over queries
_MEASURES = {"ndcg_at": "ndcg_cut", "map_at": "map_cut", "recall_at": "recall", "precision_at": "P"}
"""Main score of a retrieval task, without its cutoff -> measure of trec_eval."""
_SIMILARITIES = {
    "similarity": ("similarity_scores", 1),
    "cosine": ("cosine_scores", 1),
    "dot": ("dot_scores", 1),
    "euclidean": ("euclidean_distances", -1),
    "manhattan": ("manhattan_distances", -1),
}
"""Similarity of a pair -> where mteb's predictions have it, and its sign."""


Part = tuple[str, str]
"""A split and a subset of a task, such as a language, which mteb scores by itself."""


class NoItemsError(Exception):
    """Says why it is not known what each item of a task scored."""


def require_items(task: AbsTask) -> None:
    """Raise a NoItemsError if a task's main score cannot be taken apart."""
    _kind(task)


def parts_of(task: AbsTask) -> list[Part]:
    """Return the splits and subsets that are evaluated, in the order in which their items are kept and compared."""
    return [(split, subset) for split in task.eval_splits for subset in task.hf_subsets]


def items_of(task: AbsTask, part: Part, predicted: Any) -> Items:
    """Take the main score of one split and subset apart.

    Args:
        task: With its data, on which mteb has evaluated it.
        part: Split and subset.
        predicted: What mteb wrote of it.

    Raises:
        NoItemsError: The predictions are not of this data, or the main score cannot be taken apart.
    """
    kind, metric, (split, subset) = _kind(task), task.metadata.main_score, part
    try:
        data = task.dataset.get(subset, task.dataset)  # those of one language need not name it
        items = kind(task, data[split], predicted)
    except (KeyError, ValueError, IndexError) as error:
        raise NoItemsError(f"mteb's predictions are not there for all of the data: {error!r}") from error
    source = digest([task.metadata.name, task.metadata.revision, metric, split, subset, items.source])
    return Items(items.statistic, items.values, items.gold, source)


def require_score(parts: Parts, main_score: float) -> None:
    """Raise a NoItemsError unless the items give mteb's main score, from 0 to 1."""
    found = score(parts) / 100
    if not abs(found - main_score) < _ROUNDING:
        raise NoItemsError(f"mteb's predictions give {found:.6f}, and not its main score, {main_score:.6f}")


Kind = Callable[[AbsTask, Any, Any], Items]
"""Takes a task, the data of a split and mteb's predictions for it."""


def _kind(task: AbsTask) -> Kind:
    kind: Kind | None = None
    name, metric = task.metadata.type, task.metadata.main_score
    if isinstance(task, AbsTaskClustering | AbsTaskClusteringLegacy):
        raise NoItemsError("a clustering is scored as a whole, and mteb does not keep which texts it drew for it")
    match task:
        case AbsTaskSTS() if metric == "cosine_spearman":
            kind = _scored_pairs
        case AbsTaskPairClassification() if metric.endswith("_ap"):
            kind = _labelled_pairs
        case AbsTaskClassification() if (name, metric, task.is_cross_validation) == ("Classification", "accuracy", 0):
            kind = _classified
        case AbsTaskRetrieval() if metric.rpartition("_")[0] in _MEASURES:
            kind = _searched
        case AbsTaskBitextMining() if metric in ("f1", "accuracy") and not task.parallel_subsets:
            kind = _matched
        case AbsTaskSummarization() if metric == "cosine_spearman":
            kind = _summarised
    if kind is None:
        raise NoItemsError(f"{metric} of {name} is not taken apart into what each item scored")
    return kind


def _scored_pairs(task: AbsTask, data: Any, predicted: Any) -> Items:
    return Items("spearman", np.array(predicted["cosine_scores"]), np.array(data["score"], dtype=float))


def _labelled_pairs(task: AbsTask, data: Any, predicted: Any) -> Items:
    """By the similarity that the main score is of, such as ``cosine_ap``; for ``max_ap`` by the best."""
    labels = np.ravel(data[task.label_column_name])  # older data sets have one row of lists
    wanted = task.metadata.main_score.removesuffix("_ap")
    names = _SIMILARITIES if wanted == "max" else [wanted]
    found = [(_SIMILARITIES[name][1] * np.array(predicted[_SIMILARITIES[name][0]])) for name in names]
    return max((Items("average precision", values, labels) for values in found), key=lambda items: score((items,)))


def _classified(task: AbsTask, data: Any, predicted: Any) -> Items:
    """An item scores the share of mteb's classifiers, each fitted to a draw of the training set, that are right."""
    labels = np.array(data[task.label_column_name])
    return Items("mean", (np.array(predicted) == labels).mean(axis=0), source=digest(map(str, labels)))


def _searched(task: AbsTask, data: Any, predicted: Any) -> Items:
    """An item is a query; mteb's own options say which of its hits do not count."""
    import pytrec_eval

    found = {query: dict(hits) for query, hits in predicted.items()}
    if task.ignore_identical_ids:
        found = {query: {d: s for d, s in hits.items() if d != query} for query, hits in found.items()}
    if task.skip_first_result:
        found = {q: dict(sorted(hits.items(), key=lambda hit: -hit[1])[1:]) for q, hits in found.items()}
    metric, _, cutoff = task.metadata.main_score.rpartition("_")
    measure = _MEASURES[metric]
    evaluator = pytrec_eval.RelevanceEvaluator(data["relevant_docs"], {f"{measure}.{cutoff}"})
    of_query = evaluator.evaluate(found)
    queries = sorted(of_query)
    return Items("mean", np.array([of_query[q][f"{measure}_{cutoff}"] for q in queries]), source=digest(queries))


def _matched(task: AbsTask, data: Any, predicted: Any) -> Items:
    """An item is a sentence, which scores 1 if its own translation is the nearest.

    For F1 it then scores ``2 / (1 + n)``; ``n`` sentences found that translation, a number held fixed in resamples.
    """
    found = np.array([neighbour["corpus_id"] for neighbour in predicted["sentence1-sentence2"]])
    right = found == np.arange(len(found))
    if task.metadata.main_score == "accuracy":
        return Items("mean", 1.0 * right)
    return Items("mean", 2 * right / (1 + np.bincount(found, minlength=len(found))[: len(found)]))


def _summarised(task: AbsTask, data: Any, predicted: Any) -> Items:
    """An item is a text, which scores Spearman's rho over its summaries."""
    from scipy.stats import spearmanr

    of_text = zip(predicted["human_scores"], predicted["cosine_scores"], strict=True)
    return Items("mean", np.array([spearmanr(human, cosine).statistic for human, cosine in of_text]))
