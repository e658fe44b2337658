"""Training with the losses: in sentence-transformers' own trainer, and resumed in the one that keeps their state."""

from __future__ import annotations

import pickle
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.evaluation import BaseEvaluator
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import T5Config, T5EncoderModel, TrainerCallback

from fmicl_text import Adaptation, Annealing, ContrastiveLoss, ContrastiveTrainer, FMICLLoss, InfoNCELoss, Region
from fmicl_text.cli import main
from fmicl_text.core import GaussianKernel, fmicl
from fmicl_text.errors import RunFailedError
from fmicl_text.losses import LOSSES, NonFiniteEmbeddings
from fmicl_text.training import checkpoints
from fmicl_text.training.non_finite import NonFiniteError, last_good_checkpoint

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
    evaluator: BaseEvaluator | None = None,
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
        evaluator=evaluator,
    )


def names_in(folder: Path) -> set[str]:
    return {key for file in folder.rglob("*.safetensors") for key in safe_open(file, "pt").keys()}  # noqa: SIM118


def copied(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in state.items()}


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("make", [FMICLLoss, LOSSES["kernel-infonce"]])
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


@pytest.mark.parametrize(
    "settings",
    [{"head": "mlp"}, {"mini_batch_size": 2}, {"queue": 8}, {"queue": 8, "mini_batch_size": 2}, {"learn_kernel": True}],
    ids=str,
)
@pytest.mark.parametrize("kind", [SentenceTransformerTrainer, ContrastiveTrainer])
def test_under_bf16(tiny_encoder, tmp_path: Path, kind, settings: dict):
    """accelerate puts a forward pass of its own in the place of the encoder's then."""
    trainer = trainer_of(FMICLLoss(tiny_encoder, **settings), tmp_path, "views", kind, bf16=True)
    queue = trainer.loss.queue
    assert torch.tensor(trainer.train().training_loss).isfinite()
    assert {p.dtype for p in trainer.loss.parameters()} == {torch.float32}
    # accelerate's autocast is that of the encoder that trains, and the library's trainer does not say that there is one
    assert queue is None or queue.precision == (torch.bfloat16 if kind is ContrastiveTrainer else None)


@pytest.mark.parametrize("bf16", [False, True])
def test_the_gradient_cache_moves_the_encoder_as_the_whole_batch_does(
    tiny_encoder_path: Path, tmp_path: Path, bf16: bool
):
    moved = []
    for size in (None, 2):
        model = SentenceTransformer(str(tiny_encoder_path), device="cpu")
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        before = torch.cat([p.detach().flatten() for p in model.parameters()])
        loss = FMICLLoss(model, mini_batch_size=size)
        trainer_of(loss, tmp_path, bf16=bf16, optim="sgd", max_steps=1, max_grad_norm=0.0).train()
        moved.append(torch.cat([p.detach().flatten() for p in model.parameters()]) - before)
    whole, cached = moved
    assert whole.norm() > 0 and (whole - cached).norm() < (0.05 if bf16 else 1e-4) * whole.norm()


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
    tiny_encoder[0].auto_model.save_pretrained(tmp_path / "encoder")  # transformers decides what weights are called
    assert names_in(saved) == names_in(tmp_path / "encoder")
    assert len(names_in(saved)) == len(tiny_encoder[0].auto_model.state_dict())
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


ADAPTING = {"region": Adaptation(Region(0.2), delta=0.2, window=2)}
EVERYTHING = {"queue": 12, "momentum": 0.9, "region": Annealing(Region(0.5, 0.3), steps=4), "mini_batch_size": 3}


def four_steps(path: Path, folder: Path, seed: int, common: dict | None = None, **options: Any) -> ContrastiveTrainer:
    """A fresh encoder and loss with head, learned width and running average; checkpoints every two steps."""
    model = SentenceTransformer(str(path), device="cpu")
    torch.manual_seed(seed)
    loss = FMICLLoss(model, sigma=0.5, head="mlp", learn_kernel=True, alpha="auto", **(common or {}))
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2} | options
    return trainer_of(loss, folder, "views", ContrastiveTrainer, **settings)


