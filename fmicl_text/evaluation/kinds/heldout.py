"""Retrieval of held-out pairs."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from fmicl_text.errors import InputError
from fmicl_text.evaluation.kind import Evaluation, Given, Loaded


class Heldout(Evaluation):
    """Whether the anchor of a pair that was not trained on finds its positive among those of all such pairs."""

    kind: ClassVar = "heldout"
    names: ClassVar = "heldout: the pairs of data.heldout"

    @classmethod
    def claims(cls, name: str) -> bool:
        """Whether it is ``heldout``."""
        return name == "heldout"

    def load(self, given: Given) -> Loaded:
        """Take the held-out pairs of the run."""
        from fmicl_text.evaluation.metrics import ACCURACY_AT_1, MRR_AT_10
        from fmicl_text.evaluation.retrieval import SCORED, Search, measure_retrieval

        if not given.heldout:
            raise InputError("heldout needs data.heldout, the pairs to hold out")
        searches = {
            source or SCORED: Search(
                queries=pairs["anchor"][:],
                documents=pairs["positive"][:],
                groups=pairs["group"][:] if "group" in pairs.column_names else None,
                prompts=given.prompts.get(source),
            )
            for source, pairs in given.heldout.items()
        }
        scored = (["average"] if len(searches) > 1 else []) + [*searches]
        offers = {metric.key(name): metric for metric in (MRR_AT_10, ACCURACY_AT_1) for name in scored}
        return Loaded(
            partial(measure_retrieval, searches=searches),
            offers,
            items=lambda: (
                pair for search in searches.values() for pair in zip(search.queries, search.documents, strict=True)
            ),
        )
