"""Values of the ``train`` section that cannot train are input errors with their key, in the dry run too."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fmicl_text.cli import main

pytestmark = pytest.mark.usefixtures("blank_pictures")

REFUSED = {
    "no accumulation": ({"gradient_accumulation_steps": 0}, "train.gradient_accumulation_steps: must be at least 1"),
    "batch 0": ({"per_device_train_batch_size": 0}, "train.per_device_train_batch_size: must be at least 2"),
    "batch 1": ({"per_device_train_batch_size": 1}, "a row alone has no negatives, got 1"),
    "no full batch": (
        {"per_device_train_batch_size": 8, "dataloader_drop_last": True},
        "data.train: 4 rows, fewer than a batch of 8, and by train.dataloader_drop_last",
    ),
    "no steps": ({"max_steps": 0}, "train.max_steps: 0 steps train nothing"),
    "no epochs": ({"num_train_epochs": 0}, "train.num_train_epochs: must be above 0"),
    "persistent": ({"dataloader_persistent_workers": True}, "train.dataloader_persistent_workers: needs workers"),
    "prefetch": ({"dataloader_prefetch_factor": 2}, "train.dataloader_prefetch_factor: needs workers"),
    "best": ({"save_strategy": "best"}, "train.save_strategy: best needs an evaluation during training"),
    "evaluation": ({"eval_strategy": "epoch"}, "train.eval_strategy: epoch needs an evaluation during training"),
    "load best": ({"load_best_model_at_end": True}, "train.load_best_model_at_end: needs"),
    "resume": ({"resume_from_checkpoint": "x"}, "train.resume_from_checkpoint: is not set in a recipe"),
    "no resuming": ({"save_only_model": True}, "train.save_only_model: leaves out what a run is resumed from"),
    "routes": ({"router_mapping": {"text": "query"}}, "train.router_mapping: the encoder has no Router"),
    "neftune": ({"neftune_noise_alpha": 5.0}, "train.neftune_noise_alpha: is for causal language models"),
    "optimizer": ({"optim": "adamw_bnb_8bit"}, "train.optim: "),
    "kernels": ({"use_liger_kernel": True}, "train.use_liger_kernel: "),
    "argument of sgd": (
        {"optim": "sgd", "optim_args": "momentun=0.9"},
        'optim_args: sgd is not given momentun (did you mean "momentum"?); there are momentum, dampening, nesterov',
    ),
    "argument of AdamW": (
        {"optim": "adamw_torch", "optim_args": "eps=1e-6"},
        "train.optim_args: adamw_torch is not given eps; it takes none here",
    ),
    "decay of sgd": ({"optim": "sgd", "optim_args": "weight_decay=0.1"}, "no effect here; set train.weight_decay"),
    "no value": ({"optim": "sgd", "optim_args": "momentum"}, "train.optim_args: must be like momentum=0.9"),
    "betas": ({"adam_beta1": 1.5}, "train.adam_beta1: "),
    "decay": ({"weight_decay": -1.0}, "train.weight_decay: "),
    "schedule": ({"lr_scheduler_kwargs": {"x": 1}}, "train.lr_scheduler_kwargs: "),
    "no schedule": (
        {"lr_scheduler_type": "constant", "lr_scheduler_kwargs": {"num_cycles": 2}},
        "train.lr_scheduler_kwargs: has no effect: lr_scheduler_type: constant takes none",
    ),
    "workers": ({"dataloader_num_workers": -1}, "train.dataloader_num_workers: "),
    "start of workers": (
        {"dataloader_num_workers": 1, "dataloader_multiprocessing_context": "x"},
        "train.dataloader_multiprocessing_context: ",
    ),
    "saving": ({"save_steps": 0}, "train.save_steps: must be above 0"),
    "metric": ({"metric_for_best_model": "x"}, "train.metric_for_best_model: is not set here: evaluate.during"),
    "log level": ({"log_level": "x"}, "train.log_level: no value 'x' is known"),
    "accelerate": ({"accelerator_config": "/none.json"}, "train.accelerator_config: "),
    "logging": ({"logging_steps": 0}, "train.logging_steps: "),
}


@pytest.fixture
def recipe(tiny_encoder_path: Path, tmp_path: Path):
    (tmp_path / "rows.txt").write_text("".join(f"the {word} runs\n" for word in ("dog", "cat", "horse", "man")))

    def write(**train: object) -> Path:
        document = {
            "name": "tiny",
            "model": {"base": str(tiny_encoder_path)},
            "data": {"train": str(tmp_path / "rows.txt"), "columns": {"anchor": "text"}, "views": "dropout"},
            "loss": {"objective": "fmicl"},
            "train": {"per_device_train_batch_size": 2, "max_steps": 4, "logging_steps": 2} | train,
            "evaluate": {"during": None},
        }
        (tmp_path / "recipe.yaml").write_text(json.dumps(document))  # JSON is YAML
        return tmp_path / "recipe.yaml"

    return write


@pytest.mark.parametrize("flag", ["--dry-run", "--overwrite"])
@pytest.mark.parametrize(("train", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_with_its_key(recipe, tmp_path, capsys, train, message, flag):
    path = recipe(**({"max_steps": -1} if "num_train_epochs" in train else {}) | train)
    assert main(["train", str(path), "--output", str(tmp_path / "run"), flag]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_a_password_in_an_override_is_not_shown(recipe, capsys):
    address = "https://me:hunter2secret@127.0.0.1:9/rows.jsonl"
    assert main(["train", str(recipe()), "--dry-run", "--set", f"data.train={address}"]) in (1, 2)
    said = capsys.readouterr()
    assert "127.0.0.1" in said.err and "hunter2" not in said.err + said.out


def test_without_a_terminal_there_is_a_line_for_each_log(recipe, tmp_path, capsys):
    assert main(["train", str(recipe()), "--output", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    for step in (2, 4):
        [line] = re.findall(rf"step {step} of 4, .*", said)
        assert all(part in line for part in ("loss ", "positive ", "negative ", "rows/s", "left")), line
    assert said.count(f"training with seed 42 in {tmp_path / 'run'}\n") == 1


def test_quiet_shows_the_result_alone(recipe, tmp_path, capsys):
    assert main(["train", str(recipe()), "--output", str(tmp_path / "run"), "-q"]) == 0
    said = capsys.readouterr()
    assert "step 2 of 4" not in said.err and "training with" not in said.err and "Use it:" in said.out


def test_the_dry_run_says_where_how_often_and_how_long(recipe, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    path = recipe(max_steps=600)
    assert main(["train", str(path), "--output", str(tmp_path / "run"), "--dry-run", "--time"]) == 0
    said = capsys.readouterr().out
    assert f"folder    {tmp_path / 'run'}" in said and "seeds     42" in said
    assert re.search(r"time      about [\d.]+ min, at [\d.e+-]+ s a step", said)
    assert sorted(tmp_path.rglob("*")) == sorted([*before, path])
    assert main(["train", str(path), "--time"]) == 2
    assert "--time goes with --dry-run" in capsys.readouterr().err


def test_the_time_counts_evaluations_in_training_but_measures_no_results(
    tiny_encoder_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from fmicl_text.training import timing

    def refused(*_: object) -> None:
        raise AssertionError("a result was measured")

    monkeypatch.setattr(timing, "measure_at", refused)
    monkeypatch.setattr(timing, "_train", lambda recipe, inputs: (2.0, timing.build_trainer(recipe, inputs, 1, run)))
    monkeypatch.setattr(timing, "_seconds", lambda evaluate: 30.0)
    run = timing.RunFolder(tmp_path / "run")
    (tmp_path / "rows.csv").write_text("anchor,positive\n" + "".join(f"the man {i},a dog {i}\n" for i in range(40)))
    (tmp_path / "recipe.yaml").write_text(
        f"name: r\nmodel: {{base: {tiny_encoder_path}}}\n"
        f"data: {{train: {tmp_path / 'rows.csv'}, columns: {{anchor: anchor, positive: positive}}, heldout: 0.2}}\n"
        "loss: {objective: fmicl}\ntrain: {max_steps: 60, per_device_train_batch_size: 8}\n"
        "evaluate: {during: heldout, every_steps: 20, after: [heldout]}\nseeds: [1, 2]\n"
    )
    assert main(["train", str(tmp_path / "recipe.yaml"), "--dry-run", "--time"]) == 0
    said = capsys.readouterr().out
    minutes = 2 * (60 * 2.0 + 3 * 30.0) / 60
    assert f"about {minutes:.1f} min, at 2 s a step and 30 s for each of 3 evaluations, results not counted" in said
