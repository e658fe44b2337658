"""Sentences of which some are known to mean the same: what the geometry of an encoder is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from fmicl_text.evaluation.suites import stsb_pairs

if TYPE_CHECKING:
    from datasets import Dataset

    from fmicl_text.data.section import Columns

_PAIR = ("anchor", "positive")
_SAME = 4.0
"""STS-B's score from which a pair counts as positive, as SimCSE's plots of alignment have it."""
_MOST_PAIRS = 2000
"""Positive pairs used at most; the cosines of all their sentences fit in memory."""


@dataclass(frozen=True)
class PairSet:
    """Sentences, and which of them mean the same.

    Attributes:
        source: Where they come from, in words.
        sentences: Distinct texts, ``N`` of them.
        positives: Rows of ``sentences``, ``(P, 2)``.
    """

    source: str
    sentences: list[str]
    positives: np.ndarray


def stsb_pair_set(data: str | None = None) -> PairSet:
    """Load all sentences of STS-B dev; its pairs with a score of 4 or more are the positive ones.

    Args:
        data: None for the Hugging Face Hub, ``sample:stsb``, or a folder of Parquet files.

    Raises:
        InputError: The data cannot be loaded.
    """
    pairs = stsb_pairs("dev", data)
    same = pairs.scores >= _SAME
    return _pair_set(f"STS-B dev, score {_SAME:g} or more ({data or 'Hub'})", pairs.sentences1, pairs.sentences2, same)


def own_pair_set(source: str, columns: Columns) -> PairSet:
    """Load pairs whose two texts mean the same; of more than 2,000, that many are drawn, always the same ones.

    Args:
        source: What :func:`fmicl_text.data.sources.load_rows` takes.
        columns: Which column is ``anchor``, and which ``positive``.

    Raises:
        InputError: The data cannot be loaded, or is not text.
    """
    from fmicl_text.data.sources import load_rows

    return _drawn(f"{source}, {columns.anchor} and {columns.positive}", load_rows(source, columns))


def heldout_pair_set(sources: Sequence[Dataset]) -> PairSet:
    """Return the held-out pairs of a run, with ``anchor`` and ``positive``; drawn as by :func:`own_pair_set`.

    Args:
        sources: The pairs of each source of the training data.
    """
    from datasets import concatenate_datasets

    return _drawn("held-out pairs", concatenate_datasets([rows.select_columns(list(_PAIR)) for rows in sources]))


def _drawn(described: str, rows: Dataset) -> PairSet:
    if len(rows) > _MOST_PAIRS:
        described += f", {_MOST_PAIRS:,} of {len(rows):,} pairs"
        rows = rows.select(np.sort(np.random.default_rng(0).choice(len(rows), _MOST_PAIRS, replace=False)))
    return _pair_set(described, rows["anchor"][:], rows["positive"][:], np.ones(len(rows), bool))


def _pair_set(source: str, firsts: list[str], seconds: list[str], same: np.ndarray) -> PairSet:
    row = {sentence: index for index, sentence in enumerate(dict.fromkeys(chain(firsts, seconds)))}
    pairs = np.array([(row[first], row[second]) for first, second in zip(firsts, seconds, strict=True)])
    return PairSet(source, list(row), pairs[same])
