"""Batches with the numbers of their rows, and the name of the data set that these are of."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from fmicl_text.losses.columns import SOURCE

ROWS = "__rows__"
"""Key of a batch: its row numbers ``(B,)``, counted from 0."""

Row = dict[str, Any]


class _NumberedRows(TorchDataset[tuple[int, Row]]):
    """The rows of data sets one after the other, each with its number in its own.

    Rows of several data sets have the name of theirs, in a column that sentence-transformers knows.
    """

    def __init__(self, datasets: Mapping[str, Dataset]) -> None:
        self.names, self.datasets = list(datasets), list(datasets.values())
        self.ends = list(accumulate(map(len, self.datasets)))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, number: int) -> tuple[int, Row]:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: list[int]) -> list[tuple[int, Row]]:
        place = bisect_right(self.ends, numbers[0])  # a batch is of one data set
        first = self.ends[place] - len(self.datasets[place])
        own = [number - first for number in numbers]
        rows = self.datasets[place].__getitems__(own)
        if len(self.names) > 1:
            rows = [row | {SOURCE: self.names[place]} for row in rows]
        return list(zip(own, rows, strict=True))


class _NumberedCollator:
    """Makes a batch of numbered rows: the numbers beside what another collator makes of the rows."""

    def __init__(self, collate: Callable[[list[Row]], dict[str, Any]]) -> None:
        self.collate = collate

    def __call__(self, numbered: list[tuple[int, Row]]) -> dict[str, Any]:
        numbers, rows = zip(*numbered, strict=True)
        return {**self.collate(list(rows)), ROWS: torch.tensor(numbers)}


def numbered_loader(
    datasets: Mapping[str, Dataset],
    batches: Sampler[list[int]],
    collate: Callable[[list[Row]], dict[str, Any]],
    loading: dict[str, Any],
) -> DataLoader[Any]:
    """Return a loader whose batches have the numbers of their rows, under :data:`ROWS`.

    Args:
        datasets: The rows by the name of their data set; of several, a batch has it, as
            :data:`fmicl_text.losses.columns.SOURCE`.
        batches: Which rows make a batch, and in which order; as without numbers. They count through all data sets, and
            those of a batch are of one.
        collate: Makes a batch of rows.
        loading: Further arguments of the loader: workers, pinned memory and the like.
    """
    return DataLoader(_NumberedRows(datasets), batch_sampler=batches, collate_fn=_NumberedCollator(collate), **loading)
