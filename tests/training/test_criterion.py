"""What chooses the checkpoint, and its evaluation on the model in training."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from datasets import Dataset
from training.test_training import folder, write_recipe  # noqa: F401

from fmicl_text.errors import InputError
from fmicl_text.evaluation.items import Measured
from fmicl_text.evaluation.kind import Given, Loaded, NoScoreError
from fmicl_text.evaluation.metrics import SPEARMAN
from fmicl_text.evaluation.results import Result
from fmicl_text.evaluation.section import EvaluateSection
from fmicl_text.recipe.file import load_recipe
from fmicl_text.training.criterion import Criterion, EvaluationInTraining, choose
from fmicl_text.training.plan import plan
from fmicl_text.training.train import train

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture
def heldout():
    return Dataset.from_dict({"anchor": ["a dog", "a cat"], "positive": ["the dog", "the cat"]})


def chosen(section, given):
    choice = choose(EvaluateSection.model_validate(section), given)
    return choice.criterion.logged if choice.criterion else None, choice.why


def test_without_during_it_is_held_out_pairs_then_stsb_at_hand_then_nothing(folder, heldout, tmp_path):  # noqa: F811
    data = str(folder)
    assert chosen({"data": data}, Given(data, {"": heldout})) == ("heldout_cosine_mrr@10", "there are held-out pairs")
    assert chosen({"data": data}, Given(data))[0] == "stsb-dev_spearman_cosine"
    name, why = chosen({}, Given())
    assert name is None and "data.heldout" in why
    name, why = chosen({"data": str(tmp_path)}, Given(str(tmp_path)))
    assert name is None and "no STS-B dev" in why


@pytest.mark.parametrize("off", [None, "none"])
def test_during_can_be_turned_off(off, heldout):
    assert chosen({"during": off}, Given(None, {"": heldout}))[0] is None


def test_a_metric_without_a_good_end_is_refused(heldout):
    section = EvaluateSection.model_validate({"during": {"name": "geometry", "metric": "anisotropy"}})
    with pytest.raises(InputError, match="neither a high nor a low anisotropy is better; set metric to one of"):
        choose(section, Given(None, {"": Dataset.from_dict({"anchor": ["a", "b", "c"], "positive": ["d", "e", "f"]})}))


def test_a_low_alignment_is_better(heldout):
    found = choose(EvaluateSection.model_validate({"during": "geometry"}), Given(None, {"": heldout})).criterion
    assert (found.logged, found.metric.higher_is_better) == ("geometry_alignment", False)


def scores_of(*values):
    result = Result(
        kind="sts",
        name="s",
        protocol="p",
        model="m",
        scores=[SPEARMAN.score(name, value) for name, value in values],
    )
    offers = {SPEARMAN.key(name): SPEARMAN for name, _ in values}
    return Loaded(lambda scored, effort: Measured(result, {}), offers)


def test_scores_are_logged_under_different_names_as_shares(tiny_encoder):
    criterion = Criterion("sts7", scores_of(("average", 50.0), ("STS12", 40.0)), "average Spearman")
    assert EvaluationInTraining(criterion)(tiny_encoder) == {
        "sts7_spearman_cosine": 0.5,
        "sts7_STS12_spearman_cosine": 0.4,
    }


def test_a_model_that_cannot_be_scored_gets_the_worst_score(tiny_encoder, caplog):
    def fails(scored, effort):
        raise NoScoreError("all pairs have the same similarity")

    loaded = Loaded(fails, {"A Spearman": SPEARMAN})
    assert EvaluationInTraining(Criterion("s", loaded, "A Spearman"))(tiny_encoder) == {"s_spearman_cosine": -1.0}
    assert "the same similarity" in caplog.text


def test_random_generators_go_on_as_if_nothing_was_measured(tiny_encoder):
    def draws(scored, effort):
        torch.rand(3), np.random.rand(3), random.random()
        torch.manual_seed(5), np.random.seed(5), random.seed(5)
        return scores_of(("A", 1.0)).measure(scored, effort)

    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()

    before = states()
    EvaluationInTraining(Criterion("s", Loaded(draws, {"A Spearman": SPEARMAN}), "A Spearman"))(tiny_encoder)
    assert states() == before


@pytest.mark.parametrize(
    ("during", "logged", "best"),
    [
        ("heldout", "eval_heldout_cosine_mrr@10", "heldout mrr@10"),
        ({"name": "heldout", "metric": "accuracy@1"}, "eval_heldout_cosine_accuracy@1", "heldout accuracy@1"),
        ({"name": "geometry", "metric": "uniformity"}, "eval_geometry_uniformity", "geometry uniformity"),
    ],
)
def test_any_evaluation_chooses_the_checkpoint(write_recipe, folder, tmp_path, during, logged, best):  # noqa: F811
    path = write_recipe(
        data={"heldout": str(folder / "heldout.jsonl")},
        evaluate={"during": during, "every_steps": 2, "after": ["heldout", "geometry"]},
    )
    run = train(load_recipe(path), tmp_path / "run").seeds[0].folder
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    curve = {line["step"]: line[logged] for line in lines if logged in line}
    assert list(curve) == [2, 4, 6, 8]
    better = min if "geometry" in logged else max
    found = json.loads(run.manifest.read_text())["best"]
    scale = 1 if "geometry" in logged else 100
    assert found[best] == pytest.approx(scale * better(curve.values()))
    assert curve[found["step"]] == better(curve.values())
    assert {file.name for file in (run.path / "results").glob("*.json")} == {
        "geometry.json",
        "heldout.json",
        "heldout.items.json",
    }


def test_a_broken_result_is_measured_again(write_recipe, folder, tmp_path):  # noqa: F811
    path = write_recipe(
        data={"heldout": str(folder / "heldout.jsonl")}, evaluate={"during": None, "after": ["heldout"]}
    )
    first = train(load_recipe(path), tmp_path / "run")
    file = first.seeds[0].folder.result("heldout")
    file.write_text("")
    again = train(load_recipe(path), tmp_path / "run", resume=True)
    assert again.seeds[0].after["heldout"].scores == first.seeds[0].after["heldout"].scores
    assert "scores" in json.loads(file.read_text())


def test_a_run_begun_when_stsb_was_the_default_is_resumed(write_recipe, folder, tmp_path):  # noqa: F811
    older = write_recipe(evaluate={"during": "stsb-dev", "data": str(folder)})
    train(load_recipe(older), tmp_path / "run")
    recipe = json.loads(older.read_text())
    del recipe["evaluate"]["during"]
    older.write_text(json.dumps(recipe))
    assert load_recipe(older).evaluate.during == "auto"
    train(load_recipe(older), tmp_path / "run", resume=True)


def test_the_plan_says_what_chooses_the_checkpoint_and_why(write_recipe, folder):  # noqa: F811
    found = plan(load_recipe(write_recipe(evaluate={"during": "auto", "data": str(folder), "after": ["stsb"]})))
    assert found.weights == f"of the best checkpoint by stsb-dev Spearman ({folder} has it)"
    assert found.after == ["stsb"]
    evaluate, last = {"during": "stsb-dev", "data": str(folder)}, {"load_best_model_at_end": False}
    assert plan(load_recipe(write_recipe(evaluate=evaluate, train=last))).weights == (
        "of the last step: load_best_model_at_end is false; stsb-dev Spearman is measured (evaluate.during)"
    )
    assert (
        plan(load_recipe(write_recipe(evaluate={"during": None}))).weights
        == "of the last step: evaluate.during is none"
    )
