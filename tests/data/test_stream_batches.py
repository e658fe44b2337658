"""Batches of a stream: every row once a pass, the same for any number of workers and processes, resumed exactly."""

from __future__ import annotations

import traceback
from itertools import islice
from pathlib import Path

import pytest
import torch
from datasets import Dataset, IterableDataset
from sentence_transformers import SentenceTransformer
from test_trainer import ROWS, StopAt, copied, trainer_of
from torch.utils.data import DataLoader

from fmicl_text import ContrastiveTrainer, FMICLLoss, InfoNCELoss
from fmicl_text.data.stream_batches import StreamBatches, StreamError, stream_loader
from fmicl_text.losses import identities
from fmicl_text.training.numbered_rows import ROWS as NUMBERS

pytestmark = pytest.mark.usefixtures("blank_pictures")

N = 50  # rows, in shards of 17 and 16; no multiple of the batch


def stream(seed: int = 1) -> IterableDataset:
    rows = Dataset.from_dict({"number": list(range(N))}).to_iterable_dataset(num_shards=3)
    return rows.shuffle(seed=seed, buffer_size=8)


def numbers(batches: StreamBatches, count: int, workers: int = 0) -> list[list[int] | None]:
    """The rows of the first batches, as the trainer's loader has them; None is a skipped batch."""
    loader = DataLoader([], collate_fn=lambda rows: {"rows": [row["number"] for row in rows]}, num_workers=workers)
    loaded = stream_loader(loader, batches)
    return [batch.get("rows") for batch in islice(loaded, count)]


def test_each_batch_is_of_one_of_several_streams():
    """In their proportions, each in its own order; also for several workers and processes, and on resuming."""
    alone = {name: numbers(StreamBatches({"": stream(seed)}, 8, 0, 1), 12) for name, seed in (("a", 1), ("b", 2))}

    def mixed(
        size: int, process: int, processes: int, workers: int = 0, skipped: int = 0
    ) -> list[tuple[str, list[int]]]:
        batches = StreamBatches({"a": stream(1), "b": stream(2)}, size, process, processes, weights=[2, 1])
        batches.skipped = skipped

        def collate(rows: list[dict]) -> dict:
            (name,) = {row["dataset_name"] for row in rows}
            return {"rows": (name, [row["number"] for row in rows])}

        loaded = stream_loader(DataLoader([], collate_fn=collate, num_workers=workers), batches)
        return [batch.get("rows") for batch in islice(loaded, 12)]

    one = mixed(8, 0, 1)
    assert [name for name, _ in one] == ["a", "b", "a"] * 4
    assert {name: [rows for of, rows in one if of == name] for name in "ab"} == {
        "a": alone["a"][:8],
        "b": alone["b"][:4],
    }
    assert mixed(8, 0, 1, workers=2) == one and mixed(8, 0, 1, skipped=5) == [None] * 5 + one[5:]
    left, right = mixed(4, 0, 2), mixed(4, 1, 2)
    assert [(name, a + b) for (name, a), (_, b) in zip(left, right, strict=True)] == one


def test_each_pass_has_every_row_once_in_another_order():
    batches = numbers(StreamBatches({"": stream()}, 8, 0, 1), 25)
    assert {len(batch) for batch in batches} == {8}
    rows = [row for batch in batches for row in batch]
    passes = [rows[start : start + N] for start in range(0, len(rows), N)]
    assert len(passes) == 4 and all(sorted(one) == list(range(N)) for one in passes)
    assert len({tuple(one) for one in [*passes, range(N)]}) == 5
    assert batches == numbers(StreamBatches({"": stream()}, 8, 0, 1), 25), "the seed decides"
    assert batches != numbers(StreamBatches({"": stream(seed=2)}, 8, 0, 1), 25)


def test_workers_and_processes_change_nothing():
    one = numbers(StreamBatches({"": stream()}, 8, 0, 1), 25)
    assert numbers(StreamBatches({"": stream()}, 8, 0, 1), 25, workers=2) == one
    left, right = (numbers(StreamBatches({"": stream()}, 4, process, 2), 25, workers=process) for process in range(2))
    assert [a + b for a, b in zip(left, right, strict=True)] == one


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_batches_are_only_counted(workers: int):
    batches = StreamBatches({"": stream()}, 8, 0, 1)
    batches.skipped = 10
    found = numbers(batches, 25, workers)
    assert found == [None] * 10 + numbers(StreamBatches({"": stream()}, 8, 0, 1), 25)[10:]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_empty_stream_is_an_error_and_no_endless_search(workers: int):
    empty = Dataset.from_dict({"number": [1, 2]}).to_iterable_dataset().filter(lambda row: False)
    with pytest.raises(StreamError, match="has no rows") as caught:
        numbers(StreamBatches({"": empty}, 8, 0, 1), 1, workers)
    traceback.clear_frames(caught.tb)  # the loader ends its workers now, rather than in a later test


