"""The data loaders of the trainer: of one data set, of several, of streams."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from datasets import Dataset, DatasetDict, IterableDataset
from sentence_transformers import SentenceTransformerTrainer
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader

from fmicl_text.data.stream_batches import StreamBatches, stream_loader
from fmicl_text.losses.identities import IdentityCollator
from fmicl_text.training.mixed_batches import OwnRows, WeightedBatchSampler
from fmicl_text.training.numbered_rows import numbered_loader


class Loaders:
    """Makes the loaders of a trainer, whose batches have the identities of their data and the numbers of their rows.

    Args:
        trainer: Its arguments, collator, samplers and accelerator count.
        weights: As :class:`fmicl_text.ContrastiveTrainer` has them.
    """

    def __init__(self, trainer: SentenceTransformerTrainer, weights: Mapping[str, float] | None) -> None:
        self.trainer, self.weights = trainer, weights

    def of_training(self, rows: Dataset | DatasetDict | IterableDataset, steps_done: int) -> DataLoader[Any]:
        """Return the batches of training; those of a stream last for all steps.

        Args:
            rows: Of one data set or of several, in memory or streams.
            steps_done: Those before the training was resumed, whose batches a stream leaves out.

        Raises:
            ValueError: If some data sets are streams and others are not, or if streams are trained on without
                ``max_steps``.
        """
        if isinstance(rows, IterableDataset):
            return self._of_streams({"": rows}, steps_done)
        if isinstance(rows, DatasetDict):
            streamed = [isinstance(of_one, IterableDataset) for of_one in rows.values()]
            if any(streamed) and not all(streamed):
                raise ValueError("either all data sets are streams, or none is")
            return self._of_streams(rows, steps_done) if all(streamed) else self._of_several(rows)
        self.trainer.accelerator.even_batches = False  # as sentence-transformers
        return self._of_one(rows, self.trainer.args.train_batch_size)

    def of_evaluation(self, rows: Dataset) -> DataLoader[Any]:
        """Return the batches of an evaluation."""
        self.trainer.accelerator.even_batches = True  # as sentence-transformers
        return self._of_one(rows, self.trainer.args.eval_batch_size)

    def _of_one(self, rows: Dataset, size: int) -> DataLoader[Any]:
        generator = torch.Generator().manual_seed(self.trainer.args.seed)
        batches = self._batches_of(rows, size, self.trainer.args.dataloader_drop_last, generator)
        loader: DataLoader[Any] = self.trainer.accelerator.prepare(
            numbered_loader({"": rows}, batches, self._collator(), self._settings())
        )
        return loader

    def _of_several(self, datasets: DatasetDict) -> DataLoader[Any]:
        args, generator = self.trainer.args, torch.Generator().manual_seed(self.trainer.args.seed)
        size, drop_last = args.train_batch_size * args.world_size, args.dataloader_drop_last or args.world_size > 1
        draw = self.trainer.get_multi_dataset_batch_sampler
        if self.weights is not None:
            draw = partial(WeightedBatchSampler, weights=[self.weights[name] for name in datasets])
        batches = draw(
            ConcatDataset(datasets.values()),
            batch_samplers=[self._batches_of(rows, size, drop_last, generator) for rows in datasets.values()],
            generator=generator,
            seed=args.seed,
        )
        own = OwnRows(batches, args.process_index, args.world_size)
        loader = numbered_loader(datasets, own, self._collator(), self._settings())
        return self._prepared(loader)

    def _of_streams(self, streams: Mapping[str, IterableDataset], steps_done: int) -> DataLoader[Any]:
        args = self.trainer.args
        if args.max_steps < 1:
            raise ValueError(f"max_steps must be at least 1 to train on a stream, got {args.max_steps}")
        weights = None if self.weights is None else [self.weights[name] for name in streams]
        batches = StreamBatches(streams, args.train_batch_size, args.process_index, args.world_size, weights)
        batches.length = args.max_steps * args.gradient_accumulation_steps
        if not args.ignore_data_skip:  # transformers asks for these batches again, and leaves them out
            batches.skipped = steps_done * args.gradient_accumulation_steps
        no_rows: Any = []
        settings: DataLoader[Any] = DataLoader(no_rows, collate_fn=self._collator(), **self._settings())
        return self._prepared(stream_loader(settings, batches))

    def _prepared(self, loader: DataLoader[Any]) -> DataLoader[Any]:
        """Let accelerate put batches on the device that are divided among processes already.

        It would otherwise divide them again, split the files of a stream, or wait for the first process.
        """
        accelerator = self.trainer.accelerator
        return prepare_data_loader(
            loader,
            accelerator.device,
            num_processes=1,
            process_index=0,
            put_on_device=True,
            dispatch_batches=False,
            non_blocking=accelerator.non_blocking,
        )

    def _batches_of(self, rows: Dataset, size: int, drop_last: bool, generator: torch.Generator) -> BatchSampler:
        return self.trainer.get_batch_sampler(
            rows,
            batch_size=size,
            drop_last=drop_last,
            valid_label_columns=self.trainer.data_collator.valid_label_columns,
            generator=generator,
            seed=self.trainer.args.seed,
        )

    def _collator(self) -> IdentityCollator:
        return IdentityCollator(self.trainer.data_collator)

    def _settings(self) -> dict[str, Any]:
        args = self.trainer.args
        return {
            "multiprocessing_context": getattr(args, "dataloader_multiprocessing_context", None),  # not in 5.0
            "num_workers": args.dataloader_num_workers,
            "pin_memory": args.dataloader_pin_memory,
            "prefetch_factor": args.dataloader_prefetch_factor,
            "persistent_workers": args.dataloader_persistent_workers,
        }


def set_epoch(loader: Any, epoch: int) -> None:
    """Tell every sampler of a loader the epoch, which decides the order of its rows.

    Of several processes that resume, accelerate would leave the innermost in the order of the first epoch.
    """
    sampler = loader.batch_sampler
    while sampler is not None:
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        sampler = getattr(sampler, "batch_sampler", getattr(sampler, "sampler", None))
