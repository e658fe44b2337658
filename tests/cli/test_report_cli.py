"""``fmicl eval geometry`` and ``fmicl report`` as they are typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from reference.formulas import RECOMMENDED
from words import WORDS

from fmicl_text.cli import main

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "pairs.csv"
    lines = [" ".join(rng.choice(WORDS, 6)) for _ in range(40)]
    path.write_text("question,answer\n" + "".join(f"{line},{line} very slow\n" for line in lines))
    return path


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def runs(tmp_path: Path, tiny_encoder_path: Path, pairs: Path, run) -> list[Path]:
    """Two run folders with a model and its geometry, of 1 seed."""
    folders = []
    for name in ("one", "two"):
        folder = tmp_path / name
        shutil.copytree(tiny_encoder_path, folder / "model")
        (folder / "manifest.json").write_text(json.dumps({"state": "done", "seed": 1}))
        columns = ["--pairs", pairs, "--columns", "question", "answer"]
        assert run("eval", "geometry", folder, *columns, "--output", folder / "results" / "geometry.json")[0] == 0
        folders.append(folder)
    return folders


def test_geometry_prints_writes_and_draws_the_same(run, tiny_encoder_path, pairs, tmp_path):
    command = ["eval", "geometry", tiny_encoder_path, "--pairs", pairs, "--columns", "question", "answer"]
    code, table, _ = run(*command)
    assert code == 0
    code, printed, _ = run(*command, "--json", "--output", tmp_path / "out.json")
    document = json.loads(printed)
    assert code == 0 and document == json.loads((tmp_path / "out.json").read_text())
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    geometry = document["details"]["geometry"]
    assert (geometry["sentences"], geometry["positives"], geometry["dimensions"]) == (80, 40, 32)
    scores = {score["metric"]: score for score in document["scores"]}
    for name in ("alignment", "uniformity", "anisotropy"):
        (row,) = [line for line in table.splitlines() if f"│ {name} " in line]
        low, high = geometry[name]["ci95"]
        assert scores[name]["value"] == geometry[name]["value"] and scores[name]["ci95"] == [low, high]
        assert f" {geometry[name]['value']:.4g} " in row and f" {low:.4g} to {high:.4g} " in row
    assert f"{geometry['effective_rank']:.4g}" in table
    assert set(geometry["mutual_information"]) == {*RECOMMENDED}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--pairs", "no.csv"], "no.csv"),
        (["--data", "nowhere"], "no such data folder: nowhere"),
    ],
)
def test_wrong_data_ends_in_two(run, tiny_encoder_path, change, message):
    code, out, err = run("eval", "geometry", tiny_encoder_path, *change)
    assert (code, out) == (2, "") and message in err and "Traceback" not in err


def test_own_columns_are_asked_for_by_name(run, tiny_encoder_path, pairs):
    code, _, err = run("eval", "geometry", tiny_encoder_path, "--pairs", pairs)
    assert code == 2 and 'no column "anchor"' in err and "question, answer" in err


def test_data_and_pairs_exclude_each_other(tiny_encoder_path):
    with pytest.raises(SystemExit) as caught:
        main(["eval", "geometry", str(tiny_encoder_path), "--data", "a", "--pairs", "b"])
    assert caught.value.code == 2


def test_report_goes_to_the_first_run_and_opens_when_asked(run, runs, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    code, out, _ = run("report", *runs, "--open")
    assert code == 0 and opened == [(runs[0] / "report.html").resolve().as_uri()]
    assert str(runs[0] / "report.html") in out.replace("\n", "")
    code, out, err = run("report", *runs)
    assert (code, out) == (2, "") and "--overwrite" in err and len(opened) == 1


def test_json_is_the_page_and_the_comparisons(run, runs, tmp_path):
    code, out, _ = run("report", *runs, "--json", "--output", tmp_path / "out", "--published", "simcse")
    assert code == 0
    assert json.loads(out) == {"page": str(tmp_path / "out" / "report.html"), "comparisons": []}
    assert "no complete result of sts7" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nowhere"], "nowhere is no run folder"), (["{run}", "--published", "simcs"], 'did you mean "simcse"?')],
)
def test_wrong_input_ends_in_two_and_writes_nothing(run, tmp_path, arguments, message):
    (tmp_path / "manifest.json").write_text(json.dumps({"state": "done", "seed": 1}))
    code, out, err = run("report", *(argument.format(run=tmp_path) for argument in arguments))
    assert (code, out) == (2, "") and message in err
    assert not (tmp_path / "report.html").exists()