@pytest.mark.parametrize(
    "common", [{}, EVERYTHING, ADAPTING], ids=["plain", "queue, annealing, mini-batches", "adaptation"]
)
@pytest.mark.parametrize("accumulated", [1, 2])
def test_resumed_is_uninterrupted_bit_by_bit(tiny_encoder_path: Path, tmp_path: Path, common: dict, accumulated: int):
    settings = {"common": common, "gradient_accumulation_steps": accumulated}
    whole = four_steps(tiny_encoder_path, tmp_path / "whole", seed=1, **settings)
    whole.train()
    interrupted = four_steps(tiny_encoder_path, tmp_path / "halves", seed=1, callbacks=[StopAt(2)], **settings)
    interrupted.train()
    resumed = four_steps(tiny_encoder_path, tmp_path / "halves", seed=2, **settings)
    resumed.train(resume_from_checkpoint=True)

    assert interrupted.state.global_step == 2 and resumed.state.global_step == 4
    half, expected, state = (trainer.loss.state_dict() for trainer in (interrupted, whole, resumed))
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    moved = [key for key in whole.loss.own_state() if not torch.equal(half[key], expected[key])]
    assert {"kernel.log_temperature", "alpha.mean_ratio", "head.0.weight"} <= set(moved)
    if common:
        assert int(whole.loss.moving_region.begun) == 4  # a training step each, however many micro-batches
    if "queue" in common:
        queues = [trainer.loss.queue.waiting() for trainer in (whole, resumed)]
        assert all(torch.equal(queues[0][key], queues[1][key]) for key in queues[0])
        assert int(queues[0]["pushed"]) == 4 * accumulated * 2 * 4
    losses = [[e["loss"] for e in t.state.log_history if "loss" in e] for t in (whole, resumed)]
    assert losses[0] == losses[1] and len(losses[0]) == 4


def test_checkpoints_hold_the_encoder_and_beside_it_the_losss_own_state(tiny_encoder_path: Path, tmp_path: Path):
    trainer = four_steps(tiny_encoder_path, tmp_path, seed=1, max_steps=2)
    trainer.train()
    with safe_open(tmp_path / "checkpoint-2" / "loss.safetensors", "pt") as file:
        assert set(file.keys()) == set(trainer.loss.own_state())
    again = SentenceTransformer(str(tmp_path / "checkpoint-2"), device="cpu")
    assert (again.encode(ROWS["anchor"]) == trainer.model.encode(ROWS["anchor"])).all()


class Scores(BaseEvaluator):
    """Gives one score after another, whatever the model."""

    def __init__(self, *scores: float) -> None:
        super().__init__()
        self.scores = list(scores)

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        return {"score": self.scores.pop(0)}


@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("best", [1, 2, 4])
def test_the_best_checkpoint_is_never_deleted(tiny_encoder_path: Path, tmp_path: Path, best: int, limit: int):
    model = SentenceTransformer(str(tiny_encoder_path), device="cpu")
    scores = Scores(*(1.0 if step == best else 0.5 for step in range(1, 5)))
    options = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    options |= {"load_best_model_at_end": True, "metric_for_best_model": "score", "save_total_limit": limit}
    trainer = trainer_of(FMICLLoss(model), tmp_path, kind=ContrastiveTrainer, evaluator=scores, max_steps=4, **options)
    trainer.train()
    kept = {path.name for path in tmp_path.glob("checkpoint-*")}
    last = {"checkpoint-4"} if limit > 1 else set()  # of one, the library leaves the best when training is over
    assert {f"checkpoint-{best}"} | last <= kept and len(kept) <= limit
    weights = SentenceTransformer(str(tmp_path / f"checkpoint-{best}"), device="cpu").state_dict()
    ends_with = model.state_dict()
    assert weights and all(torch.equal(value, ends_with[name]) for name, value in weights.items())
    assert trainer.state.best_model_checkpoint == str(tmp_path / f"checkpoint-{best}")


def test_a_run_stopped_before_it_deleted_spare_checkpoints_deletes_them_at_its_end(
    tiny_encoder_path: Path, tmp_path: Path
):
    """After its last step, when it writes no further checkpoint."""
    options = {"seed": 1, "save_steps": 1}
    four_steps(tiny_encoder_path, tmp_path, **options).train()
    assert len(list(tmp_path.glob("checkpoint-*"))) == 4
    four_steps(tiny_encoder_path, tmp_path, **options, save_total_limit=2).train(resume_from_checkpoint=True)
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-3", "checkpoint-4"}


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
    with pytest.raises(ValueError, match="head, kernel, alpha, queue or region were configured differently"):
        trainer(resumed).train(resume_from_checkpoint=True)


