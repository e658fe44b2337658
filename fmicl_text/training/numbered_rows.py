"""Batches with the numbers of their rows in the data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

ROWS = "__rows__"
"""Key of a batch: its row numbers ``(B,)``, counted from 0."""

Row = dict[str, Any]


class _NumberedRows(TorchDataset[tuple[int, Row]]):
    """The rows of a data set, each with its number."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number: int) -> tuple[int, Row]:
        return number, self.dataset[number]

    def __getitems__(self, numbers: list[int]) -> list[tuple[int, Row]]:
        return list(zip(numbers, self.dataset.__getitems__(numbers), strict=True))


class _NumberedCollator:
    """Makes a batch of numbered rows: the numbers beside what another collator makes of the rows."""

    def __init__(self, collate: Callable[[list[Row]], dict[str, Any]]) -> None:
        self.collate = collate

    def __call__(self, numbered: list[tuple[int, Row]]) -> dict[str, Any]:
        numbers, rows = zip(*numbered, strict=True)
        return {**self.collate(list(rows)), ROWS: torch.tensor(numbers)}


def numbered_loader(
    dataset: Dataset,
    batches: Sampler[list[int]],
    collate: Callable[[list[Row]], dict[str, Any]],
    loading: dict[str, Any],
) -> DataLoader[Any]:
    """Return a loader whose batches have the numbers of their rows, under :data:`ROWS`.

    Args:
        dataset: The rows.
        batches: Which rows make a batch, and in which order; as without numbers.
        collate: Makes a batch of rows.
        loading: Further arguments of the loader: workers, pinned memory and the like.
    """
    return DataLoader(_NumberedRows(dataset), batch_sampler=batches, collate_fn=_NumberedCollator(collate), **loading)
