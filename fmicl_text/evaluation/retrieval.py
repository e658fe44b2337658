"""Retrieval on held-out pairs: does a query find a right document among all of them?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fmicl_text.encoders.images import require_texts
from fmicl_text.errors import InputError
from fmicl_text.evaluation.items import Items, Measured, Parts, digest, scores_of_items
from fmicl_text.evaluation.kind import Effort, NoScoreError
from fmicl_text.evaluation.metrics import ACCURACY_AT_1, MRR_AT_10, Metric
from fmicl_text.evaluation.results import Result
from fmicl_text.evaluation.scored_model import ScoredModel, scored_model

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from fmicl_text.encoders.section import PromptsSection

SCORED = "held-out pairs"
"""What the scores are called."""
_CUTOFF = 10
_PROTOCOL = (
    "each query searched among all distinct documents, by cosine; right is any document paired with the query's text"
)
_OF_A_GROUP = ", or with any query of its group"


@dataclass(frozen=True)
class Search:
    """Queries, and documents among which they search; see :func:`retrieve`.

    Prompts are put before the texts; the default is the encoder's own.
    """

    queries: Sequence[str]
    documents: Sequence[str]
    groups: Sequence[Hashable] | None = None
    prompts: PromptsSection | None = None


def retrieve(
    model: SentenceTransformer | str,
    queries: Sequence[str],
    documents: Sequence[str],
    batch_size: int = 128,
    show_progress: bool = False,
    groups: Sequence[Hashable] | None = None,
    name: str | None = None,
) -> Measured:
    """Search each query's documents among all distinct documents, by cosine.

    Args:
        model: A loaded model, or what :func:`fmicl_text.encoders.text.load_model` takes.
        queries: Texts to search with, ``N`` of them.
        documents: ``documents[i]`` is a right answer to ``queries[i]``, and to every query of the same text. A text
            that occurs several times is one candidate, and right for each query that has it.
        batch_size: Texts encoded at a time.
        show_progress: Draw progress bars on standard error.
        groups: ``groups[i]`` is the group of pair ``i``, such as a label or a document's id: any document of the
            group is right for its queries. None if pairs have no groups.
        name: Name of the model in the result; by default ``model`` itself, if it is a string.

    Returns:
        In percent, with 95% intervals over the queries: ``MRR@10``, the mean of 1/rank of the first right document, 0
        past rank 10; and ``accuracy@1``, the share of queries whose first document is right. Items are the queries.

    Raises:
        InputError: No queries, or another number of documents or groups; embeddings that are not finite.
    """
    effort = Effort(batch_size, show_progress)
    return measure_retrieval(scored_model(model, name), effort, {SCORED: Search(queries, documents, groups)})


def measure_retrieval(scored: ScoredModel, effort: Effort, searches: Mapping[str, Search]) -> Measured:
    """Score an encoder; see :func:`retrieve`.

    Args:
        scored: The encoder.
        effort: How it is run.
        searches: Name -> queries and their documents; each is scored by itself, and several have an average too.

    Raises:
        InputError: As :func:`retrieve`.
    """
    items: dict[Metric, dict[str, Parts]] = {MRR_AT_10: {}, ACCURACY_AT_1: {}}
    candidates: dict[str, int] = {}
    for name, search in searches.items():
        reciprocal_ranks, candidates[name] = _reciprocal_ranks(scored, effort, search)
        source = digest(search.queries, search.documents, map(str, search.groups or ()))
        items[MRR_AT_10][name] = (Items("mean", reciprocal_ranks, source=source),)
        items[ACCURACY_AT_1][name] = (Items("mean", 1.0 * (reciprocal_ranks == 1), source=source),)
    described = scored.described()
    described["facts"] |= _facts(searches, candidates)
    result = Result(
        kind="heldout",
        name="heldout",
        protocol=_PROTOCOL + (_OF_A_GROUP if any(search.groups is not None for search in searches.values()) else ""),
        scores=[
            score
            for metric, of_sources in items.items()
            for score in scores_of_items(metric, of_sources, effort, average=True)
        ],
        **described,
    )
    found = {metric.key(name): parts for metric, of_sources in items.items() for name, parts in of_sources.items()}
    return Measured(result, found)


def _facts(searches: Mapping[str, Search], candidates: Mapping[str, int]) -> dict[str, Any]:
    """Return the number of candidates and the prompts, by source if there are several."""
    if len(searches) == 1:
        return {"candidates": sum(candidates.values())}
    facts: dict[str, Any] = {f"candidates of {name}": count for name, count in candidates.items()}
    for name, search in searches.items():
        facts |= {f"prompts of {name}": search.prompts.model_dump()} if search.prompts is not None else {}
    return facts


def _reciprocal_ranks(scored: ScoredModel, effort: Effort, search: Search) -> tuple[np.ndarray, int]:
    """Return 1/rank of each query's first right document, 0 past the cutoff, and the number of candidates."""
    from sentence_transformers.util import semantic_search

    require_texts(scored.encoder)
    queries, documents, groups = search.queries, search.documents, search.groups
    if not queries or len(queries) != len(documents):
        raise InputError(f"retrieval needs a document for each query, found {len(queries)} and {len(documents)}")
    if groups is not None and len(groups) != len(queries):
        raise InputError(f"retrieval needs a group for each query, found {len(queries)} and {len(groups)}")
    candidates = {document: index for index, document in enumerate(dict.fromkeys(documents))}
    keys = [("text", query) for query in queries], [("group", group) for group in groups or ()]
    right: dict[tuple[str, Hashable], set[int]] = defaultdict(set)
    for of_pairs in keys:
        for key, document in zip(of_pairs, documents, strict=False):  # without groups, there is nothing in the second
            right[key].add(candidates[document])
    encoding: dict[str, Any] = {
        "batch_size": effort.batch_size,
        "show_progress_bar": effort.show_progress,
        "convert_to_tensor": True,
    }
    asked = scored.encoder.encode_query(list(queries), prompt=search.prompts and search.prompts.query, **encoding)
    searched = scored.encoder.encode_document(
        list(candidates), prompt=search.prompts and search.prompts.document, **encoding
    )
    if not (asked.isfinite().all() and searched.isfinite().all()):  # NaN would rank, too
        raise NoScoreError(f"{scored.name} gives embeddings that are not finite numbers: nothing can be ranked")
    found = semantic_search(asked, searched, top_k=_CUTOFF)
    reciprocal_ranks = np.zeros(len(queries))
    for index, hits in enumerate(found):
        answers = set().union(*(right[of_pairs[index]] for of_pairs in keys if of_pairs))
        ranks = (rank for rank, hit in enumerate(hits, 1) if hit["corpus_id"] in answers)
        reciprocal_ranks[index] = 1 / next(ranks, np.inf)
    return reciprocal_ranks, len(candidates)
