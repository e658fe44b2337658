"""What a recipe may evaluate follows from what it trains on: texts or images; all else is refused before any data."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fmicl_text.data.texts import ImagesError
from fmicl_text.errors import InputError
from fmicl_text.evaluation.registry import KINDS, evaluation
from fmicl_text.recipe.file import load_recipe
from fmicl_text.training.inputs import load_inputs

OF_TEXTS = [
    "sts7",
    "stsb-dev",
    "own.yaml",
    "heldout",
    "transfer",
    "pairs.csv",
    {"name": "mteb", "tasks": ["STS12"]},
    {"name": "geometry", "pairs": "pairs.csv"},
    {"name": "geometry", "data": "sample:stsb"},
]
OF_IMAGES = [
    {"name": "images", "train": "photos"},
    {"name": "knn", "train": "photos"},
    {"name": "linear", "train": "photos"},
    {"name": "geometry", "images": "photos"},
    {"name": "geometry", "augment": {"flip": 0}},
]
RECIPES = {
    "texts": {
        "model": {"base": "some/encoder"},
        "data": {"train": "pairs.csv", "columns": {"anchor": "a", "positive": "b"}, "heldout": 0.1},
    },
    "images": {
        "model": {"scratch": {"type": "resnet"}, "image_size": 32},
        "data": {"train": "photos", "columns": {"anchor": "image"}, "views": "augment"},
    },
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a recipe of texts or of images, by what it evaluates."""
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text("name: own\ntasks: [{name: Mine, type: sts, file: pairs.csv}]\n")

    def write(of: str, evaluate: dict, **data: object) -> str:
        recipe = {"name": "small", "loss": {"objective": "infonce"}, **RECIPES[of], "evaluate": evaluate}
        recipe["data"] = recipe["data"] | data
        Path("recipe.yaml").write_text(json.dumps(recipe))
        return "recipe.yaml"

    return write


def problems(file: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_recipe(file)
    return [problem.replace("recipe.yaml:1: ", "") for problem in caught.value.problems]


def test_every_kind_is_tried(write):
    assert {type(evaluation(asked)) for asked in OF_TEXTS + OF_IMAGES} == set(KINDS)


@pytest.mark.parametrize("of", ["texts", "images"])
def test_evaluations_of_the_other_kind_are_refused_by_key(write, of: str):
    own, other = (OF_TEXTS, OF_IMAGES) if of == "texts" else (OF_IMAGES, OF_TEXTS)
    reads = "images" if of == "texts" else "texts"
    for asked in own:
        load_recipe(write(of, {"during": asked, "data": "folder"}))
        load_recipe(write(of, {"after": [asked], "data": "folder"}))
    for asked in other:
        [during] = problems(write(of, {"during": asked}))
        [after] = problems(write(of, {"during": "none", "after": [own[0], asked]}))
        name = asked if isinstance(asked, str) else asked["name"]
        assert during.startswith(f"evaluate.during: {name}") and after.startswith(f"evaluate.after[1]: {name}")
        for problem in (during, after):
            assert f"reads {reads}, and this trains on {of}" in problem and f"of {of} there are" in problem


def test_geometry_is_of_what_is_trained_on_and_of_one_of_the_two(write):
    load_recipe(write("texts", {"after": ["geometry"]}))
    load_recipe(write("images", {"after": ["geometry"], "data": "photos"}))
    [found] = problems(write("images", {"after": [{"name": "geometry", "images": "photos", "pairs": "pairs.csv"}]}))
    assert "pairs: is for texts and images is for images; give one of the two" in found


def test_images_to_measure_with_are_asked_for_before_any_are_loaded(write):
    assert problems(write("images", {"during": "knn", "after": ["geometry", "linear"]})) == [
        "evaluate.during: knn needs images with labels: set its option train, or evaluate.data",
        "evaluate.after[0]: geometry needs images: set its option images, or evaluate.data",
        "evaluate.after[1]: linear needs images with labels: set its option train, or evaluate.data",
    ]


def test_views_that_were_forgotten_are_the_one_problem(write):
    [found] = problems(write("images", {"after": OF_IMAGES[:1]}, views="dropout"))
    assert found == "model.scratch: is an encoder of images: set data.views: augment"
    [found] = problems(write("images", {}, views="columns"))
    assert "set views: augment for images, dropout for texts" in found
    [found] = problems(write("images", {}, views="columns", broken="skip"))
    assert found == "data.broken: is for images: set views: augment, got columns"
    [found] = problems(write("images", {}, heldout=0.1))
    assert found.startswith("data.heldout: is for pairs of texts")


@pytest.mark.parametrize("source", ["names.csv", "bytes.parquet", "datasets.parquet", "photos", "sample:digits"])
def test_images_read_as_texts_are_refused_before_the_hub_is_asked(write, source: str):
    """Nothing else is said: the evaluation's data, which is on the Hub, was not looked for."""
    Path("photos").mkdir()
    for name in "ab":
        Image.new("RGB", (4, 4), "red").save(f"photos/{name}.png")
    files = [str(file) for file in sorted(Path("photos").iterdir())]
    Path("names.csv").write_text("a\n" + "\n".join(files))
    images = [Path(file).read_bytes() for file in files]
    pq.write_table(pa.table({"a": images}), "bytes.parquet")
    pq.write_table(pa.table({"a": [{"bytes": image, "path": None} for image in images]}), "datasets.parquet")
    data = {"train": source, "columns": {"anchor": "a"}, "views": "dropout", "heldout": None}
    recipe = load_recipe(write("texts", {"during": "stsb-dev", "after": ["sts7"]}, **data))
    with pytest.raises(ImagesError) as caught:
        load_inputs(recipe)
    [problem] = caught.value.problems
    assert problem.startswith(f"{source}: ") and "set data.views: augment" in problem


def test_texts_that_end_like_names_of_images_are_texts(write):
    Path("names.csv").write_text("a\nnowhere.png\nneither.png\n")
    data = {"train": "names.csv", "columns": {"anchor": "a"}, "views": "dropout", "heldout": None}
    assert len(load_inputs(load_recipe(write("texts", {"during": "none"}, **data))).train[""]) == 2
