"""Training with the losses: in sentence-transformers' own trainer, and resumed in the one that keeps their state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors import safe_open
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from transformers import TrainerCallback

from fmicl_text import ContrastiveLoss, ContrastiveTrainer, FMICLLoss, InfoNCELoss

SUBJECTS = ["a dog", "the cat", "a man", "the woman", "a child", "the horse", "water", "a river"]
ROWS = {
    "anchor": [f"{s} {verb} in the park" for s in SUBJECTS for verb in ("runs", "sleeps")],
    "positive": [f"{s} {verb}" for s in SUBJECTS for verb in ("runs", "sleeps")],
    "negative": [f"{s} is very small" for s in SUBJECTS for _ in range(2)],
}
COLUMNS = {"views": ["anchor"], "pairs": ["anchor", "positive"], "triplets": ["anchor", "positive", "negative"]}


def trainer_of(
    loss: ContrastiveLoss,
    folder: Path,
    columns: str = "pairs",
    kind: type[SentenceTransformerTrainer] = SentenceTransformerTrainer,
    callbacks: list[TrainerCallback] | None = None,
    **arguments: Any,
) -> SentenceTransformerTrainer:
    """A trainer of 16 rows in batches of 4 on the CPU; two steps unless told otherwise."""
    settings = {"max_steps": 2, "save_strategy": "no"} | arguments
    return kind(
        model=loss.model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=4,
            learning_rate=1e-2,
            logging_steps=1,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            **settings,
        ),
        train_dataset=Dataset.from_dict({name: ROWS[name] for name in COLUMNS[columns]}),
        loss=loss,
        callbacks=callbacks,
    )


def copied(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in state.items()}


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("make", [FMICLLoss, InfoNCELoss])
def test_in_the_librarys_own_trainer(tiny_encoder, tmp_path: Path, make, columns: str):
    """In place of MultipleNegativesRankingLoss(model): it trains, and logs both terms."""
    before = copied(tiny_encoder.state_dict())
    trainer = trainer_of(make(tiny_encoder), tmp_path, columns)
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(steps) == 2
    for entry in steps:
        assert entry["loss"] == pytest.approx(entry["positive"] + entry["negative"], rel=1e-6, abs=2e-4)
        assert entry["grad_norm"] > 0
    assert any(not torch.equal(before[key], value) for key, value in tiny_encoder.state_dict().items())


def test_under_bf16(tiny_encoder, tmp_path: Path):
    trainer = trainer_of(FMICLLoss(tiny_encoder, head="mlp"), tmp_path, "views", bf16=True)
    assert torch.tensor(trainer.train().training_loss).isfinite()
    assert {p.dtype for p in trainer.loss.parameters()} == {torch.float32}


@pytest.mark.parametrize("make", [FMICLLoss, InfoNCELoss])
def test_head_and_width_are_trained_and_left_out_of_the_model(tiny_encoder, tmp_path: Path, make):
    loss = make(tiny_encoder, head="mlp", learn_kernel=True)
    before = copied(loss.own_state())
    trainer = trainer_of(loss, tmp_path / "run")
    trainer.train()
    optimised = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    owned = {name: p for name, p in loss.named_parameters() if not name.startswith("model.")}
    assert len(owned) == 3 and optimised >= {id(p) for p in owned.values()}
    assert all(not torch.equal(before[name], p) for name, p in owned.items())

    saved = tmp_path / "model"
    tiny_encoder.save_pretrained(str(saved))
    keys = {key for file in saved.rglob("*.safetensors") for key in safe_open(file, "pt").keys()}  # noqa: SIM118
    assert keys == set(tiny_encoder[0].auto_model.state_dict())
    texts = ROWS["anchor"]
    assert (SentenceTransformer(str(saved), device="cpu").encode(texts) == tiny_encoder.encode(texts)).all()


def test_model_card_names_the_loss_and_cites_it(tiny_encoder, tmp_path: Path):
    trainer = trainer_of(FMICLLoss(tiny_encoder, "kl", balance_cosine=0.25), tmp_path)
    trainer.train()
    trainer.create_model_card()
    card = (tmp_path / "README.md").read_text("utf-8")
    assert "FMICLLoss" in card and '"balance_cosine": 0.25' in card and "lu2023fmicl" in card


class StopAt(TrainerCallback):
    """An interruption: training ends after the given step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


def four_steps(path: Path, folder: Path, seed: int, **options: Any) -> ContrastiveTrainer:
    """A fresh encoder and loss with head, learned width and running average; checkpoints every two steps."""
    model = SentenceTransformer(str(path), device="cpu")
    torch.manual_seed(seed)
    loss = FMICLLoss(model, sigma=0.5, head="mlp", learn_kernel=True, alpha="auto")
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2} | options
    return trainer_of(loss, folder, "views", ContrastiveTrainer, **settings)


def test_resumed_is_uninterrupted_bit_by_bit(tiny_encoder_path: Path, tmp_path: Path):
    whole = four_steps(tiny_encoder_path, tmp_path / "whole", seed=1)
    whole.train()
    interrupted = four_steps(tiny_encoder_path, tmp_path / "halves", seed=1, callbacks=[StopAt(2)])
    interrupted.train()
    resumed = four_steps(tiny_encoder_path, tmp_path / "halves", seed=2)
    resumed.train(resume_from_checkpoint=True)

    assert interrupted.state.global_step == 2 and resumed.state.global_step == 4
    half, expected, state = (trainer.loss.state_dict() for trainer in (interrupted, whole, resumed))
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    assert all(not torch.equal(half[key], expected[key]) for key in whole.loss.own_state())
    losses = [[e["loss"] for e in t.state.log_history if "loss" in e] for t in (whole, resumed)]
    assert losses[0] == losses[1] and len(losses[0]) == 4


def test_checkpoints_hold_the_encoder_and_beside_it_the_losss_own_state(tiny_encoder_path: Path, tmp_path: Path):
    trainer = four_steps(tiny_encoder_path, tmp_path, seed=1, max_steps=2)
    trainer.train()
    with safe_open(tmp_path / "checkpoint-2" / "loss.safetensors", "pt") as file:
        assert set(file.keys()) == set(trainer.loss.own_state())
    again = SentenceTransformer(str(tmp_path / "checkpoint-2"), device="cpu")
    assert (again.encode(ROWS["anchor"]) == trainer.model.encode(ROWS["anchor"])).all()


@pytest.mark.parametrize(
    ("saved", "resumed"),
    [({"head": "mlp"}, {"learn_kernel": True}), ({}, {"head": "mlp"}), ({"head": "mlp"}, {})],
    ids=["other parts", "parts missing from the checkpoint", "parts missing from the loss"],
)
def test_resuming_with_other_parts_is_an_error(tiny_encoder_path: Path, tmp_path: Path, saved: dict, resumed: dict):
    def trainer(settings: dict, **options: Any) -> ContrastiveTrainer:
        loss = FMICLLoss(SentenceTransformer(str(tiny_encoder_path), device="cpu"), **settings)
        options |= {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
        return trainer_of(loss, tmp_path, kind=ContrastiveTrainer, **options)

    trainer(saved, callbacks=[StopAt(1)]).train()
    with pytest.raises(ValueError, match="head, kernel or alpha were configured differently"):
        trainer(resumed).train(resume_from_checkpoint=True)
