"""Samplers of training on several data sets at once, in the frame of sentence-transformers' own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate, count, islice
from typing import Any

from sentence_transformers.base.sampler import MultiDatasetDefaultBatchSampler
from torch.utils.data import BatchSampler

from fmicl_text.data.drawing import by_weight
from fmicl_text.errors import InputError


class WeightedBatchSampler(MultiDatasetDefaultBatchSampler):
    """Draws batches from each data set by its weight, see :func:`fmicl_text.data.drawing.by_weight`.

    An epoch has as many batches as all data sets together. A data set that ends begins again, shuffled anew, and the
    next epoch goes on where it stopped, so that all rows of a data set are drawn equally often.

    Args:
        args: As the parent has them.
        weights: Of the data sets, in their order.
        kwargs: As the parent has them.

    Raises:
        InputError: While batches are drawn, if the sampler of a data set makes none of it.
    """

    def __init__(self, *args: Any, weights: Sequence[float], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.weights = weights

    def __len__(self) -> int:
        return sum(map(len, self.batch_samplers))

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the epoch."""
        sources = list(islice(by_weight(self.weights), len(self)))
        drawn = Counter(sources)  # in every epoch
        batches = [self._batches(number, self.epoch * drawn[number]) for number in range(len(self.weights))]
        firsts = [0, *accumulate(map(len, self.dataset.datasets))]
        for number in sources:
            yield [firsts[number] + row for row in next(batches[number])]

    def _batches(self, number: int, done: int) -> Iterator[list[int]]:
        """Yield the batches of a data set, pass after pass, after those that earlier epochs had."""
        sampler = self.batch_samplers[number]
        first, skipped = divmod(done, len(sampler))
        for times in count(first):
            sampler.set_epoch(times)
            if self.generator is not None:  # all samplers share it, and draw their order when a pass begins
                self.generator.manual_seed(self.seed + times)
            rest = islice(sampler, skipped, None)
            batch = next(rest, None)
            if batch is None and not skipped:
                raise InputError(
                    f"data.train[{number}]: train.batch_sampler makes no batch of {sampler.batch_size} rows of it; "
                    "lower per_device_train_batch_size"
                )
            if batch is not None:
                yield batch
            yield from rest
            skipped = 0


class OwnRows(BatchSampler):
    """The rows of one process of batches that all processes have together.

    accelerate would give each process batches of its own, so that one step could compare rows of several data sets.

    Args:
        batches: Their number of rows is a multiple of the number of processes.
        process: Rank of this process.
        processes: How many train together.
    """

    def __init__(self, batches: BatchSampler, process: int, processes: int) -> None:
        super().__init__(batches.sampler, batches.batch_size // processes, batches.drop_last)
        self.batch_sampler, self.process, self.processes = batches, process, processes

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this process's part of each batch."""
        for batch in self.batch_sampler:
            rows = len(batch) // self.processes
            yield batch[self.process * rows : (self.process + 1) * rows]
