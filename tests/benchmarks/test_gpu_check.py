"""The check for a GPU works on a CPU: right figures, and a part that fails leaves the others alone."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import fmicl_text
from fmicl_text import core

ROOT = Path(fmicl_text.__file__).parent.parent
sys.path.insert(0, str(ROOT))
gpu_check = pytest.importorskip("eval.benchmarks.gpu_check")
objectives = pytest.importorskip("eval.benchmarks.gpu.objectives")
throughput = pytest.importorskip("eval.benchmarks.gpu.throughput")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds of a part are those that a GPU needs; a busy processor may take longer."""
    parts = {name: replace(part, seconds=math.inf) for name, part in gpu_check.PARTS.items()}
    monkeypatch.setattr(gpu_check, "PARTS", parts)


def found(tmp_path: Path, *parts: str) -> dict[str, Any]:
    file = tmp_path / "gpu.json"
    gpu_check.check(CPU, parts, file)
    return json.loads(file.read_text())["parts"]


def test_objectives_and_large_batches(tmp_path: Path):
    of = found(tmp_path, "objectives", "large batches")
    checked = of["objectives"]
    assert set(core.OBJECTIVES) - {"fmicl"} | {f"fmicl js {shift}" for shift in ("none", "row", "batch")} == set(
        checked["errors"]
    )
    errors = [error for forms in checked["errors"].values() for form in forms.values() for error in form.values()]
    assert 0 < max(errors) < 2e-5 and checked["wrong"] == [] and set(checked["worst"]) == {"dense", "tiled", "autocast"}
    sizes = of["large batches"]["sizes"]
    assert not any("error" in case for cases in sizes.values() for case in cases.values())
    case = sizes["128"]["InfoNCE"]
    assert case["TFLOP/s"] == pytest.approx(3 * 2 * 128**2 * 32 / case["seconds"] / 1e12)


def test_a_wrong_objective_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        objectives,
        "cases",
        lambda _: [("off", lambda x, *_: {"a": (x * (1 + 1e-3 * (x.dtype == torch.float32))).sum()})],
    )
    wrong = found(tmp_path, "objectives")["objectives"]["wrong"]
    assert wrong[0] == "off, dense: a relative error of 1.0e-03, above 5e-05"


def test_other_parts_stay_if_of_the_same_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found(tmp_path, "small batches")
    monkeypatch.setattr(objectives, "cases", lambda _: [("zero", lambda x, *_: {"a": (x - x).sum()})])
    assert found(tmp_path, "objectives").keys() == {"small batches", "objectives"}
    assert "- B=8 InfoNCE:" in (tmp_path / "gpu.md").read_text()
    monkeypatch.setattr(gpu_check.machine, "described", lambda _: {"name": "another", "python": "3", "device": "cpu"})
    assert found(tmp_path, "objectives").keys() == {"objectives"}


def test_training(tmp_path: Path):
    training = found(tmp_path, "training")["training"]
    assert "error" not in training and training["wrong"] == []
    done = training["done"]
    assert 0 < done["bfloat16"]["largest relative difference"] < 0.01
    assert 0 < done["gradient cache"]["relative difference of the update in float32"] < 1e-4
    assert 0 < done["gradient cache"]["relative difference of the update in bfloat16"] < 0.05
    assert done["resume after a kill"]["relative difference of the weights"] == 0
    losses = done["resume after a kill"]["losses"]
    assert losses["whole"] == losses["resumed"] and len(set(losses["whole"])) == len(losses["whole"])


def test_throughput(tmp_path: Path):
    measured = found(tmp_path, "throughput")["throughput"]
    assert "error" not in measured
    rates = measured["cases"]["dropout pairs L=8 B=4"]["rows/s"]
    assert measured["cases"]["dropout pairs L=8 B=4"]["ratio"] == rates["fmicl"][0] / rates["plain"][0]
    assert all(figures["reads a step"] > 0 for figures in measured["waits"].values())  # Adam's steps are on the CPU


def test_figures_of_another_precision_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    of_one = throughput.new_encoder(throughput.SIZES["cpu"], CPU)
    # An encoder that trains a second time is not wrapped in autocast again.
    monkeypatch.setattr(throughput, "new_encoder", lambda *_: of_one)
    trainer_of, wrapped = throughput._trainer, []

    def unwrapping(*args: Any) -> Any:
        for trainer in wrapped:
            trainer.accelerator.unwrap_model(of_one, keep_fp32_wrapper=False)
        wrapped.append(trainer_of(*args))
        return wrapped[-1]

    monkeypatch.setattr(throughput, "_trainer", unwrapping)
    measured = found(tmp_path, "throughput")["throughput"]
    assert "RuntimeError: not trained in bfloat16 but in torch.float32" in measured["error"]


def test_a_part_that_fails_is_reported_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(
        objectives, "cases", lambda _: [("first", lambda x, *_: {"a": x.sum()}), ("then", lambda *_: 1 / 0)]
    )
    lacking = gpu_check.Part("training", 1, ("no_such_library",))
    monkeypatch.setattr(gpu_check, "PARTS", gpu_check.PARTS | {"training": lacking})
    late = gpu_check.Part("large_batches", 1)
    monkeypatch.setattr(gpu_check, "PARTS", gpu_check.PARTS | {"large batches": late})
    file = tmp_path / "gpu.json"
    assert gpu_check.main(["--parts", "objectives", "training", "large batches", "--output", str(file)]) == 1
    parts = json.loads(file.read_text())["parts"]
    assert "ZeroDivisionError" in parts["objectives"]["error"] and "first" in parts["objectives"]["errors"]
    assert parts["training"] == {"left out": "needs no_such_library, which this Python does not have"}
    assert parts["large batches"]["sizes"]["64"]
    printed = capsys.readouterr().out
    assert "ZeroDivisionError" in printed and "needs no_such_library" in printed and "B=64 InfoNCE" in printed
