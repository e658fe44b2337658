"""Batches of a stream: pass after pass, the same for any number of processes and workers, and resumed exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Any

import pyarrow as pa
from datasets import IterableDataset
from torch.utils.data import DataLoader, get_worker_info
from torch.utils.data import IterableDataset as TorchIterableDataset

from fmicl_text.data.drawing import by_weight
from fmicl_text.losses.columns import SOURCE
from fmicl_text.text import one_line

Row = dict[str, Any]

_READ_AT_ONCE = 1000  # rows


class StreamError(ValueError):
    """A stream cannot be read further, or has a row that cannot be trained on; the message is one line."""


class StreamBatches(TorchIterableDataset[list[Row] | None]):
    """The batches of one process: the rows of streams, pass after pass, each pass in another order.

    A batch is of one stream, whose name its rows have if there are several; see :func:`by_weight` for which one.

    Batches are always full: one may hold the last rows of a pass and the first of the next. Every process and every
    worker reads the whole stream and keeps its own batches, which is cheap compared with tokenising. So the order of
    the rows depends on the stream alone, and after any number of batches, the next rows are the same in a resumed
    training, in spite of the shuffling buffer.

    Args:
        streams: The rows by the name of their stream, shuffled or not; ``set_epoch`` decides the order of a pass, if it
            is shuffled.
        size: Rows of a batch.
        process: Rank of this process; the processes take consecutive batches of the stream.
        processes: How many train together.
        weights: Of the streams, in their order; default: all equal.

    Attributes:
        skipped: Number of batches to skip; ``None`` is yielded for each.
        length: Number of batches after which the loader ends; None if never.
    """

    def __init__(
        self,
        streams: Mapping[str, IterableDataset],
        size: int,
        process: int,
        processes: int,
        weights: Sequence[float] | None = None,
    ) -> None:
        self.streams, self.size, self.process, self.processes = streams, size, process, processes
        self.weights = weights or [1.0] * len(streams)
        self.skipped = 0
        self.length: int | None = None

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("a stream without a length has no number of batches")
        return self.length

    def __iter__(self) -> Iterator[list[Row] | None]:
        """Yield this worker's batches; the loader takes one from each worker in turn.

        Raises:
            StreamError: If the stream cannot be read, or is empty.
        """
        worker = get_worker_info()
        own, workers = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        names = list(self.streams)
        batches = [_cut(_passes(stream), self.size * self.processes) for stream in self.streams.values()]
        for number, source in enumerate(islice(by_weight(self.weights), self.length)):
            table = next(batches[source])
            if number % workers == own:
                yield None if number < self.skipped else self._own_rows(table, names[source])

    def _own_rows(self, batch: pa.Table, source: str) -> list[Row]:
        rows: list[Row] = batch.slice(self.process * self.size, self.size).to_pylist()
        return [row | {SOURCE: source} for row in rows] if len(self.streams) > 1 else rows


class _Collator:
    """Collates rows as another collator does, and returns an empty batch for a skipped one."""

    def __init__(self, collate: Callable[[list[Row]], dict[str, Any]]) -> None:
        self.collate = collate

    def __call__(self, rows: list[Row] | None) -> dict[str, Any]:
        return {} if rows is None else self.collate(rows)


def stream_loader(loader: DataLoader[Any], batches: StreamBatches) -> DataLoader[Any]:
    """Return a loader of a stream's batches with the settings of another loader."""
    return DataLoader(
        batches,
        batch_size=None,  # they are batches already
        collate_fn=_Collator(loader.collate_fn),
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
        multiprocessing_context=loader.multiprocessing_context,
    )


def _passes(stream: IterableDataset) -> Iterator[pa.Table]:
    for epoch in count():
        tables = stream.with_format("arrow")  # a copy; the epoch of the original is shared by all workers
        tables.set_epoch(epoch)
        rows = 0
        try:
            for table in tables.iter(batch_size=_READ_AT_ONCE):
                rows += len(table)
                yield table
        except StreamError:
            raise
        except Exception as error:  # readers of several formats and of the network may raise anything
            raise StreamError(f"cannot be read further: {type(error).__name__}: {one_line(error)}") from error
        if not rows:
            raise StreamError("has no rows")


def _cut(tables: Iterator[pa.Table], size: int) -> Iterator[pa.Table]:
    """Regroup tables into ones of ``size`` rows, across their boundaries."""
    rest: list[pa.Table] = []
    for table in tables:
        joined = pa.concat_tables([*rest, table])
        whole = len(joined) - len(joined) % size
        for start in range(0, whole, size):
            yield joined.slice(start, size)
        rest = [joined.slice(whole)]
