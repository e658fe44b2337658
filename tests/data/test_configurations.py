"""Configurations of data sets on the Hub: the one that is asked for is read, and a message names those there are.

The data set is a folder, which the real ``datasets`` reads like one of the Hub; names and commits are stood in for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest

from fmicl_text.data import streams
from fmicl_text.data.images import load_images
from fmicl_text.data.section import Columns, DataSection
from fmicl_text.data.sources import load_heldout, load_rows, load_train
from fmicl_text.data.streams import load_stream
from fmicl_text.errors import InputError

COLUMNS = Columns(anchor="text")
CARD = """---
configs:
- {config_name: pair, data_files: pair.jsonl}
- {config_name: triplet, data_files: triplet.jsonl}
---
"""


@pytest.fixture(autouse=True)
def owner_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of ``owner/name``: two configurations and no default."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "README.md").write_text(CARD)
    for name in ("pair", "triplet"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": f"{name} {n}"}) + "\n" for n in range(3)))

    def redirected(function: Any) -> Any:
        def call(path: str, *arguments: Any, revision: str | None = None, **options: Any) -> Any:
            return function(str(folder) if path == "owner/name" else path, *arguments, **options)

        return call

    class Info:
        sha = "0" * 40

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, repo, revision: Info)
    for name in ("load_dataset", "get_dataset_config_names", "get_dataset_default_config_name"):
        monkeypatch.setattr(datasets, name, redirected(getattr(datasets, name)))
    monkeypatch.setattr(streams, "load_dataset", datasets.load_dataset)
    return folder


def section(**options: Any) -> DataSection:
    return DataSection(**{"train": "owner/name", "columns": COLUMNS, "views": "dropout"} | options)


def images(read: DataSection) -> Any:
    return load_images(read.train, "text", 4, split=read.split, config=read.config)


def streamed(read: DataSection) -> list[dict[str, str]]:
    return list(load_stream(read).shuffled(seed=1, buffer=9))


@pytest.mark.parametrize("load", [load_train, streamed])
def test_the_configuration_that_is_asked_for_is_read(load):
    for name in ("pair", "triplet"):
        rows = list(load(section(config=name)))
        assert sorted(row["anchor"] for row in rows) == [f"{name} {number}" for number in range(3)]


@pytest.mark.parametrize("load", [load_train, streamed, images])
def test_one_that_is_missing_or_wrong_is_told_with_those_there_are(load):
    with pytest.raises(InputError) as caught:
        load(section())
    (problem,) = caught.value.problems
    assert problem.startswith("owner/name: has several configurations, pair, triplet: set data.config to one of them;")
    with pytest.raises(InputError) as caught:
        load(section(config="triplets"))
    assert caught.value.problems == [
        'owner/name: no configuration "triplets" (did you mean "triplet"?); there is pair, triplet'
    ]


def test_one_that_is_the_default_need_not_be_named(owner_name: Path):
    (owner_name / "README.md").write_text(CARD.replace("config_name: pair", "default: true, config_name: pair"))
    assert load_train(section())["anchor"][0] == "pair 0"


def test_another_problem_is_not_blamed_on_the_configuration():
    with pytest.raises(InputError, match=r"no such data set can be loaded from the Hub: .*\[.train.\]"):
        load_train(section(config="pair", split="dev"))


def test_held_out_pairs_are_not_of_the_configuration_of_train(tmp_path: Path):
    """As they are not of its revision: another data set has others."""
    (tmp_path / "pairs.jsonl").write_text('{"a": "b", "c": "d"}\n{"a": "e", "c": "f"}\n')
    pairs = Columns(anchor="a", positive="c")
    read = section(config="pair", heldout="pairs.jsonl", columns=pairs, views="columns")
    assert load_heldout(read).to_list() == [{"anchor": "b", "positive": "d"}, {"anchor": "e", "positive": "f"}]


@pytest.mark.parametrize("source", ["a.txt", "sample:wikipedia", "hf://datasets/owner/name/pair.jsonl"])
@pytest.mark.parametrize("load", [load_train, streamed, images])
def test_files_and_samples_have_none(tmp_path: Path, load, source: str):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    with pytest.raises(InputError) as caught:
        load(section(config="pair", train=source))
    assert caught.value.problems == [f'{source}: only Hub ids have configurations, got data.config "pair"']


def test_a_pattern_of_files_on_the_hub_is_for_streams():
    source = "hf://datasets/owner/name/*.jsonl"
    with pytest.raises(InputError, match=r"for a pattern that names several, set data.streaming: true$"):
        load_rows(source, COLUMNS)
    with pytest.raises(InputError, match=r"a pattern may name several files; of images, give the name of one"):
        load_images(source, "image", 4)
