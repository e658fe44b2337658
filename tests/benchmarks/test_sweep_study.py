"""The study by sweeps: every objective can be swept on every job, and the report says what the figures say."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import fmicl_text
from fmicl_text.evaluation.metrics import GEOMETRY
from fmicl_text.recipe.file import load_recipe
from fmicl_text.sweep import label_free
from fmicl_text.sweep.arms import arms_of
from fmicl_text.sweep.space import read_space

ROOT = Path(fmicl_text.__file__).parent.parent
sys.path.insert(0, str(ROOT))
study = pytest.importorskip("eval.benchmarks.sweeps.__main__")
report = pytest.importorskip("eval.benchmarks.sweeps.report")

ALONE = "alignment-uniformity dcl dhel focal-infonce infonce kcl kernel-infonce spectral recipe".split()


@pytest.mark.parametrize("job", study.JOBS)
def test_every_objective_is_tuned_on_every_job(job: str, tmp_path: Path):
    file = tmp_path / "recipe.yaml"
    text = (study.HERE / f"{job}.yaml").read_text().replace("WORK/judges.yaml", "stsb")
    file.write_text(text)
    recipe = load_recipe(file)
    arms = {arm.name: arm for arm in arms_of(recipe, read_space(str(study.HERE / "space.yaml")))}
    divergences = [f"fmicl-{d}-gaussian" for d in "kl js pearson sh tsallis vlc".split()]
    assert set(arms) == {*ALONE, *divergences, "fmicl-kl-cosine", "fmicl-js-cosine"}
    for arm in arms.values():
        if arm.name != "recipe":
            ends = [arm.recipe(recipe, arm.choose(lambda _, values, end=end: values.some[end])) for end in (0, -1)]
            assert ends[0].loss != ends[1].loss, f"nothing of {arm.name} is tuned"


def test_a_worker_that_the_study_starts_knows_its_leader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    joined = []
    monkeypatch.setattr(study, "plan_of", lambda job, args: (job, args.trials, args.seeds))
    monkeypatch.setattr(study, "join", lambda *given: joined.append(given))
    args = SimpleNamespace(data=tmp_path, model=tmp_path, runs=tmp_path, trials=2, seeds=4)
    monkeypatch.setattr(sys, "argv", ["study", *study.worker_of("images", args)[2:]])
    study.main()
    assert joined == [(("images", 2, 4), os.getpid())]


def test_questions_and_answers_share_no_text_between_parts(tmp_path: Path):
    rows = [{"anchor": f"q{n // 2}", "positive": f"a{n // 3}"} for n in range(3000)]
    study.write_answers(rows, tmp_path)
    parts = [
        {text for line in (tmp_path / f"{name}.jsonl").read_text().splitlines() for text in json.loads(line).values()}
        for name in ("train", "chooses")
    ]
    lines = [line for f in ("queries", "corpus") for line in (tmp_path / f"{f}.jsonl").read_text().splitlines()]
    judges = {json.loads(line)["text"] for line in lines}
    assert len(judges) == 2 * study.JUDGES and len(parts[1]) == 2 * study.CHOOSES and parts[0]
    assert not parts[0] & parts[1] and not (parts[0] | parts[1]) & judges


def test_the_report_says_what_the_figures_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(label_free, "resource_folder", lambda _: tmp_path)
    uniformity = GEOMETRY["uniformity"]
    assert label_free.agreement(uniformity) == "how far it ranks runs as labels do has not been measured"
    test = {"difference": 1.5, "ci95": [0.5, 2.5], "p_value": 0.01}
    row = {"settings": "", "chosen_by": [70.0, 1.0], "judged": [60.0, 0.5], "test": None, "p_value": None}
    rows = [
        row | {"arm": "infonce", "verdict": "the baseline"},
        row
        | {"arm": "fmicl-js-gaussian", "chosen_by": [72.0, 1.0], "test": test, "p_value": 0.02, "verdict": "better"},
    ]
    trials = [
        {"arm": arm, "place": place, "score": score, "state": "complete"}
        for arm, scores in {"infonce": (68.0, 70.0), "fmicl-js-gaussian": (72.0, 71.0)}.items()
        for place, score in enumerate(scores)
    ]
    verdict = {"chooses": "dev", "judges": "test", "rows": rows, "summary": "a is chosen", "warnings": []}
    job = {"steps": 5, "seeds": 3, "device": "CPU x86_64", "precision": "float32", "verdict": verdict, "trials": trials}
    job |= {
        "kernels": {"js": test},
        "divergences": {"best": "js", "minus": {"kl": test, "sh": test | {"p_value": 0.2}}},
    }
    job |= {"geometry": {"uniformity": -0.5, "alignment": None}}  # low uniformity is good
    (tmp_path / "sweeps").mkdir()
    other = job | {"divergences": {"best": "kl", "minus": {"js": test | {"p_value": 0.3}}}}
    for name, figures in {"dropout": job, "images": other}.items():
        (tmp_path / "sweeps" / f"{name}.json").write_text(json.dumps(figures))
    report.write_report(tmp_path / "sweeps")
    said = (tmp_path / "sweeps.md").read_text()
    assert "| fmicl-js-gaussian | 72.00 ± 1.00 | 60.00 ± 0.50 | +1.50 | +0.50 to +2.50 | 0.020 | better |" in said
    assert "- dropout: fmicl-js-gaussian +1.50 (+0.50 to +2.50), p 0.020: better." in said
    assert "- dropout: js +1.50 (+0.50 to +2.50), p 0.010: above." in said
    assert "- dropout: beyond noise: kl; kl is chosen on images." in said
    assert "- images: none beyond noise; js is chosen on dropout." in said
    assert "infonce +2.00, fmicl-js-gaussian +0.00; mean +1.00" in said and "uniformity -0.50" in said
    assert "4 trials of 5 steps on CPU x86_64, float32, 2 of each objective; 2 finalists with 3 seeds" in said
    assert (tmp_path / "sweeps.png").stat().st_size > 5_000
    (tmp_path / label_free.FILE).write_text(json.dumps(report.rankings(tmp_path / "sweeps")))
    assert "a rank correlation of +0.50 with test (dropout, 6 runs)" in label_free.agreement(uniformity)
    assert label_free.agreement(GEOMETRY["alignment"]).endswith("has not been measured")


def test_an_interval_on_both_sides_of_zero_is_on_a_par_and_says_how_far_below():
    row = {"arm": "fmicl-js-gaussian", "chosen_by": [1.0], "p_value": 0.5}
    found = {}
    for low, high in ((-0.3, 0.5), (-2.0, -0.5), (0.1, 0.2)):
        test = {"difference": (low + high) / 2, "ci95": [low, high], "p_value": 0.5}
        jobs = {"job": {"verdict": {"rows": [row | {"test": test}]}}}
        found[low] = next(report._on_a_par(jobs)).rpartition(": ")[2]
    assert found == {-0.3: "on a par, at most 0.30 below", -2.0: "worse", 0.1: "better"}
