"""The figures of evaluation documents, for the tables and the metadata of a card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fmicl_text.evaluation.items import Document


@dataclass(frozen=True)
class Figure:
    """One score in percent.

    Attributes:
        evaluation: The evaluation it is from, such as ``sts7``.
        task: What was scored, such as ``STS12`` or ``held-out pairs``.
        metric: As people say it, such as ``Spearman``.
        metric_type: As sentence-transformers' evaluators call it, such as ``spearman_cosine``.
        value: The score.
        n: Number of pairs or queries; None for an average of tasks.
        ci95: Bootstrap interval, if there is one.
    """

    evaluation: str
    task: str
    metric: str
    metric_type: str
    value: float
    n: int | None = None
    ci95: tuple[float, float] | None = None


def figures(evaluation: str, document: Document) -> Iterator[Figure]:
    """Yield the figures of a document; of a kind of document that is not known here there are none."""
    if isinstance(document.get("tasks"), dict):
        for task, score in document["tasks"].items():
            if "spearman" in score:
                yield Figure(
                    evaluation, task, "Spearman", "spearman_cosine", score["spearman"], score.get("n"), _interval(score)
                )
        if len(document["tasks"]) > 1 and document.get("average") is not None:
            interval = _interval({"ci95": document.get("average_ci95")})
            yield Figure(evaluation, "average", "Spearman", "spearman_cosine", document["average"], None, interval)
    for key, metric in (("accuracy@1", "accuracy@1"), ("mrr@10", "MRR@10")):
        if key in document:
            interval = document.get("ci95", {}).get(key)
            yield Figure(
                evaluation,
                "held-out pairs",
                metric,
                f"cosine_{key}",
                document[key],
                document.get("n"),
                tuple(interval) if interval else None,
            )


def _interval(score: Document) -> tuple[float, float] | None:
    interval = score.get("ci95")
    return (interval[0], interval[1]) if interval else None