def test_a_queue_of_a_lost_process_begins_empty(tiny_encoder_path: Path, tmp_path: Path, caplog):
    """More processes than before: a warning, and the rest is resumed."""
    four_steps(tiny_encoder_path, tmp_path, seed=1, common=EVERYTHING, max_steps=2).train()
    (tmp_path / "checkpoint-2" / "queue-0.safetensors").unlink()
    resumed = four_steps(tiny_encoder_path, tmp_path, seed=1, common=EVERYTHING, max_steps=3)
    resumed.train(resume_from_checkpoint=True)
    assert int(resumed.loss.queue.pushed) == 8
    assert "queue-0.safetensors is missing: the queue of this process begins empty" in caplog.text


def test_tied_weights_of_the_moving_average_are_saved(tiny_encoder, tmp_path: Path):
    """T5 has one matrix under two names, and safetensors refuses tensors that share memory."""
    config = T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    T5EncoderModel(config).save_pretrained(tmp_path / "t5")
    tiny_encoder.tokenizer.save_pretrained(tmp_path / "t5")
    model = SentenceTransformer(modules=[Transformer(str(tmp_path / "t5")), Pooling(32)], device="cpu")
    trainer = trainer_of(InfoNCELoss(model, queue=8), tmp_path, kind=ContrastiveTrainer)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    assert load_file(tmp_path / "saved" / "loss.safetensors").keys() == trainer.loss.own_state().keys()


def test_each_loss_of_a_dictionary_is_resumed(tiny_encoder_path: Path, tmp_path: Path):
    """One for each data set, with heads, widths and queues of their own; NaN in the second one is seen too."""

    def trainer(folder: str, seed: int, **options: Any) -> ContrastiveTrainer:
        model = SentenceTransformer(str(tiny_encoder_path), device="cpu")
        torch.manual_seed(seed)
        losses = {
            "first": FMICLLoss(model, sigma=0.5, head="mlp", learn_kernel=True, alpha="auto", queue=8),
            "second": InfoNCELoss(model, learn_kernel=True, queue=12),
        }
        settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2} | options
        made = trainer_of(losses["first"], tmp_path / folder, kind=ContrastiveTrainer, **settings)
        rows = made.train_dataset
        return ContrastiveTrainer(
            model=model,
            args=made.args,
            train_dataset={"first": rows, "second": rows.select(range(8))},
            loss=losses,
            callbacks=options.get("callbacks"),
        )

    whole = trainer("whole", 1)
    whole.train()
    trainer("halves", 1, callbacks=[StopAt(2)]).train()
    resumed = trainer("halves", 2)
    resumed.train(resume_from_checkpoint=True)
    for name, loss in whole.loss.items():
        expected, state = loss.own_state(), resumed.loss[name].own_state()
        assert len(expected) > 1 and all(torch.equal(state[key], expected[key]) for key in expected), name
        waiting, expected = resumed.loss[name].queue.waiting(), loss.queue.waiting()
        assert all(torch.equal(waiting[key], expected[key]) for key in expected), name
    logs = [[entry for entry in t.state.log_history if "loss" in entry] for t in (whole, resumed)]
    assert logs[0] == logs[1]

    broken = trainer("nan", 1)
    broken.loss["second"].kernel.log_temperature.register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(NonFiniteError, match="the gradient has a norm of nan"):
        broken.train()


def test_a_pickle_with_a_forged_seal_is_an_error_in_words(tiny_encoder_path: Path, tmp_path: Path):
    """And its code does not run."""
    four_steps(tiny_encoder_path, tmp_path, seed=1, max_steps=2).train()
    checkpoint = tmp_path / "checkpoint-2"
    (checkpoint / "optimizer.pt").write_bytes(pickle.dumps(Touching(tmp_path / "ran")))
    checkpoints.seal(checkpoint)
    with pytest.raises(RunFailedError, match=r"checkpoint-2 cannot be loaded: .*[Ww]eights"):
        four_steps(tiny_encoder_path, tmp_path, seed=1).train(resume_from_checkpoint=True)
    assert not (tmp_path / "ran").exists()