def stream_trainer(path: Path, folder: Path, **options) -> ContrastiveTrainer:
    model = SentenceTransformer(str(path), device="cpu")
    loss = FMICLLoss(model, sigma=0.5, alpha="auto")
    trainer = trainer_of(loss, folder, kind=ContrastiveTrainer, max_steps=10, save_strategy="steps", **options)
    rows = Dataset.from_dict({name: ROWS[name] for name in ("anchor", "positive")})
    trainer.train_dataset = rows.to_iterable_dataset(num_shards=2).shuffle(seed=3, buffer_size=5)
    return trainer


@pytest.mark.parametrize("step", [3, 6], ids=["first pass", "second pass"])
@pytest.mark.parametrize("settings", [{}, {"dataloader_num_workers": 2, "gradient_accumulation_steps": 2}])
def test_resumed_is_uninterrupted_bit_by_bit(tiny_encoder_path: Path, tmp_path: Path, step: int, settings: dict):
    """A pass of 16 rows is 4 batches, so that a training of 10 steps or 20 batches sees every row twice or more."""
    whole = stream_trainer(tiny_encoder_path, tmp_path / "whole", save_steps=step, **settings)
    whole.train()
    stop = {"save_steps": step, **settings}
    stream_trainer(tiny_encoder_path, tmp_path / "halves", callbacks=[StopAt(step)], **stop).train()
    resumed = stream_trainer(tiny_encoder_path, tmp_path / "halves", **stop)
    resumed.train(resume_from_checkpoint=True)
    expected, actual = copied(whole.model.state_dict()), resumed.model.state_dict()
    assert all(torch.equal(expected[key], actual[key]) for key in expected)
    assert resumed.callback_handler.train_dataloader.dataset.skipped == step * settings.get(
        "gradient_accumulation_steps", 1
    )
    logged = [[entry["loss"] for entry in t.state.log_history if "loss" in entry] for t in (whole, resumed)]
    assert logged[0] == logged[1] and len(logged[0]) == 10


@pytest.mark.parametrize("make", [FMICLLoss, InfoNCELoss])
def test_duplicates_are_masked_as_in_other_data(tiny_encoder, tmp_path: Path, monkeypatch, make):
    """Two of four rows are the same: the loss of a stream is that of a data set, and without the mask another."""
    tiny_encoder.eval()
    rows = Dataset.from_dict({name: [ROWS[name][i] for i in (0, 1, 0, 2)] for name in ("anchor", "positive")})

    def loss_on(data: Dataset | IterableDataset) -> float:
        trainer = trainer_of(make(tiny_encoder), tmp_path, kind=ContrastiveTrainer, max_steps=1)
        trainer.train_dataset = data
        return trainer.compute_loss(tiny_encoder, next(iter(trainer.get_train_dataloader()))).item()

    masked = loss_on(rows.to_iterable_dataset())
    assert masked == pytest.approx(loss_on(rows), rel=1e-5)
    monkeypatch.setattr(identities, "identities", lambda column: torch.arange(len(column)))
    assert masked != pytest.approx(loss_on(rows.to_iterable_dataset()), rel=1e-2)


def test_workers_read_every_row_of_other_data_once_an_epoch(tiny_encoder, tmp_path: Path):
    trainer = trainer_of(InfoNCELoss(tiny_encoder), tmp_path, kind=ContrastiveTrainer, dataloader_num_workers=2)
    loader = trainer.get_train_dataloader()
    epochs = [[int(row) for batch in loader for row in batch[NUMBERS]] for _ in range(2)]
    assert all(sorted(epoch) == list(range(16)) for epoch in epochs) and epochs[0] != epochs[1]


@pytest.mark.parametrize("streamed", [False, True])
def test_identities_are_of_the_data_before_prompts(tiny_encoder, tmp_path: Path, streamed: bool):
    """A text that stands in both columns is one text, whatever prompt is put before it."""
    rows = Dataset.from_dict({"anchor": ["a dog", "a cat", "a man", "a dog"], "positive": ["a cat", "a dog", "a", "a"]})
    prompts = {"anchor": "the big ", "positive": "the small "}
    trainer = trainer_of(InfoNCELoss(tiny_encoder), tmp_path, kind=ContrastiveTrainer, prompts=prompts)
    trainer.train_dataset = rows.to_iterable_dataset() if streamed else rows
    batch = next(iter(trainer.get_train_dataloader()))
    texts = dict(zip(("anchor", "positive"), rows.to_dict().values(), strict=True))
    order = batch[NUMBERS].tolist() if not streamed else range(4)
    expected = [texts[column][row] for column in texts for row in order]
    found = [int(one) for column in texts for one in batch[f"{column}_identity"]]
    assert len(set(found)) == 4
    assert all((found[i] == found[j]) == (expected[i] == expected[j]) for i in range(8) for j in range(8))
