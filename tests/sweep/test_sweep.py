"""Sweeps from beginning to end on a tiny encoder: trials, finalists, verdict, page, and stopping at any moment."""

from __future__ import annotations

import gc
import json
import logging
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sweep_recipes import write_sweep_recipe

from fmicl_text.cli import main
from fmicl_text.errors import InputError, RunInterrupted
from fmicl_text.evaluation.items import read_items
from fmicl_text.evaluation.paired import paired_test
from fmicl_text.evaluation.results import read_result
from fmicl_text.recipe.file import load_recipe
from fmicl_text.runs.folder import RunFolder
from fmicl_text.sweep.arms import arms_of
from fmicl_text.sweep.label_free import agreement
from fmicl_text.sweep.plan import Plan, judged
from fmicl_text.sweep.space import Part, Range
from fmicl_text.sweep.sweep import sweep
from fmicl_text.training.inputs import load_inputs
from fmicl_text.training.train import train_on

pytestmark = pytest.mark.usefixtures("blank_pictures")

SPACE = """
loss.divergence: [kl]
loss.shift: [none]
loss.sigma: {low: 0.15, high: 0.6, log: true}
loss.balance_cosine: {low: 0.0, high: 0.6}
"""


@pytest.fixture(scope="module")
def sweep_recipe(tmp_path_factory: pytest.TempPathFactory, tiny_encoder_path: Path) -> Path:
    return write_sweep_recipe(tmp_path_factory.mktemp("sweep-data"), tiny_encoder_path)


class Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture(scope="module")
def swept(sweep_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], dict[str, float]]:
    """A sweep that was interrupted in its third trial and goes on: its folder, its log, and when each trial began."""
    folder = tmp_path_factory.mktemp("sweep") / "out"
    space = folder.parent / "space.yaml"
    space.write_text(SPACE)
    command = ["sweep", str(sweep_recipe), "--space", str(space), "--output", str(folder)]
    command += ["--trials", "2", "--seeds", "1", "--finalists", "1", "--keep", "1"]
    calls: list[Path] = []

    def interrupted(prepared, recipe, folder, **options):
        calls.append(folder)
        if len(calls) == 3:
            raise RunInterrupted(signal.SIGTERM, "stopped")
        return train_on(prepared, recipe, folder, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fmicl_text.sweep.worker.train_on", interrupted)
        assert main(command) == 128 + signal.SIGTERM
    done = {path.parent.name: path.stat().st_mtime for path in folder.glob("trials/*/manifest.json")}
    log = Log()
    logging.getLogger("fmicl_text").addHandler(log)
    assert main(command) == 0
    logging.getLogger("fmicl_text").removeHandler(log)
    return folder, log.lines, done


def test_a_training_in_the_same_process_tells_its_progress_again(swept):
    assert logging.getLogger("fmicl_text.training").level == logging.NOTSET


def test_trials_are_run_folders_of_equal_number_and_the_best_keeps_its_weights(swept, sweep_recipe: Path):
    folder, _, done = swept
    found = json.loads((folder / "sweep.json").read_text())
    trials = [trial for trial in found["trials"] if trial["arm"] != "finalists"]
    assert Counter(trial["arm"] for trial in trials) == {"infonce": 2, "fmicl-kl": 2, "recipe": 1}
    assert len(done) == 2 and all((folder / "trials" / t / "manifest.json").stat().st_mtime == done[t] for t in done)
    for trial in trials:
        run = folder / "trials" / f"{trial['arm']}-{trial['place']:03}"
        recipe = load_recipe(run / "recipe.yaml")
        assert recipe.evaluate.after == [] and recipe.seeds == [7], "what judges is not looked at"
        assert all(getattr(recipe.loss, key.removeprefix("loss.")) == v for key, v in trial["settings"].items())
        assert not (run / "checkpoints").exists()
    best = max(trials, key=lambda trial: trial["score"])
    kept = [path.parent.name for path in folder.glob("trials/*/model")]
    assert kept == [f"{best['arm']}-{best['place']:03}"]
    own = next(path for path in folder.glob("trials/recipe-*/recipe.yaml"))
    assert load_recipe(own).loss == load_recipe(sweep_recipe).loss


def test_the_verdict_is_the_paired_test_of_the_finalists_on_what_did_not_choose(swept):
    folder, _, _ = swept
    verdict = json.loads((folder / "sweep.json").read_text())["verdict"]
    assert [row["arm"] for row in verdict["rows"]] == ["infonce", "fmicl-kl", "recipe"]

    def items(arm: str):
        files = [folder / "finalists" / arm / f"seed-{seed}" / "results" / "heldout.json" for seed in (8,)]
        return {"judges": [read_items(file, read_result(file))["held-out pairs MRR@10"] for file in files]}

    p_values = []
    for row in verdict["rows"][1:]:
        expected = paired_test(items(row["arm"]), items("infonce"))
        assert row["test"]["difference"] == pytest.approx(expected.difference)
        assert row["test"]["ci95"] == pytest.approx(expected.ci95)
        p_values.append(expected.p_value)
    smaller = min(p_values)
    adjusted = [min(1.0, 2 * p) if p == smaller else max(p, min(1.0, 2 * smaller)) for p in p_values]  # Holm, of two
    assert [row["p_value"] for row in verdict["rows"][1:]] == pytest.approx(adjusted)
    words = ["no difference beyond noise" if p > 0.05 else "better or worse" for p in adjusted]
    assert [row["verdict"].replace("worse", "better") for row in verdict["rows"][1:]] == [
        word.replace("better or worse", "better") for word in words
    ]
    assert verdict["winner"] == max(verdict["rows"], key=lambda row: row["chosen_by"][0])["arm"]
    assert not any("same data" in warning for warning in verdict["warnings"])


def test_the_winner_is_a_recipe_and_a_model(swept, sweep_recipe: Path):
    from sentence_transformers import SentenceTransformer

    folder, _, _ = swept
    verdict = json.loads((folder / "sweep.json").read_text())["verdict"]
    winner, base = load_recipe(folder / "winner.yaml"), load_recipe(sweep_recipe)
    trained = load_recipe(folder / "finalists" / verdict["winner"] / "seed-8" / "recipe.yaml")
    assert winner.loss == trained.loss
    assert (winner.data, winner.evaluate, winner.seeds) == (base.data, base.evaluate, base.seeds)
    assert SentenceTransformer(str(folder / "winner"), device="cpu").encode(["a dog"]).shape == (1, 32)


def test_progress_says_which_trial_the_best_so_far_and_the_time_left(swept):
    lines = [line for line in swept[1] if line.startswith("trial ")]
    assert [line.partition(":")[0] for line in lines] == ["trial 3 of 5", "trial 4 of 5", "trial 5 of 5"]
    assert "chooses Spearman" in lines[0] and "best so far" in lines[0] and "left" in lines[0]
    assert "left" not in lines[-1]
    assert [line.partition(":")[0] for line in swept[1] if line.startswith("final")][-1] == "final run 3 of 3"


def test_the_page_has_the_verdict_and_the_pictures(swept):
    folder, _, _ = swept
    page = (folder / "report.html").read_text()
    assert "The sweep" in page and "minus InfoNCE" in page and "chooses Spearman chooses, heldout MRR@10 judges" in page
    names = {path.stem for path in folder.glob("report-*.png")}
    assert {"report-objectives", "report-cost", "report-balance-width", "report-parallel"} <= names


@pytest.mark.parametrize("fault", ["another seed", "broken", "missing", "damaged"])
def test_final_runs_are_as_many_as_asked_for_and_whole(swept, sweep_recipe: Path, tmp_path: Path, fault: str):
    """A seed of an earlier call with more of them may have settings that are not the best any more."""
    folder = shutil.copytree(swept[0], tmp_path / "out")
    before = json.loads((folder / "sweep.json").read_text())["verdict"]
    run = folder / "finalists" / before["winner"] / "seed-8"
    result, weights = run / "results" / "heldout.json", run / "model" / "model.safetensors"
    if fault == "another seed":
        manifest = shutil.copytree(run, run.with_name("seed-9")) / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"seed": 9}))
    elif fault == "broken":
        result.write_text("{")
    elif fault == "missing":
        result.unlink()
    else:
        weights.write_bytes(b"")
    command = ["sweep", str(sweep_recipe), "--space", str(swept[0].parent / "space.yaml"), "--output", str(folder)]
    assert main([*command, "--trials", "2", "--seeds", "1", "--finalists", "1"]) == 0
    assert json.loads((folder / "sweep.json").read_text())["verdict"] == before
    assert (folder / "winner" / weights.name).read_bytes() == (swept[0] / "winner" / weights.name).read_bytes()


