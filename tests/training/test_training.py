"""Recipes run end to end on a tiny encoder: the run folder, resuming, seeds, the best checkpoint, the plan."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import mean, stdev

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from words import WORDS

from fmicl_text.cli import main
from fmicl_text.errors import InputError
from fmicl_text.evaluation.results import read_result
from fmicl_text.evaluation.scored_model import model_revision
from fmicl_text.evaluation.sts import evaluate
from fmicl_text.recipe.file import load_recipe, shipped_recipes
from fmicl_text.training.plan import plan
from fmicl_text.training.train import train

pytestmark = pytest.mark.usefixtures("blank_pictures")

SENTENCES = [
    f"the {size} {animal} {verb} in the {place}"
    for size in ("big", "small")
    for animal in ("dog", "cat", "horse")
    for verb in ("runs", "sleeps")
    for place in ("park", "house")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data: pairs, sentences, and STS-B of the right size."""
    folder = tmp_path_factory.mktemp("data")
    rows = [
        {"question": s, "answer": s.replace("the", "a"), "wrong": SENTENCES[-1 - i]} for i, s in enumerate(SENTENCES)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:8]))
    (folder / "sentences.txt").write_text("\n".join(SENTENCES) + "\n")
    generator = torch.Generator().manual_seed(0)
    columns: dict[str, list] = {"split": [], "sentence1": [], "sentence2": [], "score": []}
    for split, n in (("dev", 1500), ("test", 1379)):
        first, second = torch.randint(len(SENTENCES), (2, n), generator=generator).tolist()
        columns["split"] += [split] * n
        columns["sentence1"] += [SENTENCES[i] for i in first]
        columns["sentence2"] += [SENTENCES[i] for i in second]
        columns["score"] += [5.0 if i == j else float((i + j) % 5) for i, j in zip(first, second, strict=True)]
    (folder / "sts").mkdir()
    pq.write_table(pa.table(columns), folder / "sts" / "stsb.parquet")
    return folder


@pytest.fixture
def write_recipe(folder: Path, tiny_encoder_path: Path, tmp_path: Path):
    """Write a recipe for the tiny encoder, with changes to its sections."""

    def write(**sections: dict) -> Path:
        recipe = {
            "name": "tiny",
            "model": {"base": str(tiny_encoder_path)},
            "data": {"train": str(folder / "pairs.jsonl"), "columns": {"anchor": "question", "positive": "answer"}},
            "loss": {"objective": "fmicl"},
            "train": {
                "per_device_train_batch_size": 6,
                "num_train_epochs": 2,
                "logging_steps": 1,
                "learning_rate": 1e-3,
            },
            "evaluate": {"during": None, "every_steps": 3},
        }
        for name, section in sections.items():
            recipe[name] = recipe[name] | section if isinstance(section, dict) else section
        path = tmp_path / "recipe.yaml"
        path.write_text(json.dumps(recipe))  # JSON is YAML
        return path

    return write


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def test_run_folder_holds_what_was_promised(write_recipe, folder: Path, tmp_path: Path) -> None:
    path = write_recipe(
        data={"heldout": str(folder / "heldout.jsonl")},
        evaluate={"during": "stsb-dev", "before": True, "after": ["heldout", "stsb"], "data": str(folder)},
    )
    result = train(load_recipe(path), tmp_path / "run")
    run = result.seeds[0].folder
    assert run.path == tmp_path / "run"
    assert load_recipe(run.recipe) == load_recipe(path), "the resolved recipe repeats the run"
    manifest = json.loads(run.manifest.read_text())
    assert manifest["state"] == "done" and manifest["steps"] == 8 and manifest["versions"]["torch"] == torch.__version__
    logged = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [entry["step"] for entry in logged if "positive" in entry] == list(range(1, 9))
    assert all(entry["information_bound"] == -entry["loss"] for entry in logged if "loss" in entry)
    assert all(0.05 <= entry["temperature"] <= 0.2 for entry in logged if "loss" in entry)
    assert run.picture.read_bytes().startswith(b"\x89PNG")
    assert result.before.keys() == result.seeds[0].after.keys() == {"heldout", "stsb"}
    after = read_result(run.result("stsb"))
    again = evaluate(SentenceTransformer(str(run.model)), "stsb", str(folder))
    assert after.score("STSBenchmark").value == pytest.approx(again.result.score("STSBenchmark").value, abs=1e-6)
    assert after.revision == model_revision(str(run.model))
    assert result.before["stsb"].scores != after.scores


