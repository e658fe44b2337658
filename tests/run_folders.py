"""Run folders as training leaves them, without training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from fmicl_text.recipe.file import dump_recipe
from fmicl_text.recipe.schema import Recipe
from fmicl_text.runs.folder import RunFolder
from fmicl_text.versions import versions

STSB = {
    "model": "a model",
    "suite": "stsb",
    "protocol": "STS-B test, Spearman x 100",
    "tasks": {"STSBenchmark": {"spearman": 82.125, "n": 1379, "ci95": [80.0, 84.25]}},
    "average": 82.125,
    "missing": [],
    "data": "Hub",
}
HELDOUT = {
    "task": "heldout retrieval",
    "n": 2000,
    "candidates": 1990,
    "accuracy@1": 80.5,
    "mrr@10": 86.25,
    "ci95": {"accuracy@1": [78.0, 83.0], "mrr@10": [85.0, 87.5]},
}


def write(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def finished_run(path: Path, encoder: Path, seeds: tuple[int, ...] = (42,), **sections: Any) -> Path:
    """A finished run of an encoder's files, with changes to its recipe's sections; data and base are local files."""
    recipe = {
        "name": path.name,
        "model": {"base": str(encoder)},
        "data": {
            "train": str(path.parent / "my data" / "pairs.csv"),
            "columns": {"anchor": "question", "positive": "answer"},
        },
        "loss": {"objective": "fmicl", "divergence": "js", "kernel": {"name": "gaussian", "sigma": 0.5}},
        "train": {"per_device_train_batch_size": 8},
        "evaluate": {"during": None, "before": True, "after": ["stsb"]},
        "seeds": list(seeds),
    }
    for name, section in sections.items():
        recipe[name] = recipe.get(name, {}) | section
    path.mkdir(parents=True)
    RunFolder(path).recipe.write_text(dump_recipe(Recipe.model_validate(recipe)))
    before = STSB | {"tasks": {"STSBenchmark": {"spearman": 70.5, "n": 1379, "ci95": [68.0, 73.0]}}}
    write(RunFolder(path).result("before-stsb"), before)
    for number, seed in enumerate(seeds):
        run = RunFolder(path / f"seed-{seed}" if len(seeds) > 1 else path)
        shutil.copytree(encoder, run.model)
        facts = {
            "state": "done",
            "started": "2026-01-02T03:04:05+00:00",
            "versions": versions(),
            "seed": seed,
            "steps": 30,
            "precision": "float32",
            "best": {"step": 20, "stsb-dev spearman": 81.5},
            "command": f"/opt/venv/bin/fmicl train {path}/recipe.yaml --output={path}",
            "data": {"training": {"path": recipe["data"]["train"], "sha256": "0" * 64}},
        }
        write(run.manifest, facts)
        score = {"spearman": 82.125 - 2.25 * number, "n": 1379, "ci95": [80.0, 84.25]}
        write(run.result("stsb"), STSB | {"tasks": {"STSBenchmark": score}, "average": score["spearman"]})
    if len(seeds) > 1:
        write(path / "summary.json", {"STSBenchmark": {"mean": 81.0, "sd": 1.59, "values": [82.125, 79.875]}})
    return path
