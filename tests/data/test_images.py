"""Images of every source are decoded once, broken ones are named, and what was decoded is found again."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image
from test_pixels import WHOLE, file

from fmicl_text.data import images
from fmicl_text.data.groups import identity
from fmicl_text.data.images import load_images, load_train_images
from fmicl_text.data.section import Columns, DataSection
from fmicl_text.errors import InputError

NUMBERS = range(6)
ARRAYS = [np.full((9, 8), 40 * number, np.uint8) for number in NUMBERS]
FILES = [file(Image.fromarray(array)) for array in ARRAYS]
LABELS = ["even", "odd"] * 3


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import datasets.config

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return lambda: sorted((tmp_path / "cache").rglob("*.arrow"))


def parquet(values, name: str = "a.parquet") -> str:
    pq.write_table(pa.table({"image": values, "label": LABELS[: len(values)]}), name)
    return name


def names() -> list[str]:
    Path("photos").mkdir(exist_ok=True)
    for number, content in enumerate(FILES):
        Path(f"photos/{number}.png").write_bytes(content)
    return [f"photos/{number}.png" for number in NUMBERS]


def csv() -> str:
    lines = [f"{name},{label}" for name, label in zip(names(), LABELS, strict=True)]
    Path("rows.csv").write_text("\n".join(["image,label", *lines]) + "\n")
    return "rows.csv"


def folder() -> str:
    for number, (content, label) in enumerate(zip(FILES, LABELS, strict=True)):
        path = Path(f"classes/{label}/{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return "classes"


def zipped() -> str:
    with zipfile.ZipFile("photos.zip", "w") as archive:
        for number, content in enumerate(FILES):
            archive.writestr(f"{number}.png", content)
        lines = [f"{number}.png,{label}" for number, label in enumerate(LABELS)]
        archive.writestr("metadata.csv", "\n".join(["file_name,label", *lines]) + "\n")
    return "photos.zip"


def features() -> str:
    rows = {"image": [{"bytes": content, "path": None} for content in FILES], "label": LABELS}
    types = Features({"image": ImageFeature(), "label": pa_string()})
    Dataset.from_dict(rows, features=types).to_parquet("features.parquet")
    return "features.parquet"


def pa_string():
    from datasets import Value

    return Value("string")


SOURCES = {
    "parquet with bytes": lambda: parquet(FILES),
    "parquet of datasets": features,
    "csv with names": csv,
    "a folder a label": folder,
    "a zip with a csv": zipped,
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same(source: str):
    rows, skipped = load_images(SOURCES[source](), "image", 4, label="label")
    assert skipped == 0 and rows.column_names == ["image", "label"]
    found = {(np.frombuffer(row["image"], np.uint8).max(), row["label"]) for row in rows}
    assert found == {(40 * number, LABELS[number]) for number in NUMBERS}


def test_a_data_set_of_the_hub(monkeypatch: pytest.MonkeyPatch):
    import datasets

    rows = {"image": [{"bytes": content, "path": None} for content in FILES], "label": [0, 1] * 3}
    types = Features({"image": ImageFeature(), "label": datasets.ClassLabel(names=["even", "odd"])})
    asked = []

    def given(path: str, name: str | None, split: str, revision: str | None) -> Dataset:
        asked.append((path, name, split, revision))
        return Dataset.from_dict(rows, features=types)

    monkeypatch.setattr(datasets, "load_dataset", given)
    where = {"split": "test", "config": "small", "revision": "v1"}
    found = load_images("owner/name", "image", 4, label="label", limit=4, **where).rows
    assert asked == [("owner/name", "small", "test", "v1")]
    assert [(np.frombuffer(row["image"], np.uint8).max(), row["label"]) for row in found] == [
        (40 * number, LABELS[number]) for number in range(4)
    ]
    with pytest.raises(InputError, match="picture"):
        load_images("owner/name", "picture", 4)


def test_names_of_files_begin_at_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    table = Path(csv()).absolute()
    monkeypatch.chdir(tmp_path.parent)
    assert len(load_images(str(table), "image", 4).rows) == 6


def test_digits():
    train, test = (load_images("sample:digits", "image", 16, label="label", split=s).rows for s in ("train", "test"))
    assert (len(train), len(test)) == (1200, 597) and set(train["label"]) == set(map(str, range(10)))
    assert len(train[0]["image"]) == 3 * 16 * 16


def broken() -> str:
    return parquet([FILES[0], b"no image", FILES[2], None, WHOLE[:100], FILES[5]])


def test_broken_images_are_named_with_file_and_row():
    with pytest.raises(InputError) as error:
        load_images(broken(), "image", 4)
    said = error.value.problems
    assert said[0].startswith('a.parquet, row 2: column "image" is no image')
    assert said[1] == 'a.parquet, row 4: column "image" has no value'
    assert said[2].startswith('a.parquet, row 5: column "image" cannot be decoded')
    assert "leave their rows out" in said[3]
    with pytest.raises(InputError) as error:
        load_train_images(section(train="a.parquet"), 4)
    assert "data.broken: skip" in error.value.problems[3]


def test_a_broken_file_of_a_folder_is_named():
    Path(folder(), "odd", "3.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"row \d \(.*odd/3.png\)"):
        load_images("classes", "image", 4)


def test_broken_images_are_left_out_and_counted():
    rows, skipped = load_images(broken(), "image", 4, label="label", broken="skip")
    assert skipped == 3
    assert [row["label"] for row in rows] == [LABELS[0], LABELS[2], LABELS[5]]
    assert [row["image"][0] for row in rows] == [0, 80, 200]


def test_what_was_decoded_is_found_again_by_its_content(cache, monkeypatch: pytest.MonkeyPatch):
    first = load_images(parquet(FILES), "image", 4).rows.to_list()
    assert len(cache()) == 1
    names_of_files = csv()
    monkeypatch.setattr(images, "pixels", lambda *_: pytest.fail("decoded again"))
    assert load_images("a.parquet", "image", 4, label="label").rows.remove_columns("label").to_list() == first
    assert load_images(names_of_files, "image", 4).rows.to_list() == first, "the same images"
    monkeypatch.undo()


def test_another_size_or_another_image_is_decoded_anew(cache):
    load_images(parquet(FILES), "image", 4)
    assert len(load_images("a.parquet", "image", 8).rows[0]["image"]) == 3 * 64
    changed = load_images(parquet([*FILES[:5], FILES[0]]), "image", 4).rows
    assert changed[5]["image"] == changed[0]["image"] and len(cache()) == 3


def section(**settings) -> DataSection:
    return DataSection(columns=Columns(anchor="image", group="label"), views="augment", **settings)


def test_training_has_pixels_and_perhaps_groups():
    rows, skipped = load_train_images(section(train=broken(), broken="skip", rows=3), 4)
    assert rows.column_names == ["anchor", "group"] and (len(rows), skipped) == (2, 1)
    assert rows[0]["group"] == rows[1]["group"], "both even"


@pytest.mark.parametrize(
    ("source", "columns", "why"),
    [
        ("sample:digit", {}, 'no sample "digit" of images \\(did you mean "digits"'),
        ("sample:digits", {"split": "dev"}, "its splits are train and test"),
        ("a.parquet", {"split": "test"}, "only Hub ids have splits"),
        ("nowhere.zip", {}, "no such file"),
        ("a.txt.exe", {}, "images come from a folder, a zip, or a table in .csv"),
        ("a.parquet", {"label": "labels"}, 'no column "labels" \\(did you mean "label"'),
    ],
)
def test_sources_that_are_wrong(source: str, columns: dict, why: str):
    parquet(FILES)
    Path("a.txt.exe").write_text("")
    with pytest.raises(InputError, match=why):
        load_images(source, "image", 4, **columns)


def test_a_column_without_images_is_one_problem():
    parquet(FILES)
    with pytest.raises(InputError, match=r'^a\.parquet: column "label" has no image: a\.parquet, row 1 ') as caught:
        load_images("a.parquet", "label", 4)
    assert len(caught.value.problems) == 1


def test_whole_numbers_stored_as_floats_are_labels():
    pq.write_table(pa.table({"image": FILES, "label": [7.0] * len(FILES)}), "a.parquet")
    assert set(load_images("a.parquet", "image", 4, label="label").rows["label"]) == {"7"}
    groups = load_images("a.parquet", "image", 4, label="label", label_as="group").rows["group"]
    assert set(groups) == {identity(7)} == {identity("7")} == {identity(7.0)}


def test_labels_that_are_none_are_named():
    pq.write_table(pa.table({"image": FILES, "label": [*LABELS[:5], None]}), "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet, row 6: the label has no value"):
        load_images("a.parquet", "image", 4, label="label")


def test_a_column_of_a_folder_that_has_no_images_is_named():
    with pytest.raises(InputError, match=r'the column "label" has no images, but ClassLabel.*; images are in image'):
        load_images(folder(), "label", 4)