def test_best_checkpoint_by_the_development_score_is_the_model(write_recipe, folder: Path, tmp_path: Path) -> None:
    during = {"during": "stsb-dev", "every_steps": 1, "data": str(folder)}
    path = write_recipe(evaluate=during, loss={"shift": "none", "alpha": 1.0})
    run = train(load_recipe(path), tmp_path / "run").seeds[0].folder
    logged = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    of_row = {"information_bound", "temperature"}
    assert not any(entry.keys() & of_row for entry in logged), "a weight of its own makes the loss no bound"
    curve = {
        e["step"]: 100 * e["eval_stsb-dev_spearman_cosine"] for e in logged if "eval_stsb-dev_spearman_cosine" in e
    }
    best = json.loads(run.manifest.read_text())["best"]
    assert len(curve) == 8 and best["stsb-dev spearman"] == pytest.approx(max(curve.values()))
    measured = evaluate(SentenceTransformer(str(run.model)), "stsb-dev", str(folder)).result
    assert measured.scores[0].value == pytest.approx(max(curve.values()), abs=1e-3)


@pytest.mark.parametrize("every_steps", [3, 100], ids=["within the run", "beyond its end"])
def test_last_step_is_a_candidate_too(write_recipe, folder: Path, tmp_path: Path, every_steps: int) -> None:
    path = write_recipe(evaluate={"during": "stsb-dev", "every_steps": every_steps, "data": str(folder)})
    run = train(load_recipe(path), tmp_path / "run").seeds[0].folder
    steps = [json.loads(line)["step"] for line in run.metrics.read_text().splitlines() if "eval_stsb" in line]
    assert steps == [s for s in (3, 6) if every_steps == 3] + [8]


class Interrupted(Exception):
    """Stands for a crash."""


