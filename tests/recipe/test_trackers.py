"""Trackers: the terms of the loss arrive in TensorBoard's own files; what is not installed is said before training."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from words import WORDS

from fmicl_text.cli import main
from fmicl_text.recipe.file import load_recipe
from fmicl_text.training.train import train

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture
def recipe(tiny_encoder_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    rows = [{"a": f"the {word} runs", "b": f"a {word} sleeps"} for word in WORDS[1:13]]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "tracked",
        "model": {"base": str(tiny_encoder_path)},
        "data": {"train": str(tmp_path / "pairs.jsonl"), "columns": {"anchor": "a", "positive": "b"}},
        "loss": {"objective": "fmicl"},
        "train": {"per_device_train_batch_size": 4, "max_steps": 3, "logging_steps": 1},
        "evaluate": {"during": None},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    return tmp_path / "recipe.yaml"


def test_tensorboard_has_what_the_metrics_file_has(recipe: Path, tmp_path: Path):
    run = train(load_recipe(recipe, ["train.report_to=tensorboard"]), tmp_path / "run").seeds[0].folder
    events = EventAccumulator(str(run.tensorboard))
    events.Reload()
    logged = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    for term in ("loss", "positive", "negative", "learning_rate"):
        expected = [(entry["step"], pytest.approx(entry[term])) for entry in logged if term in entry]
        assert [(event.step, event.value) for event in events.Scalars(f"train/{term}")] == expected and expected
    assert not [file for file in run.checkpoints.iterdir() if not file.name.startswith("checkpoint-")]


def test_nothing_but_the_metrics_file_is_the_default(recipe: Path, tmp_path: Path):
    run = train(load_recipe(recipe), tmp_path / "run").seeds[0].folder
    assert run.metrics.is_file() and not run.tensorboard.exists()
    assert not list(tmp_path.rglob("*tfevents*")), "though it is installed"


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_tracker_that_is_not_installed_is_said_before_anything_is_written(recipe, tmp_path, capsys, monkeypatch, dry):
    monkeypatch.setitem(sys.modules, "wandb", None)
    arguments = ["train", str(recipe), "--set", "train.report_to=[tensorboard, wandb, comet_ml]", *dry]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err.splitlines()
    where = "error: --set train.report_to=[tensorboard, wandb, comet_ml]: train.report_to: "
    assert [line for line in said if line.startswith("error")] == [
        f"{where}wandb is not installed: pip install wandb",
        f"{where}comet_ml is not installed: pip install comet-ml",
    ]
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_does_not_exist(recipe: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["train", str(recipe), "--set", "train.report_to=[tensorbord]"]) == 2
    said = capsys.readouterr().err
    assert 'train.report_to: no tracker "tensorbord" (did you mean "tensorboard"?); there are none, all,' in said
