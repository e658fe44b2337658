"""The defaults of a CUDA device: the recipe goes first, the plan says them, and they change no weight."""

from __future__ import annotations

import csv
import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fmicl_text.cli import main
from fmicl_text.recipe.file import load_recipe
from fmicl_text.training import on_cuda
from fmicl_text.training.plan import plan
from fmicl_text.training.train import train

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture
def recipe(tiny_encoder_path: Path, tmp_path: Path) -> Path:
    with (tmp_path / "pairs.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerows([("anchor", "positive"), *((f"the dog {'runs ' * i}", f"a dog {i}") for i in range(1, 13))])
    sections: dict[str, Any] = {
        "name": "tiny",
        "model": {"base": str(tiny_encoder_path)},
        "data": {"train": str(tmp_path / "pairs.csv"), "columns": {"anchor": "anchor", "positive": "positive"}},
        "loss": {"objective": "fmicl"},
        "train": {"per_device_train_batch_size": 4, "max_steps": 3},
        "evaluate": {"during": None, "after": []},
    }
    file = tmp_path / "tiny.yaml"
    file.write_text(json.dumps(sections))
    return file


def test_the_plan_has_them_on_cuda_alone(recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    assert plan(load_recipe(recipe)).loading is None
    monkeypatch.setattr(on_cuda, "is_used", lambda: True)
    assert main(["train", str(recipe), "--dry-run"]) == 0
    said = "float32\n  loading   optimizer adamw_torch_fused; batches made by 2 workers ahead, in pageable memory\n"
    assert said in capsys.readouterr().out
    own = load_recipe(recipe, ["train.optim=adafactor", "train.dataloader_num_workers=0"])
    assert plan(own).loading == "optimizer adafactor; batches made between steps, in pageable memory"


def test_there_are_no_workers_where_processes_are_not_forked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(on_cuda, "is_used", lambda: True)
    assert on_cuda.defaults()["dataloader_num_workers"] == on_cuda.WORKERS
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: None)
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["forkserver", "fork", "spawn"])
    assert on_cuda.defaults()["dataloader_num_workers"] == 0


def test_they_change_no_weight(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept = []
    for used in (False, True):
        monkeypatch.setattr(on_cuda, "is_used", lambda used=used: used)
        train(load_recipe(recipe), tmp_path / str(used))
        kept.append(load_file(tmp_path / str(used) / "model" / "model.safetensors"))
    assert all(torch.equal(kept[0][name], kept[1][name]) for name in kept[0])