def test_resumed_run_equals_the_uninterrupted_one(
    write_recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = load_recipe(
        write_recipe(
            model={"head": "mlp-train-only"},
            loss={"learn_kernel": True, "alpha": "auto"},
        )
    )
    whole = train(recipe, tmp_path / "whole").seeds[0].folder

    from fmicl_text.training.callbacks import MetricsFile

    original = MetricsFile.on_log

    def crash_at_five(self, args, state, control, **kwargs):  # after the checkpoint of step 3
        original(self, args, state, control, **kwargs)
        if state.global_step == 5:
            raise Interrupted

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(MetricsFile, "on_log", crash_at_five)
        train(recipe, tmp_path / "resumed")
    resumed = train(recipe, tmp_path / "resumed", resume=True).seeds[0].folder
    expected, actual = weights(whole.path), weights(resumed.path)
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    runs = [[json.loads(line) for line in run.metrics.read_text().splitlines()] for run in (whole, resumed)]
    steps = [[(e["step"], e["loss"]) for e in run if "loss" in e] for run in runs]
    assert steps[0] == steps[1]
    caplog.clear()
    train(recipe, whole.path, resume=True)
    assert f"{whole.path} is finished: nothing is trained" in caplog.messages


def test_several_seeds_end_in_mean_and_deviation(write_recipe, folder: Path, tmp_path: Path) -> None:
    path = write_recipe(data={"heldout": str(folder / "heldout.jsonl")}, evaluate={"after": ["heldout"]}, seeds=[1, 2])
    result = train(load_recipe(path), tmp_path / "run")
    assert [seed.folder.path.name for seed in result.seeds] == ["seed-1", "seed-2"]
    first, second = (weights(seed.folder.path) for seed in result.seeds)
    assert any(not torch.equal(first[name], second[name]) for name in first), "seeds differ"
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    key = "held-out pairs MRR@10"
    values = [read_result(seed.folder.result("heldout")).score(key).value for seed in result.seeds]
    assert summary[f"heldout: {key}"] == {"mean": mean(values), "sd": stdev(values), "values": values}


def test_same_seed_gives_the_same_weights_and_no_examples_are_drawn(write_recipe, tmp_path: Path, capsys) -> None:
    recipe = load_recipe(write_recipe())
    first, second = (weights(train(recipe, tmp_path / name).folder) for name in ("a", "b"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert "examples" not in capsys.readouterr().err
    assert "widget:" not in (tmp_path / "a" / "model" / "README.md").read_text("utf-8")


def test_nothing_is_overwritten_without_being_told(write_recipe, tmp_path: Path) -> None:
    recipe, run = load_recipe(write_recipe()), tmp_path / "run"
    with pytest.raises(InputError, match="no run to resume"):
        train(recipe, run, resume=True)
    train(recipe, run)
    with pytest.raises(InputError, match="--resume continues it, --overwrite deletes it"):
        train(recipe, run)
    other = load_recipe(write_recipe(seeds=[7], train={"warmup_steps": 1, "learning_rate": 0.5}))
    with pytest.raises(InputError, match="another recipe") as caught:
        train(other, run, resume=True)
    began, now = recipe.train["learning_rate"], run / "recipe.yaml"
    assert set(caught.value.problems[:-1]) == {
        f"train.learning_rate: is 0.5 here, and {now} has {began}",
        f"train.warmup_steps: is 1.0 here, and {now} has none",
        f"seeds: is [7] here, and {now} has {recipe.seeds}",
    }
    assert "repeat its settings" in caught.value.problems[-1] and "--output" in caught.value.problems[-1]
    (run / "results").mkdir(exist_ok=True)
    (run / "results" / "old.json").write_text("{}")
    train(recipe, run, overwrite=True)
    assert not (run / "results" / "old.json").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="not a run"):
        train(recipe, tmp_path / "mine", overwrite=True)


def test_plan_says_what_would_run_and_writes_nothing(
    write_recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(write_recipe())
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    planned = plan(recipe)
    assert (planned.sources[""].rows, planned.steps, planned.batch) == (len(SENTENCES), 8, 6)
    assert re.match(r"FMICLLoss\(.*divergence='js'", planned.sources[""].loss), planned
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"base": "./no-such-model"}}, "no model folder './no-such-model'"),
        ({"data": {"train": "no-such-file.csv"}}, "no-such-file.csv"),
        ({"data": {"columns": {"anchor": "questoin", "positive": "answer"}}}, "question"),
        ({"evaluate": {"during": "stsb-dev", "data": "no-such-folder"}}, "no-such-folder"),
        (
            {"loss": {"divergence": "sh", "kernel": {"name": "gaussian", "sigma": 0.1}, "alpha": 1}},
            "too large for float32",
        ),
        ({"train": {"fsdp": "nonsense"}}, "train"),
        (
            {"loss": {"objective": "contextual-infonce"}},
            "loss.objective: contextual-infonce needs explicit negatives: name their columns in data.columns.negatives",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(write_recipe, tmp_path, capsys, sections, message) -> None:
    run = tmp_path / "run"
    assert main(["train", str(write_recipe(**sections)), "--output", str(run)]) == 2
    assert message in capsys.readouterr().err
    assert not run.exists()


def test_all_missing_inputs_are_named_at_once(write_recipe) -> None:
    path = write_recipe(data={"train": "no.csv"}, evaluate={"after": ["stsb"], "data": "nowhere"})
    with pytest.raises(InputError) as caught:
        plan(load_recipe(path))
    assert "no.csv" in str(caught.value) and "nowhere" in str(caught.value)


def test_command_prints_scores_model_and_usage(write_recipe, folder, tmp_path, capsys) -> None:
    path = write_recipe(
        data={"heldout": str(folder / "heldout.jsonl")}, evaluate={"before": True, "after": ["heldout"]}
    )
    assert main(["train", str(path), "--output", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    for expected in (
        "before",
        "change",
        "heldout: held-out pairs accuracy@1 (%)",
        str(tmp_path / "run" / "model"),
        "model.encode(",
    ):
        assert expected in printed.replace("\n", ""), expected


def test_the_progress_bar_shows_the_score_that_chooses_the_checkpoint(write_recipe, folder, tmp_path, capfd) -> None:
    path = write_recipe(
        data={"heldout": str(folder / "heldout.jsonl")},
        evaluate={"during": "heldout", "every_steps": 1},
        train={"max_steps": 2, "disable_tqdm": False},
    )
    run = train(load_recipe(path), tmp_path / "run").folder
    logged = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    *_, last = (entry["eval_heldout_cosine_mrr@10"] for entry in logged if "eval_heldout_cosine_mrr@10" in entry)
    assert f"heldout MRR@10={100 * last:.2f}" in capfd.readouterr().err


def test_mlp_head_is_kept_in_the_model_only_if_asked(write_recipe, tmp_path: Path) -> None:
    heads = {"mlp": 1, "mlp-train-only": 0, "none": 0}
    for head, dense in heads.items():
        run = train(load_recipe(write_recipe(model={"head": head})), tmp_path / head).folder
        modules = [type(module).__name__ for module in SentenceTransformer(str(run / "model"))]
        assert modules.count("Dense") == dense, head


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if name.startswith("text/")])
def test_every_shipped_recipe_trains_on_a_few_rows(name: str, folder, tiny_encoder_path, tmp_path) -> None:
    """With model and data swapped for tiny ones, every loss, head, view and training setting is used as shipped."""
    shipped = load_recipe(name)
    roles = shipped.data.columns.roles
    rows = [dict.fromkeys(roles.values(), s) for s in SENTENCES]
    if len(roles) > 1:
        rows = [row | {roles["positive"]: row[roles["anchor"]].replace("the", "a")} for row in rows]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = load_recipe(
        name,
        [
            f"model.base={tiny_encoder_path}",
            "model.revision=null",
            f"data.train={tmp_path / 'rows.jsonl'}",
            "data.split=train",
            "train.max_steps=2",
            "train.per_device_train_batch_size=8",
            "evaluate={during: null}",
        ],
    )
    run = train(recipe, tmp_path / "run").seeds[0].folder
    losses = [json.loads(line)["train_loss"] for line in run.metrics.read_text().splitlines() if "train_loss" in line]
    assert len(losses) == 1 and torch.isfinite(torch.tensor(losses)).all()
    original = load_file(tiny_encoder_path / "model.safetensors")
    assert any(not torch.equal(original[key], value) for key, value in weights(run.path).items() if key in original)


def test_a_lone_last_row_is_left_out_of_an_epoch(tmp_path, tiny_encoder_path):
    """Nine pairs in batches of four: the ninth has no negatives, and training goes on without it."""
    rows = "".join(json.dumps({"a": f"the {word}", "b": f"a {word}"}) + "\n" for word in WORDS[1:10])
    (tmp_path / "nine.jsonl").write_text(rows)
    recipe = tmp_path / "nine.yaml"
    recipe.write_text(
        f"name: nine\nmodel: {{base: '{tiny_encoder_path}'}}\nloss: {{objective: infonce}}\n"
        f"data: {{train: '{tmp_path / 'nine.jsonl'}', columns: {{anchor: a, positive: b}}}}\n"
        "train: {per_device_train_batch_size: 4, num_train_epochs: 2, bf16: false}\nevaluate: {during: null}\n"
    )
    result = train(load_recipe(recipe), tmp_path / "run")
    assert json.loads(result.seeds[0].folder.manifest.read_text())["steps"] == 4
