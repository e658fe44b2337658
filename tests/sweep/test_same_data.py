"""What judges is not to be what chose, whatever it is called and however it is written."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image
from sweep_recipes import write_sweep_recipe

from fmicl_text.recipe.file import load_recipe
from fmicl_text.recipe.schema import Recipe
from fmicl_text.sweep.plan import judged
from fmicl_text.training.inputs import load_inputs

SAME = "chooses and judges on the same data"


def notes(recipe: Recipe) -> list[str]:
    return judged(recipe, load_inputs(recipe))[2]


@pytest.fixture
def recipe(tmp_path: Path, tiny_encoder_path: Path) -> Path:
    return write_sweep_recipe(tmp_path, tiny_encoder_path)


def write(file: Path, columns: list[str], rows: list[list[object]]) -> None:
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([columns, *rows])


@pytest.mark.parametrize("disguise", ["copy", "swapped", "subset", "labels", "suite", "geometry", "partly", "none"])
def test_the_same_pairs_are_known_in_any_file(tmp_path: Path, recipe: Path, disguise: str):
    read = [json.loads(line) for line in (tmp_path / "chooses.jsonl").read_text().splitlines()]
    pairs = [[row["sentence1"], row["sentence2"], row["score"]] for row in read]
    copy, columns, after = tmp_path / "copy.csv", ["sentence1", "sentence2", "score"], str(tmp_path / "copy.csv")
    rows = [row for number, row in enumerate(pairs) if disguise != "subset" or number % 3]
    if disguise == "swapped":
        columns, rows = ["score", "sentence1", "sentence2"], [[score, b, a] for a, b, score in reversed(rows)]
    elif disguise == "labels":
        columns, rows = ["sentence1", "sentence2", "label"], [[a, b, int(score > 1)] for a, b, score in rows]
        after = f"{{name: {copy}, label: label}}"
    elif disguise == "suite":
        pytest.importorskip("mteb")
        after = str(tmp_path / "suite.yaml")
        Path(after).write_text("name: desk\ntasks:\n  - {name: Own, type: sts, file: copy.csv}\n")
    elif disguise == "geometry":
        after = f"{{name: geometry, pairs: {copy}, columns: [sentence1, sentence2]}}"
    elif disguise in ("partly", "none"):
        rows = [
            [f"{a} {'' if number == 0 and disguise == 'partly' else number}".strip(), b, s]
            for number, (a, b, s) in enumerate(rows)
        ]
    write(copy, columns, rows)
    found = notes(load_recipe(recipe, [f"evaluate.after=[{after}]"]))
    expected = {"partly": "items that judge also choose", "none": None}.get(disguise, SAME)
    assert [expected in note for note in found] == ([True] if expected else [])


def test_held_out_pairs_are_known_in_a_file(tmp_path: Path, recipe: Path):
    rows = [json.loads(line) for line in (tmp_path / "judges.jsonl").read_text().splitlines()]
    write(tmp_path / "copy.csv", ["b", "a", "score"], [[r["answer"], r["question"], n] for n, r in enumerate(rows)])
    after = f"{{name: {tmp_path / 'copy.csv'}, sentences: [a, b]}}"
    assert [
        SAME in note for note in notes(load_recipe(recipe, ["evaluate.during=heldout", f"evaluate.after=[{after}]"]))
    ] == [True]


def test_the_same_images_are_known_by_their_pixels(tmp_path: Path):
    for folder, shift in (("train", 0), ("chooses", 60), ("copy", 60), ("other", 120)):
        (tmp_path / folder).mkdir()
        rows = []
        for number in range(6):
            name = f"{folder}/{number if folder != 'copy' else 9 - number}.png"
            Image.new("RGB", (16, 16), (shift + number, 10 * number, 7)).save(tmp_path / name)
            rows.append([str(tmp_path / name), number % 2])
        write(tmp_path / f"{folder}.csv", ["image", "label"], rows)
    section = {
        "name": "tiny-images",
        "model": {
            "scratch": {"type": "resnet", "hidden_sizes": [8], "depths": [1], "embedding_size": 8},
            "image_size": 16,
        },
        "data": {"train": str(tmp_path / "train"), "columns": {"anchor": "image"}, "views": "augment"},
        "loss": {"objective": "ntxent"},
        "train": {"per_device_train_batch_size": 2, "max_steps": 1},
    }
    for other in ("copy", "other"):
        labelled = {
            name: {"train": str(tmp_path / "train.csv"), "test": str(tmp_path / f"{name}.csv")}
            for name in ("chooses", other)
        }
        section["evaluate"] = {
            "during": {"name": "knn", **labelled["chooses"]},
            "after": [{"name": "images", **labelled[other]}],
        }
        (tmp_path / "recipe.yaml").write_text(json.dumps(section))
        found = notes(load_recipe(tmp_path / "recipe.yaml"))
        assert [SAME in note for note in found] == ([True] if other == "copy" else []), found
