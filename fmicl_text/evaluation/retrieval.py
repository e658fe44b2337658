"""Retrieval on held-out pairs: does a query find its own document among all of them?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fmicl_text.errors import InputError
from fmicl_text.evaluation.items import Items, Parts, digest, interval, score

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_CUTOFF = 10


@dataclass(frozen=True)
class RetrievalResult:
    """What :func:`retrieve` found, in percent, over ``n`` queries, with 95% bootstrap intervals over the queries.

    Attributes:
        n: Number of queries.
        candidates: Number of distinct documents each was searched in.
        accuracy_at_1: Queries whose document came first.
        mrr_at_10: Mean over the queries of 1/rank of their document; 0 past rank 10.
        accuracy_at_1_ci95: Interval of ``accuracy_at_1``.
        mrr_at_10_ci95: Interval of ``mrr_at_10``.
        items: Score -> the queries, for paired tests; not in the document.
    """

    n: int
    candidates: int
    accuracy_at_1: float
    mrr_at_10: float
    accuracy_at_1_ci95: tuple[float, float]
    mrr_at_10_ci95: tuple[float, float]
    items: dict[str, Parts]

    def document(self) -> dict[str, Any]:
        """Return the result as plain values, ready for JSON."""
        return {
            "task": "heldout retrieval",
            "n": self.n,
            "candidates": self.candidates,
            "accuracy@1": self.accuracy_at_1,
            "mrr@10": self.mrr_at_10,
            "ci95": {"accuracy@1": list(self.accuracy_at_1_ci95), "mrr@10": list(self.mrr_at_10_ci95)},
        }


def retrieve(
    model: SentenceTransformer,
    queries: list[str],
    documents: list[str],
    batch_size: int = 128,
    show_progress: bool = False,
) -> RetrievalResult:
    """Search each query's document among all distinct documents, by cosine.

    Args:
        model: The encoder.
        queries: Texts to search with.
        documents: ``documents[i]`` is the right answer to ``queries[i]``. A text that occurs several times is one
            candidate, and right for each query that has it.
        batch_size: Texts encoded at a time.
        show_progress: Draw progress bars on standard error.

    Raises:
        InputError: No queries, or another number of documents.
    """
    from sentence_transformers.util import semantic_search

    if not queries or len(queries) != len(documents):
        raise InputError(f"retrieval needs a document for each query, found {len(queries)} and {len(documents)}")
    candidates = {document: index for index, document in enumerate(dict.fromkeys(documents))}
    encoding: dict[str, Any] = {
        "batch_size": batch_size,
        "show_progress_bar": show_progress,
        "convert_to_tensor": True,
    }
    found = semantic_search(
        model.encode_query(queries, **encoding),
        model.encode_document(list(candidates), **encoding),
        top_k=_CUTOFF,
    )
    reciprocal_ranks = np.zeros(len(queries))
    for index, (document, hits) in enumerate(zip(documents, found, strict=True)):
        ranked = [hit["corpus_id"] for hit in hits]
        if candidates[document] in ranked:
            reciprocal_ranks[index] = 1 / (1 + ranked.index(candidates[document]))
    source = digest(queries, documents)
    first = (Items("mean", 1.0 * (reciprocal_ranks == 1), source=source),)
    top_10 = (Items("mean", reciprocal_ranks, source=source),)
    return RetrievalResult(
        n=len(queries),
        candidates=len(candidates),
        accuracy_at_1=score(first),
        mrr_at_10=score(top_10),
        accuracy_at_1_ci95=interval(first),
        mrr_at_10_ci95=interval(top_10),
        items={"accuracy@1": first, "mrr@10": top_10},
    )