def test_the_plan_says_what_would_be_tried_and_writes_nothing(sweep_recipe: Path, tmp_path: Path, capsys):
    command = ["sweep", str(sweep_recipe), "--set", "loss.divergence=kl,js", "--set", "loss.sigma=0.2,0.3", "--dry-run"]
    assert main([*command, "--set", "evaluate.after=[]", "--output", str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "infonce │ 2 │ loss.temperature 0.01 to 0.5, log" in said and "fmicl-js │ 2 │ loss.sigma 0.2, 0.3" in said
    assert "19 of 4 steps" in said and "MB at most" in said and "judges what it chose itself" in said
    assert not (tmp_path / "out").exists()


def test_a_choice_without_labels_says_how_far_it_agrees_with_labels(sweep_recipe: Path):
    recipe = load_recipe(sweep_recipe, ["evaluate.during={name: geometry, metric: uniformity}"])
    _, criterion, [warning, _] = judged(recipe, load_inputs(recipe))  # the second: its pairs judge too
    assert warning.startswith("geometry uniformity chooses: no label says that it is right; ")
    assert agreement(criterion.metric) in warning


def test_a_sweep_without_a_score_is_refused(sweep_recipe: Path, tmp_path: Path, capsys):
    command = ["sweep", str(sweep_recipe), "--set", "evaluate.during=none", "--output", str(tmp_path)]
    assert main(command) == 2
    assert "evaluate.during: a sweep needs a score that chooses" in capsys.readouterr().err


def test_a_signal_to_the_process_that_leads_ends_its_workers(sweep_recipe: Path, tmp_path: Path):
    recipe = load_recipe(sweep_recipe)
    storage = f"sqlite:///{tmp_path / 'sweep.db'}"
    plan = Plan(recipe, arms_of(recipe, [Part({}, {})]), tmp_path / "out", storage, trials=1, workers=2)
    worker = (
        "import os, pathlib, signal, sys, time\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "(folder / f'begun-{os.getpid()}').touch()\n"
        "while len(list(folder.glob('begun-*'))) < 2: time.sleep(0.05)\n"
        "if os.getpid() == max(int(file.name[6:]) for file in folder.glob('begun-*')):\n"
        "    os.kill(os.getppid(), signal.SIGTERM)\n"
        "time.sleep(60)"
    )
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("nothing handles the signal"))
    gc.disable()  # Hypothesis has itself called at each collection, and what a signal raises in such a call is lost
    try:
        with pytest.raises(RunInterrupted, match="to continue, give the same command again"):
            sweep(plan, ["-c", worker])
    finally:
        gc.enable()
        signal.signal(signal.SIGTERM, before)
    pids = [int(file.name.removeprefix("begun-")) for file in tmp_path.glob("begun-*")]
    assert len(pids) == 2 and not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_signal_while_workers_are_started_ends_those_that_were(
    sweep_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    started = tmp_path / "started"

    def signalled(workers: int) -> Iterator[dict[str, str]]:
        yield {}
        while not (started.is_file() and started.read_text()):
            time.sleep(0.05)
        raise RunInterrupted(signal.SIGTERM, "stopped")

    monkeypatch.setattr("fmicl_text.sweep.sweep.slots", signalled)
    recipe = load_recipe(sweep_recipe)
    storage = f"sqlite:///{tmp_path / 'sweep.db'}"
    plan = Plan(recipe, arms_of(recipe, [Part({}, {})]), tmp_path / "out", storage, trials=1, workers=2)
    worker = f"import os, pathlib, time; pathlib.Path({str(started)!r}).write_text(str(os.getpid())); time.sleep(60)"
    with pytest.raises(RunInterrupted, match="to continue, give the same command again"):
        sweep(plan, ["-c", worker])
    assert not Path(f"/proc/{started.read_text()}").exists()


def test_a_sweep_that_goes_on_with_more_trials_judges_what_is_best_now(sweep_recipe: Path, tmp_path: Path):
    """Its finalists are trained anew where another trial is better, and further seeds are added."""
    from fmicl_text.files import read_json
    from fmicl_text.sweep.finalists import has_settings

    folder = tmp_path / "out"
    recipe = load_recipe(sweep_recipe)
    tuned = Part({"loss.sigma": Range(low=0.2, high=0.3)}, {"loss.sigma": "the space"})
    plan = Plan(recipe, arms_of(recipe, [tuned]), folder, f"sqlite:///{tmp_path}/sweep.db", finalists=1, seeds=1)
    scores: dict[str, float] = {}

    def scored(run: RunFolder) -> float:
        return scores.get(run.path.name, 1.0)

    def sweep_with(**more: int) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fmicl_text.sweep.worker.during_score", scored)
            sweep(replace(plan, **more))
        return read_json(folder / "sweep.json")

    sweep_with(trials=1)
    scores["infonce-001"] = 2.0
    found = sweep_with(trials=2, seeds=2)
    best = next(trial for trial in found["trials"] if trial["score"] == 2.0)
    for seed in (8, 9):
        wanted = plan.final_recipe(plan.arm("infonce"), best["settings"], seed)
        assert has_settings(plan.final_folder("infonce", seed), wanted)
    assert best["arm"] == "infonce" and best["place"] == 1


def test_a_folder_with_the_runs_of_another_sweep_is_refused(sweep_recipe: Path, tmp_path: Path):
    (tmp_path / "trials").mkdir()
    recipe = load_recipe(sweep_recipe)
    plan = Plan(recipe, arms_of(recipe, [Part({}, {})]), tmp_path, f"sqlite:///{tmp_path}/sweep.db", trials=1)
    for _ in range(2):
        with pytest.raises(InputError, match="has the runs of another sweep; give this one another folder"):
            sweep(plan)
    (tmp_path / "trials").rmdir()
    (tmp_path / ".sweep").write_text("of another")
    with pytest.raises(InputError, match="has the runs of another sweep"):
        sweep(plan)


def test_a_worker_has_no_verdict_to_print(sweep_recipe: Path, capsys):
    assert main(["sweep", str(sweep_recipe), "--worker", "--json"]) == 2
    assert "--json: a worker has no verdict to print" in capsys.readouterr().err


def test_a_data_file_is_no_recipe(tmp_path: Path, capsys):
    assert main(["sweep", "pairs.csv"]) == 2
    assert "pairs.csv is no recipe: `fmicl recipe new pairs.csv` writes one from it" in capsys.readouterr().err


@pytest.mark.parametrize("budget", ["0h", "2", "h"])
def test_a_budget_is_a_time(budget: str, capsys):
    with pytest.raises(SystemExit):
        main(["sweep", "recipe.yaml", "--budget", budget])
    assert "--budget: must be a number above 0 and s, m, h or d, such as 90m or 2h" in capsys.readouterr().err