def test_an_optimizer_of_other_parameters_is_refused(tiny_encoder_path: Path, tmp_path: Path):
    """A head's weights came after the encoder's in checkpoints of version 0.1.0; torch's fused Adam would crash."""
    four_steps(tiny_encoder_path, tmp_path, seed=1, max_steps=2).train()
    file = tmp_path / "checkpoint-2" / "optimizer.pt"
    saved = torch.load(file, weights_only=True)
    first, *others = saved["param_groups"][0]["params"]
    numbers = dict(zip([*others, first], saved["param_groups"][0]["params"], strict=True))
    saved["state"] = {numbers.get(number, number): state for number, state in saved["state"].items()}
    torch.save(saved, file)
    checkpoints.seal(file.parent)
    with pytest.raises(RunFailedError, match=r"checkpoint-2 cannot be resumed: .* in another order"):
        four_steps(tiny_encoder_path, tmp_path, seed=1).train(resume_from_checkpoint=True)


class Touching:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_a_folder_that_is_not_sealed_is_not_resumed_from(tiny_encoder_path: Path, tmp_path: Path):
    four_steps(tiny_encoder_path, tmp_path, seed=1, max_steps=2, save_steps=1).train()
    (tmp_path / "checkpoint-2" / "seal.json").unlink()
    trainer = four_steps(tiny_encoder_path, tmp_path, seed=1, max_steps=3)
    trainer.train(resume_from_checkpoint=True)
    assert trainer._resumed == tmp_path / "checkpoint-1"
    with pytest.raises(ValueError, match="no sealed checkpoint to resume from"):
        four_steps(tiny_encoder_path, tmp_path / "other", seed=1).train(resume_from_checkpoint=True)


def test_a_model_alone_is_not_resumed_from(tiny_encoder_path: Path, tmp_path: Path):
    """The library would begin with a fresh optimizer and schedule, and say nothing."""
    four_steps(tiny_encoder_path, tmp_path, seed=1, max_steps=1, save_only_model=True).train()
    with pytest.raises(ValueError, match=r"checkpoint-1 has the model alone, as save_only_model asked"):
        four_steps(tiny_encoder_path, tmp_path, seed=1).train(resume_from_checkpoint=True)


@pytest.mark.parametrize("kind", ["pairs", "stream"])
def test_a_training_that_was_done_is_not_trained_further(tiny_encoder_path: Path, tmp_path: Path, kind: str):
    """Stopped after its last checkpoint, in the middle of an epoch, and resumed."""

    def trainer() -> ContrastiveTrainer:
        made = four_steps(tiny_encoder_path, tmp_path, seed=1, max_steps=3)
        if kind == "stream":
            made.train_dataset = made.train_dataset.to_iterable_dataset()
        return made

    first = trainer()
    first.train()
    again = trainer()
    again.train(resume_from_checkpoint=True)
    expected, state = first.model.state_dict(), again.model.state_dict()
    assert again.state.global_step == 3 and all(torch.equal(state[key], expected[key]) for key in expected)
    logs = [[e.get("loss", e.get("train_loss")) for e in t.state.log_history] for t in (first, again)]
    assert logs[1] == [*logs[0][:3], logs[0][-1], logs[0][-1]] or logs[0] == logs[1]


def test_a_gradient_whose_norm_overflows_stops(tiny_encoder, tmp_path: Path):
    """Clipping would make a gradient of zeros of it, and train on."""
    loss = InfoNCELoss(tiny_encoder)
    for parameter in tiny_encoder.parameters():
        parameter.register_hook(lambda gradient: gradient * 1e30)
    with pytest.raises(NonFiniteError, match="the gradient has a norm of inf"):
        trainer_of(loss, tmp_path, kind=ContrastiveTrainer).train()


# NaN and infinity ---------------------------------------------------------------------------------------------------

POISON = "guitar"
POISONED = 6  # the row that has it


def poisoned(model: SentenceTransformer) -> SentenceTransformer:
    """An encoder that gives NaN for every text with one word."""
    with torch.no_grad():
        token = model.tokenizer.convert_tokens_to_ids(POISON)
        model[0].auto_model.get_input_embeddings().weight[token] = torch.nan
    return model


