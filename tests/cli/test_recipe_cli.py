"""``fmicl recipe``, as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fmicl_text.cli import main
from fmicl_text.core import DIVERGENCES
from fmicl_text.losses import objectives
from fmicl_text.recipe.file import find_recipe, shipped_recipes

GOOD = """\
name: good
model: {base: some/encoder}
data: {train: a.txt, columns: {anchor: text}, views: dropout}
loss: {objective: infonce}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_list_describes_every_recipe(capsys):
    assert main(["recipe", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_recipes())
    assert lines[0].startswith("quickstart ") and "Adapt all-MiniLM-L6-v2" in lines[0]
    assert len({line.index(line.split("  ")[-1].strip()) for line in lines}) == 1, "descriptions are aligned"


def test_a_reader_that_stops_reading_is_no_error():
    listing = f"{sys.executable} -m fmicl_text recipe list | head -n 1"
    finished = subprocess.run(["bash", "-o", "pipefail", "-c", listing], capture_output=True, text=True)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.startswith("quickstart ")


def test_show_prints_the_file(capsys):
    assert main(["recipe", "show", "unsup-simcse-bert-base"]) == 0
    assert capsys.readouterr().out == find_recipe("text/unsup-simcse-bert-base").read_text(encoding="utf-8")


def test_copy_to_here_to_a_folder_and_to_a_file(capsys, folder):
    (folder / "mine").mkdir()
    for arguments, path in (
        ([], "quickstart.yaml"),
        (["mine"], "mine/quickstart.yaml"),
        (["new/x.yaml"], "new/x.yaml"),
    ):
        assert main(["recipe", "copy", "quickstart", *arguments]) == 0
        assert capsys.readouterr().out == f"{path}\n"
        assert (folder / path).read_bytes() == find_recipe("quickstart").read_bytes()


def test_copy_does_not_overwrite_unless_told(capsys, folder):
    (folder / "quickstart.yaml").write_text("mine")
    assert main(["recipe", "copy", "text/sup-simcse-bert-base", "quickstart.yaml"]) == 2
    assert capsys.readouterr().err == "error: quickstart.yaml already exists; --overwrite replaces it\n"
    assert (folder / "quickstart.yaml").read_text() == "mine"
    assert main(["recipe", "copy", "text/sup-simcse-bert-base", "quickstart.yaml", "--overwrite"]) == 0
    assert "sup-simcse" in (folder / "quickstart.yaml").read_text()


def test_validate_prints_every_problem_of_every_file(capsys, folder):
    (folder / "good.yaml").write_text(GOOD)
    (folder / "bad.yaml").write_text(GOOD.replace("loss:", "los:").replace("name: good", "name: _x"))
    assert main(["recipe", "validate", "good.yaml"]) == 0
    assert capsys.readouterr().out == "good.yaml: ok\n"
    assert main(["recipe", "validate", "bad.yaml", "good.yaml", "none.yaml", "quickstart"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "good.yaml: ok\nquickstart: ok\n"
    assert captured.err.splitlines() == [
        'error: bad.yaml:1: name: must be letters, digits, - _ and ., with a letter or digit first, got "_x"',
        'error: bad.yaml:4: los: unknown key (did you mean "loss"?)',
        "error: none.yaml: no such file",
    ]


def test_unknown_recipe(capsys):
    assert main(["recipe", "show", "quikstart"]) == 2
    assert 'no recipe "quikstart" (did you mean "quickstart"?)' in capsys.readouterr().err


def test_schema_is_useful_to_an_editor(capsys):
    assert main(["recipe", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["required"]) == {"name", "model", "data", "loss"}
    assert schema["$defs"]["ModelSection"]["properties"]["head"]["enum"] == ["none", "mlp", "mlp-train-only"]
    losses = {loss["properties"]["objective"]["const"]: loss for loss in schema["properties"]["loss"]["oneOf"]}
    assert list(losses) == list(objectives()) and all(loss["required"] == ["objective"] for loss in losses.values())
    fmicl = losses["fmicl"]
    assert fmicl["additionalProperties"] is False
    assert fmicl["properties"]["divergence"]["enum"] == list(DIVERGENCES)
    assert fmicl["properties"]["sigma"]["anyOf"][0] == {"exclusiveMinimum": 0, "type": "number"}
    assert fmicl["properties"]["sigma"]["description"].startswith("Width of the Gaussian kernel")
    train = schema["properties"]["train"]
    assert train["properties"]["learning_rate"]["type"] == "number" and train["additionalProperties"] is False
    assert "default" not in train["properties"]["learning_rate"]
    assert not {"seed", "output_dir"} & train["properties"].keys()

    def references(node):
        if isinstance(node, dict):
            yield from ([node["$ref"]] if "$ref" in node else [])
            node = list(node.values())
        for child in node if isinstance(node, list) else []:
            yield from references(child)

    assert {reference.removeprefix("#/$defs/") for reference in references(schema)} <= schema["$defs"].keys()


def test_a_tilde_is_the_home_folder_in_any_argument(tmp_path, monkeypatch, capsys):
    """No shell replaces it in ``--output=~/a.yaml``, in a quoted argument, or in a list that Python runs."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(elsewhere)
    assert main(["recipe", "copy", "quickstart", "~/a.yaml"]) == 0
    assert main(["recipe", "validate", "~/a.yaml"]) == 0
    assert main(["train", "~/none.yaml", "--output=~/run"]) == 2
    assert main(["report", "~/none", "--output", "~/page"]) == 2
    said = capsys.readouterr().err
    assert f"{home}/none.yaml: no such file" in said and f"{home}/none is no run folder" in said
    assert (home / "a.yaml").is_file() and not list(elsewhere.iterdir())
