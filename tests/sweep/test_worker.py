"""What a worker loads once: its trials are what training each recipe by itself is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sweep_recipes import write_sweep_recipe

from fmicl_text.recipe.file import load_recipe
from fmicl_text.sweep.arms import arms_of
from fmicl_text.sweep.board import Board
from fmicl_text.sweep.plan import Plan, judged
from fmicl_text.sweep.space import read_grid
from fmicl_text.sweep.worker import Worker
from fmicl_text.training.inputs import load_inputs
from fmicl_text.training.train import train

pytestmark = pytest.mark.usefixtures("blank_pictures")


def test_trials_are_trainings_of_their_own_and_read_the_encoder_once(tmp_path: Path, tiny_encoder_path: Path):
    encoder = shutil.copytree(tiny_encoder_path, tmp_path / "encoder")
    grid, _ = read_grid(["loss.divergence=kl"])
    recipe = load_recipe(write_sweep_recipe(tmp_path, encoder), ["model.head=mlp"])  # which the seed draws
    recipe, criterion, _ = judged(recipe, load_inputs(recipe))
    plan = Plan(recipe, arms_of(recipe, [grid]), tmp_path / "sweep", "", keep=9)
    names = [arm.name for arm in plan.arms]
    board = Board("sweep", f"sqlite:///{tmp_path / 'sweep.db'}", plan.folder, names, True, "plan")
    worker = Worker(plan, board, criterion)
    board.plan(names[0], [{}])
    worker.work()
    moved = encoder.rename(tmp_path / "elsewhere")
    board.plan(names[1], [{}])
    worker.work()
    board.close()
    moved.rename(encoder)
    folders = sorted((plan.folder / "trials").iterdir())
    assert len(folders) == 2
    for folder in folders:
        alone = train(load_recipe(folder / "recipe.yaml"), tmp_path / "alone" / folder.name).folder
        for file in ("model/model.safetensors", "metrics.jsonl"):
            assert (folder / file).read_bytes() == (alone / file).read_bytes(), file