def rows_with_poison() -> Dataset:
    rows = {name: list(ROWS[name]) for name in COLUMNS["pairs"]}
    rows["positive"][POISONED] = f"a {POISON}\twith [red]\x1b in the water and near the " + "big house " * 20
    return Dataset.from_dict(rows)


@pytest.mark.parametrize("workers", [0, 2])
def test_nan_in_embeddings_stops_with_step_rows_and_text(tiny_encoder, tmp_path: Path, workers: int):
    """The step is the one that reads the row, in the order that the sampler draws."""
    settings = {"max_steps": 4, "dataloader_num_workers": workers, "save_strategy": "steps", "save_steps": 1}
    trainer = trainer_of(InfoNCELoss(tiny_encoder), tmp_path, kind=ContrastiveTrainer, **settings)
    trainer.train_dataset = rows_with_poison()
    order = [row for batch in trainer.get_train_dataloader().batch_sampler for row in batch]
    step = order.index(POISONED) // 4 + 1
    trainer.add_callback(PoisonAt(step))
    with pytest.raises(NonFiniteError) as stopped:
        trainer.train()
    traceback.clear_frames(stopped.tb)  # the loader ends its workers now, rather than in a later test
    error, message = stopped.value, str(stopped.value)
    assert isinstance(error.__cause__, NonFiniteEmbeddings)
    assert (error.step, error.rows) == (step, order[4 * step - 4 : 4 * step])
    assert message.startswith(f"training stopped at step {step}: the encoder gave NaN or infinity for 1 of 4 rows")
    assert f"row {POISONED}: '{ROWS['anchor'][POISONED]}' | 'a {POISON} with " in message and message.isascii()
    assert f"rows of the batch: {', '.join(map(str, error.rows))}" in message
    good = tmp_path / f"checkpoint-{step - 1}" if step > 1 else None
    assert error.checkpoint == good and f"last good checkpoint: {good or 'none yet'}" in message
    assert max(map(len, message.splitlines())) < 250 and "\x1b" not in message and "\t" not in message


class PoisonAt(TrainerCallback):
    """The word's vector becomes NaN just before a step, after the checkpoint of the step before."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args, state, control, model, **kwargs):
        if state.global_step + 1 == self.step:
            poisoned(model)


def test_nan_in_a_stream_shows_the_texts(tiny_encoder, tmp_path: Path):
    trainer = trainer_of(InfoNCELoss(poisoned(tiny_encoder)), tmp_path, kind=ContrastiveTrainer, max_steps=4)
    trainer.train_dataset = rows_with_poison().to_iterable_dataset()
    with pytest.raises(NonFiniteError) as stopped:
        trainer.train()
    assert stopped.value.step == POISONED // 4 + 1 and stopped.value.rows == []
    assert f"text {POISONED % 4 + 1} of the batch: '{ROWS['anchor'][POISONED]}' | 'a {POISON}" in str(stopped.value)
    assert "last good checkpoint: none yet" in str(stopped.value)


def test_nan_in_evaluation(tiny_encoder, tmp_path: Path):
    trainer = trainer_of(InfoNCELoss(poisoned(tiny_encoder)), tmp_path, kind=ContrastiveTrainer)
    with pytest.raises(NonFiniteError, match="in evaluation, the encoder gave NaN") as stopped:
        trainer.evaluate(rows_with_poison())
    assert f"row {POISONED}: " in str(stopped.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops(tiny_encoder, tmp_path: Path, monkeypatch, value: float):
    """Where transformers would log the average of other steps in its place, and go on."""
    loss = InfoNCELoss(tiny_encoder)
    right, calls = loss.terms, []

    def terms(x, y, **batch):
        calls.append(len(x))
        found = right(x, y, **batch)
        return found if len(calls) < 3 else found | {"negative": found["negative"] * value}

    monkeypatch.setattr(loss, "terms", terms)
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    trainer = trainer_of(loss, tmp_path, kind=ContrastiveTrainer, **settings)
    with pytest.raises(
        NonFiniteError, match=rf"step 3: the loss is {value}, positive -\d.*, negative {value}"
    ) as stopped:
        trainer.train()
    assert len(stopped.value.rows) == 4 and stopped.value.checkpoint == tmp_path / "checkpoint-2"
    assert all(p.isfinite().all() for p in trainer.model.parameters())


@pytest.mark.parametrize("where", ["encoder", "width"])
def test_a_gradient_that_is_not_finite_stops_before_the_step(tiny_encoder, tmp_path: Path, where: str):
    """Rows of all micro-batches of the step are named; no weight is changed by it."""
    loss = InfoNCELoss(tiny_encoder, learn_kernel=True)
    parameter = loss.kernel.log_temperature if where == "width" else next(tiny_encoder.parameters())
    calls = []

    def poison(gradient):
        calls.append(1)
        return gradient * torch.nan if len(calls) == 3 else gradient

    parameter.register_hook(poison)
    settings = {"max_steps": 3, "gradient_accumulation_steps": 2}
    trainer = trainer_of(loss, tmp_path, kind=ContrastiveTrainer, **settings)
    with pytest.raises(NonFiniteError, match="step 2: the gradient has a norm of nan") as stopped:
        trainer.train()
    assert len(set(stopped.value.rows)) == 8
    assert all(p.isfinite().all() for p in loss.parameters())


def test_the_last_good_checkpoint_is_one_without_nan(tmp_path: Path):
    assert last_good_checkpoint(tmp_path / "nowhere") is None
    for step, value in ((9, 1.0), (10, 2.0), (11, torch.nan), (100, torch.inf)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        save_file({"a": torch.ones(3), "b": torch.tensor([1.0, value])}, folder / "model.safetensors")
    (tmp_path / "checkpoint-of-mine").mkdir()
    assert last_good_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    (tmp_path / "checkpoint-10" / "1_Dense").mkdir()
    save_file({"weight": torch.tensor([torch.nan])}, tmp_path / "checkpoint-10" / "1_Dense" / "model.safetensors")
    assert last_good_checkpoint(tmp_path) == tmp_path / "checkpoint-9"


def test_the_command_says_it_in_one_message(tiny_encoder_path: Path, tmp_path: Path, capsys, monkeypatch):
    """Status 1, no traceback; here the learning rate is far too large."""
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("\n".join(ROWS["anchor"]), "utf-8")
    Path("recipe.yaml").write_text(
        f"""
