"""What `fmicl sweep --dry-run` says of time, and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sweep_recipes import write_sweep_recipe

from fmicl_text.cli import main
from fmicl_text.recipe.file import load_recipe
from fmicl_text.training.plan import plan


def test_the_time_is_that_of_steps_and_of_every_evaluation(tmp_path: Path, tiny_encoder_path: Path, capsys):
    recipe = write_sweep_recipe(tmp_path, tiny_encoder_path)
    command = ["sweep", str(recipe), "--set", "loss.divergence=kl,js", "--trials", "2", "--seeds", "2"]
    command += ["--set", "loss.sigma=0.2,0.3", "--finalists", "1", "--workers", "2", "--set", "evaluate.every_steps=3"]
    assert main([*command, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(arm["name"], arm["trials"]) for arm in found["arms"]] == [
        ("infonce", 2),
        ("fmicl-kl", 2),
        ("fmicl-js", 2),
        ("recipe", 1),
    ]
    assert found["arms"][0]["tuned"] == {"loss.temperature": "0.01 to 0.5, log"}
    assert (found["chooses"], found["judges"], found["seeds"]) == ("chooses Spearman", ["heldout"], [8, 9])
    assert (found["runs"], found["steps"], found["evaluations"]) == (2 + 2 + 2 + 1 + 3 * 2, 4, 2)
    step, during, heldout = found["times"]["step"], found["times"]["during"], found["times"]["after"]["heldout"]
    assert min(step, during, heldout) > 0
    assert found["seconds"] == pytest.approx((13 * (4 * step + 2 * during) + 3 * 2 * heldout) / 2)


@pytest.mark.parametrize(
    ("train", "number"),
    [
        ({}, 4),  # steps 2, 4, 6 and 7
        ({"eval_steps": 0.5}, 2),  # 4 and 7
        ({"eval_delay": 5}, 2),  # 6 and 7
        ({"eval_strategy": "epoch", "save_strategy": "epoch"}, 4),  # 3, 6, 7, and 7 as the end of an epoch
        ({"eval_on_start": True}, 5),  # 0 too
        ({"eval_strategy": "no", "load_best_model_at_end": False}, 0),
    ],
    ids=str,
)
def test_a_plan_counts_the_evaluations_of_a_run(tmp_path: Path, tiny_encoder_path: Path, train: dict, number: int):
    recipe = load_recipe(
        write_sweep_recipe(tmp_path, tiny_encoder_path), ["evaluate.every_steps=2", "train.max_steps=7"]
    )
    assert plan(recipe.model_copy(update={"train": recipe.train | train})).evaluations == number
