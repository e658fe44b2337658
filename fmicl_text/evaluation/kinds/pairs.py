"""A user's own scored or labelled pairs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from fmicl_text.evaluation.kind import Evaluation, Given, Loaded
from fmicl_text.files import user_path
from fmicl_text.section import Conflict

_ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")


class OwnPairs(Evaluation):
    """How well the cosine of two sentences agrees with the scores or labels of pairs in a file."""

    kind: ClassVar = "pairs"
    names: ClassVar = "a csv, tsv, jsonl or Parquet file of pairs"

    sentences: Annotated[list[str], Field(min_length=2, max_length=2)] = ["sentence1", "sentence2"]
    """Columns of the two sentences."""
    score: str | None = None
    """Column of the scores, the higher the more alike; default score."""
    label: str | None = None
    """Column of the labels, 0 or 1, if pairs have no scores."""

    def conflicts(self) -> Iterator[Conflict]:
        """Refuse scores and labels together."""
        if self.score is not None and self.label is not None:
            yield ("label",), "and score exclude each other; name the one column to compare with"

    @classmethod
    def claims(cls, name: str) -> bool:
        """Whether the name ends as files of data do."""
        from fmicl_text.data.formats import ending

        return ending(name) in _ENDINGS

    def load(self, given: Given) -> Loaded:
        """Read the file, and check every row."""
        from fmicl_text.evaluation.metrics import PAIR_METRICS
        from fmicl_text.evaluation.pairs import METRICS, Gold, measure_pairs, read_pairs

        gold: Gold = "label" if self.label else "score"
        first, second = self.sentences
        pairs = read_pairs(user_path(self.name), gold, self.label or self.score or "score", (first, second))
        task = Path(self.name).name
        offers = {PAIR_METRICS[name].key(task): PAIR_METRICS[name] for name in METRICS[gold]}
        measure = partial(measure_pairs, file=self.name, gold=gold, pairs=pairs)
        return Loaded(measure, offers, record=lambda: {"": pairs.fingerprint}, items=partial(iter, pairs))