name: diverging
model: {{base: {tiny_encoder_path}}}
data: {{train: texts.txt, columns: {{anchor: text}}, views: dropout}}
loss: {{objective: infonce}}
train: {{max_steps: 3, learning_rate: 1.0e+30, per_device_train_batch_size: 8, save_steps: 1}}
evaluate: {{during: null, after: []}}
""",
        "utf-8",
    )
    assert main(["train", "recipe.yaml"]) == 1
    said = capsys.readouterr().err
    assert said.count("error: ") == 1 and "Traceback" not in said
    assert "training stopped at step 2: the encoder gave NaN or infinity for 8 of 8 rows" in said
    assert "rows of the batch: " in said and "last good checkpoint: " in said


def test_row_numbers_change_nothing(tiny_encoder_path: Path, tmp_path: Path, monkeypatch):
    """The same batches, weights and model card as in the library's own trainer, given its random numbers of dropout."""
    monkeypatch.setattr("fmicl_text.training.trainer.CheapDropout", nullcontext)
    ends = []
    for kind in (SentenceTransformerTrainer, ContrastiveTrainer):
        model = SentenceTransformer(str(tiny_encoder_path), device="cpu")
        trainer = trainer_of(InfoNCELoss(model), tmp_path / kind.__name__, kind=kind, batch_sampler="no_duplicates")
        trainer.train()
        ends.append(model.state_dict())
        assert trainer.train_dataset.column_names == COLUMNS["pairs"]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.parametrize(
    ("loss", "options"),
    [({"mini_batch_size": 2}, {}), ({}, {"gradient_checkpointing": True})],
    ids=["gradient cache", "gradient checkpointing"],
)
def test_what_is_encoded_twice_drops_the_same_numbers(tiny_encoder_path: Path, tmp_path: Path, loss, options):
    """The library's own trainer has PyTorch's dropout in both passes, and so must ours."""
    ends = []
    for kind in (SentenceTransformerTrainer, ContrastiveTrainer):
        model = SentenceTransformer(str(tiny_encoder_path), device="cpu")
        trainer_of(FMICLLoss(model, **loss), tmp_path / kind.__name__, kind=kind, **options).train()
        ends.append(model.state_dict())
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_torch_compile_changes_nothing_but_rounding(tiny_encoder_path: Path, tmp_path: Path):
    """The encoder is wrapped, and under bf16 its forward pass replaced; the compiler's back end is not under test."""
    losses = []
    for options in ({}, {"torch_compile": True, "torch_compile_backend": "eager"}):
        model = SentenceTransformer(str(tiny_encoder_path), device="cpu")
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        trainer = trainer_of(FMICLLoss(model), tmp_path, kind=ContrastiveTrainer, bf16=True, **options)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert len(losses[0]) == 2
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


