"""Mined negatives are those of sentence-transformers, never of the anchor's group, and are kept by content."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
from datasets import Dataset
from sentence_transformers.util import mine_hard_negatives
from test_row_cache import plant

from fmicl_text.cli import main
from fmicl_text.data import mining
from fmicl_text.data.groups import identity
from fmicl_text.data.mining import mine_negatives, mined
from fmicl_text.data.section import MineSection
from fmicl_text.encoders.section import ModelSection
from fmicl_text.errors import InputError
from fmicl_text.losses.columns import GROUP

pytestmark = pytest.mark.usefixtures("blank_pictures")

ANIMALS = ("dog", "cat", "horse", "child", "man", "woman")
VERBS = ("runs", "sleeps", "eats", "sings", "plays", "rides")
PAIRS = Dataset.from_dict(
    {
        "anchor": [f"the {a} {v}" for a in ANIMALS for v in VERBS],
        "positive": [f"a young {a} {v} in the park" for a in ANIMALS for v in VERBS],
    }
)
GROUPS = [identity(a) for a in ANIMALS for v in VERBS]
ANY = MineSection(num_negatives=3, relative_margin=None)


@pytest.fixture(autouse=True)
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import datasets.config

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return lambda: sorted((tmp_path / "cache").rglob("*.arrow"))


def test_the_settings_are_arguments_of_the_library():
    known = inspect.signature(mine_hard_negatives).parameters
    for name, field in MineSection.model_fields.items():
        assert name in known
        if name not in ("model", "relative_margin"):
            assert field.default == known[name].default
    assert {"output_format", "verbose"} <= set(known)


@pytest.mark.parametrize(
    "settings", [{}, {"range_min": 2}, {"range_min": 1, "range_max": 9}, {"absolute_margin": 0.0}, {"max_score": 0.999}]
)
def test_without_groups_they_are_the_librarys(tiny_encoder, settings: dict):
    ours = mine_negatives(PAIRS, ANY.model_copy(update=settings), tiny_encoder, "a")
    theirs = mine_hard_negatives(
        PAIRS, tiny_encoder, num_negatives=3, output_format="n-tuple", verbose=False, **settings
    )
    assert ours.column_names == ["anchor", "positive", "negative_1", "negative_2", "negative_3"]
    assert ours.to_list() == theirs.to_list()


@pytest.mark.parametrize("strategy", ["top", "random"])
def test_no_negative_is_of_the_anchors_group(tiny_encoder, strategy: str):
    rows = PAIRS.add_column(GROUP, GROUPS)
    mine = ANY.model_copy(update={"sampling_strategy": strategy})
    found = mine_negatives(rows, mine, tiny_encoder, "a")
    of_negatives = ["group_negative_1", "group_negative_2", "group_negative_3"]
    assert found.column_names == ["anchor", "positive", "negative_1", "negative_2", "negative_3", GROUP, *of_negatives]
    assert found[GROUP][:] == GROUPS and found["anchor"][:] == PAIRS["anchor"][:]
    own = dict(zip(PAIRS["positive"][:], GROUPS, strict=True))
    for row in found:
        negatives = [row[f"negative_{i}"] for i in (1, 2, 3)]
        assert len(set(negatives)) == 3 and all(own[negative] != row[GROUP] for negative in negatives)
        assert [own[negative] for negative in negatives] == [row[name] for name in of_negatives]
    assert found.to_list() == mine_negatives(rows, mine, tiny_encoder, "a").to_list()
    if strategy == "top":  # the best of all that are left
        every = mine_hard_negatives(
            PAIRS, tiny_encoder, num_negatives=len(PAIRS) - 1, output_format="n-tuple", verbose=False
        )
        for row, ranked in zip(found, every, strict=True):
            allowed = [t for t in list(ranked.values())[2:] if own[t] != row[GROUP]]
            assert [row[f"negative_{i}"] for i in (1, 2, 3)] == allowed[:3]


def test_an_anchor_is_not_its_own_negative(tiny_encoder):
    texts = [f"the {a} {v}" for a in ANIMALS for v in VERBS]
    rows = Dataset.from_dict({"anchor": texts, "positive": [texts[i - 1] for i in range(len(texts))]})
    for row in mine_negatives(rows, ANY, tiny_encoder, "a"):
        assert row["anchor"] not in [row[f"negative_{i}"] for i in (1, 2, 3)]


def test_they_are_kept_by_rows_model_and_settings(tiny_encoder_path: Path, entries, monkeypatch: pytest.MonkeyPatch):
    base = ModelSection(base=str(tiny_encoder_path))
    first = mined(PAIRS, ANY, base, "a")
    (entry,) = entries()
    planted = plant(entry)
    assert mined(PAIRS, ANY, base, "a")[0] == planted
    for rows, mine, section in (
        (PAIRS.select(range(20)), ANY, base),
        (PAIRS, ANY.model_copy(update={"num_negatives": 2}), base),
        (PAIRS, ANY, ModelSection(base=str(tiny_encoder_path), max_seq_length=4)),
    ):
        assert mined(rows, mine, section, "a")[0] != planted
    assert len(entries()) == 4
    assert len(first) == len(PAIRS)


def test_too_few_candidates_are_an_error_and_some_are_counted(tiny_encoder, caplog: pytest.LogCaptureFixture):
    with pytest.raises(InputError, match=r"data\.mine: only 0 of 36 pairs have 3 negatives; ask for fewer"):
        mine_negatives(PAIRS, ANY.model_copy(update={"max_score": -2.0}), tiny_encoder, "a")
    scores = tiny_encoder.similarity(tiny_encoder.encode(PAIRS["anchor"][:]), tiny_encoder.encode(PAIRS["positive"][:]))
    limit = scores.kthvalue(4, dim=1).values.median().item()
    found = mine_negatives(PAIRS, ANY.model_copy(update={"max_score": limit, "range_max": 36}), tiny_encoder, "a")
    assert 2 <= len(found) < 36
    assert (
        f"a: data.mine: {36 - len(found)} of 36 pairs are left out, as they have fewer than 3 negatives" in caplog.text
    )


def test_a_recipe_trains_on_them_and_the_plan_says_so(
    tiny_encoder_path: Path, tmp_path: Path, entries, capsys, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    settings = {
        "name": "mined",
        "model": {"base": str(tiny_encoder_path), "max_seq_length": 12},
        "data": {
            "train": "pairs.jsonl",
            "columns": {"anchor": "anchor", "positive": "positive"},
            "mine": {"num_negatives": 2, "relative_margin": None, "range_min": 1},
        },
        "loss": {"objective": "fmicl"},
        "train": {"per_device_train_batch_size": 8, "max_steps": 2},
        "evaluate": {"during": None},
    }
    (tmp_path / "r.yaml").write_text(json.dumps(settings))
    assert main(["train", "r.yaml", "--dry-run", "--set", "data.mine.model=not/here"]) == 2
    assert "data.mine.model: no model 'not/here'" in capsys.readouterr().err, "it is not the base that is missing"
    assert main(["train", "r.yaml", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"2 for each pair, mined by {tiny_encoder_path} (range_min 1) and kept in the cache" in said
    assert not entries(), "a dry run does not mine"
    assert main(["train", "r.yaml", "--output", "run"]) == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["data"]["training"]["columns"] == ["anchor", "positive", "negative_1", "negative_2"]
    monkeypatch.setattr(mining, "mine_negatives", None)  # as it is in the cache
    assert main(["train", "r.yaml", "--output", "again"]) == 0