# Adapters and wrappers ----------------------------------------------------------------------------------------------


def with_adapter(model: SentenceTransformer) -> SentenceTransformer:
    peft = pytest.importorskip("peft", reason="peft is not installed: it is what LoRA adapters need")
    torch.manual_seed(0)
    model.add_adapter(peft.LoraConfig(r=2, lora_alpha=4, target_modules=["query", "value"]))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zeros at first, which leave lora_A without gradient
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("common", [{}, {"mini_batch_size": 3}, {"queue": 8}], ids=["plain", "cached", "queue"])
def test_an_adapter_is_all_that_moves(tiny_encoder, tmp_path: Path, common: dict):
    model = with_adapter(tiny_encoder)
    before = copied(model.state_dict())
    trainer = trainer_of(FMICLLoss(model, sigma=0.6, head="mlp", **common), tmp_path)
    head = trainer.loss.head[0].weight.detach().clone()
    trainer.train()
    moved = {key for key, value in model.state_dict().items() if not torch.equal(before[key], value)}
    assert moved == {key for key in before if "lora_" in key} and len(moved) == 8
    assert not torch.equal(head, trainer.loss.head[0].weight)


@pytest.mark.parametrize("mini_batch_size", [None, 3])
def test_an_adapters_gradient(tiny_encoder, mini_batch_size: int | None):
    """That of the objective on the embeddings, by plain autograd."""
    model = with_adapter(tiny_encoder).eval()
    loss = FMICLLoss(model, "kl", sigma=0.6, alpha=3.0, mini_batch_size=mini_batch_size).eval()
    columns = [ROWS["anchor"][::3], ROWS["positive"][::3]]
    terms = loss([model.preprocess(column) for column in columns])
    torch.stack(list(terms.values())).sum().backward()
    adapter = {name: p for name, p in model.named_parameters() if "lora_" in name}
    assert all(p.grad is None for name, p in model.named_parameters() if name not in adapter)
    x, y = (model(model.preprocess(column))["sentence_embedding"] for column in columns)
    x, y = torch.nn.functional.normalize(x, dim=1), torch.nn.functional.normalize(y, dim=1)
    value = sum(fmicl(x, y, kernel=GaussianKernel(0.6), alpha=3.0, negatives="cross").values())
    expected = torch.autograd.grad(value, list(adapter.values()))
    torch.testing.assert_close([p.grad for p in adapter.values()], list(expected), rtol=1e-4, atol=1e-6)
    assert all(slope.abs().sum() > 0 for slope in expected)


@pytest.mark.parametrize("mini_batch_size", [None, 3])
def test_matryoshka_trains_and_resumes(tiny_encoder_path: Path, tmp_path: Path, mini_batch_size: int | None):
    """Through the library's wrapper; an annealing inside moves once a step, not once a dimension."""
    ends = []
    for stop in (None, 1, None):
        model = SentenceTransformer(str(tiny_encoder_path), device="cpu")
        annealing = Annealing(Region(0.5), steps=4)
        loss = LOSSES["dhel"](model, region=annealing, mini_batch_size=mini_batch_size)
        wrapped = MatryoshkaLoss(model, loss, matryoshka_dims=[32, 16, 8])
        wrapped.model = model
        folder = tmp_path / ("whole" if not ends else "halves")
        options = {"save_strategy": "steps", "save_steps": 1, "callbacks": [StopAt(stop)] if stop else None}
        trainer = trainer_of(wrapped, folder, kind=ContrastiveTrainer, **options)
        trainer.train(resume_from_checkpoint=len(ends) == 2)
        ends.append((copied(model.state_dict()), int(loss.moving_region.begun)))
    (whole, steps), _, (resumed, again) = ends
    assert steps == again == 2 and all(torch.equal(whole[key], resumed[key]) for key in whole)
