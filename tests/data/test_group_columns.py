"""Groups reach the data set as identities, labelled texts become pairs, and a share is held out without a leak."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from fmicl_text.data.groups import identity, pair_within_groups
from fmicl_text.data.heldout import hold_out
from fmicl_text.data.section import Columns, DataSection
from fmicl_text.data.sources import load_heldout, load_rows, load_train
from fmicl_text.data.streams import load_stream
from fmicl_text.errors import InputError
from fmicl_text.losses.columns import GROUP
from fmicl_text.recipe.file import load_recipe
from fmicl_text.training.inputs import load_inputs

GROUPED = Columns(anchor="question", positive="answer", group="doc")
LABELLED = Columns(anchor="text", group="label")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets.config

    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, rows: list[dict]) -> str:
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), name)
    else:
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def pairs_of(count: int) -> list[dict]:
    return [{"question": f"q {i}", "answer": f"a {i}", "doc": i // 4} for i in range(count)]


def labelled(count: int, labels: int) -> list[dict]:
    return [{"text": f"text {i}", "label": f"l{i % labels}"} for i in range(count)]


@pytest.mark.parametrize("doc", [str, int])
@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_groups_are_the_same_however_they_are_written_and_read(name: str, doc: type):
    rows = [row | {"doc": doc(row["doc"])} for row in pairs_of(12)]
    dataset = load_rows(write(name, rows), GROUPED)
    assert dataset.column_names == ["anchor", "positive", "group"] and dataset.features["group"].dtype == "int64"
    assert dataset["group"][:] == [identity(str(i // 4)) for i in range(12)]
    stream = load_stream(DataSection(train=name, columns=GROUPED, streaming=True)).shuffled(1, 99)
    assert sorted(stream, key=str) == sorted(dataset.to_list(), key=str)


def test_a_whole_number_of_any_size_is_a_group():
    rows = [row | {"doc": 10**400 + row["doc"]} for row in pairs_of(8)]
    assert len(set(load_rows(write("a.jsonl", rows), GROUPED)["group"])) == 2


def test_a_truth_value_is_a_group():
    """Such as a label ``is_toxic``; True is not the label 1, though it equals it."""
    rows = [row | {"doc": row["doc"] == 0} for row in pairs_of(8)]
    found = load_rows(write("a.jsonl", rows), GROUPED)["group"][:]
    assert found == [identity("true")] * 4 + [identity("false")] * 4
    assert identity(True) == identity("true") != identity(1) and identity(False) != identity(0)


def test_identities_do_not_depend_on_the_process():
    code = "from fmicl_text.data.groups import identity; print(identity('für 7'))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(said) == identity("für 7") == 2980950776518651488
    assert identity(7) == identity("7") != identity("07")


@given(st.lists(st.text(max_size=4), unique=True, min_size=2, max_size=200))
def test_other_groups_have_other_identities(names):
    assert len({identity(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "has no value; each row needs a group, one of its own if it shares none"),
        ("", "is empty; each row needs a group, one of its own if it shares none"),
        (1.5, "has 1.5, which is no text, whole number or truth value"),
        (["a"], "has ['a'], which is no text, whole number or truth value"),
        ("a\ud83d", "has half of a surrogate pair, which is not text"),
    ],
)
def test_what_is_no_group_is_named_by_row(value: object, problem: str):
    rows = [{"question": "a", "answer": "b", "doc": value}, *pairs_of(3)]
    write("a.jsonl", rows)
    with pytest.raises(InputError) as caught:
        load_rows("a.jsonl", GROUPED)
    assert caught.value.problems == [f'a.jsonl, line 1: column "doc" {problem}']
    with pytest.raises(InputError):
        load_stream(DataSection(train="a.jsonl", columns=GROUPED, streaming=True))


texts = st.sampled_from(["a", "b", "c", "d", "e", "f"])


@given(st.lists(st.tuples(texts, st.sampled_from("xyz")), min_size=2, max_size=30), st.integers(0, 99))
def test_a_positive_is_another_text_of_the_group(rows, seed):
    dataset = Dataset.from_dict({"anchor": [t for t, _ in rows], GROUP: [identity(g) for _, g in rows]})
    members = {group: {t for t, g in rows if g == group} for group in "xyz"}
    expected = Counter((t, identity(g)) for t, g in rows if len(members[g]) > 1)
    if not expected:
        with pytest.raises(InputError, match="no group has two different texts"):
            pair_within_groups(dataset, seed, "a")
        return
    paired = pair_within_groups(dataset, seed, "a")
    assert Counter((row["anchor"], row[GROUP]) for row in paired) == expected
    by_identity = {identity(group): texts for group, texts in members.items()}
    for row in paired:
        assert row["positive"] in by_identity[row[GROUP]] - {row["anchor"]}
    circles = {(row["anchor"], row["positive"], row[GROUP]) for row in paired}
    assert len({(positive, group) for _, positive, group in circles}) == len(circles), "each text is a positive once"
    backwards = dataset.select(range(len(dataset) - 1, -1, -1))
    again = pair_within_groups(backwards, seed, "a")
    assert sorted(again.to_list(), key=str) == sorted(paired.to_list(), key=str)


def test_another_seed_makes_other_pairs_and_lone_texts_are_told(caplog: pytest.LogCaptureFixture):
    source = write("a.jsonl", [*labelled(40, 2), {"text": "alone here", "label": "rare"}])
    section = DataSection(train=source, columns=LABELLED, views="group")
    first, again, other = (load_train(section, seed).to_list() for seed in (1, 1, 2))
    assert first == again != other and len(first) == 40
    assert (
        "a.jsonl: 1 of 3 groups have only one text, as has 'alone here'; their 1 rows have no positive" in caplog.text
    )


pairs = st.lists(st.tuples(texts, texts, st.sampled_from("xyz")), min_size=4, max_size=40)


@given(pairs, st.floats(0.05, 0.95), st.booleans())
def test_nothing_held_out_is_trained_on(rows, share, by_group):
    dataset = Dataset.from_dict(
        {"anchor": [a for a, *_ in rows], "positive": [p for _, p, _ in rows], GROUP: [identity(g) for *_, g in rows]}
    )
    try:
        split = hold_out(dataset, share, by_group, "a")
    except InputError as error:
        assert "leaves" in str(error)
        return
    held, trained = split.heldout.to_list(), split.train.to_list()
    assert not {row["anchor"] for row in held} & {row["anchor"] for row in trained}
    unordered = [{frozenset((row["anchor"], row["positive"])) for row in part} for part in (held, trained)]
    assert not unordered[0] & unordered[1]
    if by_group:
        assert not {row[GROUP] for row in held} & {row[GROUP] for row in trained}
    else:
        key = {row["anchor"] for row in held}
        assert held == [row for row in dataset.to_list() if row["anchor"] in key], "all copies of a held-out anchor"
    assert all(row in dataset.to_list() for row in trained + held)


def test_the_share_holds_and_does_not_depend_on_order_or_other_rows(caplog: pytest.LogCaptureFixture):
    rows = [{"question": f"q {i}", "answer": f"a {i}", "doc": i} for i in range(4000)]
    parts = []
    for name, part in (("a.jsonl", rows), ("b.jsonl", rows[::-1]), ("c.jsonl", rows[:2000])):
        section = DataSection(
            train=write(name, part), columns=Columns(anchor="question", positive="answer"), heldout=0.1
        )
        train, heldout = load_train(section), load_heldout(section)
        assert len(train) + len(heldout) == len(part)
        parts.append(set(heldout["anchor"][:]))
    assert 340 < len(parts[0]) < 460  # 400 +- 3 standard deviations
    assert parts[0] == parts[1] and parts[2] == parts[0] & {row["question"] for row in rows[:2000]}
    first = DataSection(train="a.jsonl", columns=Columns(anchor="question", positive="answer"), heldout=0.1, rows=2000)
    assert set(load_heldout(first)["anchor"][:]) == parts[2], "of the first rows"
    assert not caplog.text


def test_rows_that_would_leak_are_counted(caplog: pytest.LogCaptureFixture):
    rows = pairs_of(400)
    write("a.jsonl", rows + [{"question": row["answer"], "answer": row["question"], "doc": 0} for row in rows])
    section = DataSection(train="a.jsonl", columns=Columns(anchor="question", positive="answer"), heldout=0.1)
    train, heldout = load_train(section), load_heldout(section)
    left_out = 800 - len(train) - len(heldout)
    assert left_out > 40 and f"{left_out:,} rows are not trained on" in caplog.text


def test_documents_are_held_out_whole_and_labels_on_both_sides():
    write("pairs.jsonl", pairs_of(400))
    by_document = DataSection(train="pairs.jsonl", columns=GROUPED, heldout=0.2)
    train, heldout = load_train(by_document), load_heldout(by_document)
    assert len(train) + len(heldout) == 400 and not set(train[GROUP]) & set(heldout[GROUP])
    write("labels.jsonl", labelled(400, 4))
    by_text = DataSection(train="labels.jsonl", columns=LABELLED, views="group", heldout=0.2)
    train, heldout = load_train(by_text), load_heldout(by_text)
    assert len(train) + len(heldout) == 400 and set(train[GROUP]) == set(heldout[GROUP])
    assert not {*train["anchor"], *train["positive"]} & set(heldout["anchor"])
    assert set(heldout["positive"]) <= set(train["anchor"]), "what is searched are the texts of training"


def test_a_held_out_text_is_searched_among_texts_of_training_though_its_label_has_few():
    write("intents.jsonl", labelled(500, 100))
    section = DataSection(train="intents.jsonl", columns=LABELLED, views="group", heldout=0.1)
    train, heldout = load_train(section), load_heldout(section)
    label_of = {row["text"]: identity(row["label"]) for row in labelled(500, 100)}
    held = set(label_of) - set(train["anchor"][:])
    assert set(heldout["anchor"][:]) == held and 25 <= len(held) <= 75, "no held-out row is lost"
    assert set(heldout["positive"][:]) <= set(train["anchor"][:])
    for anchor, positive, group in zip(heldout["anchor"][:], heldout["positive"][:], heldout[GROUP][:], strict=True):
        assert label_of[anchor] == label_of[positive] == group
    assert load_heldout(section)["positive"][:] == heldout["positive"][:]


def test_held_out_texts_of_labels_that_are_not_trained_on_are_counted(caplog: pytest.LogCaptureFixture):
    write("a.jsonl", [*labelled(40, 2), *({"text": f"rare {i}", "label": f"r{i}"} for i in range(40))])
    section = DataSection(train="a.jsonl", columns=LABELLED, views="group", heldout=0.2)
    heldout = load_heldout(section)
    lost = len(hold_out(load_rows("a.jsonl", LABELLED), 0.2, False, "a.jsonl").heldout) - len(heldout)
    assert lost > 0 and not any(text.startswith("rare") for text in heldout["anchor"][:])
    assert f"a.jsonl: {lost} held-out rows have a group that is not trained on" in caplog.text


def test_a_share_that_leaves_nothing_is_an_error():
    write("a.jsonl", pairs_of(4))
    with pytest.raises(
        InputError, match=r"a.jsonl: data.heldout 0.001 of 4 rows .* leaves 4 to train on and 0 held out"
    ):
        load_train(DataSection(train="a.jsonl", columns=GROUPED, heldout=0.001))


RECIPE = {
    "name": "r",
    "model": {"base": "sample:minilm"},
    "data": {"train": "a.jsonl", "columns": {"anchor": "question", "positive": "answer"}},
    "loss": {"objective": "fmicl"},
    "evaluate": {"during": None},
}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"heldout": 0}, "data.heldout: must be"),
        ({"heldout": 1.0}, "data.heldout: must be"),
        ({"heldout": -0.1}, "data.heldout: must be"),
        ({"heldout": True}, "data.heldout: must be"),
        ({"heldout": 0.1, "streaming": True}, "data.heldout: as a share needs all rows at once"),
        ({"columns": {"anchor": "text", "group": "label"}}, "data.columns: views from columns need a positive column"),
        ({"views": "group"}, "data.views: group makes the positive from the texts of a group"),
        ({"views": "group", "columns": {"anchor": "text"}}, "data.columns.group: is the column of the label"),
        (
            {"views": "group", "columns": {"anchor": "t", "group": "l"}, "streaming": True},
            "data.views: group needs all",
        ),
        ({"views": "dropout", "columns": {"anchor": "t"}, "heldout": 0.1}, "data.heldout: needs columns.positive"),
        ({"mine": {"num_negatives": 0}}, "data.mine.num_negatives: must be"),
        ({"mine": {"k": 3}}, "data.mine.k: unknown key"),
        ({"mine": {"range_min": 10, "range_max": 11}}, "data.mine.range_max: must leave num_negatives candidates"),
        ({"mine": {}, "views": "dropout", "columns": {"anchor": "t"}}, "data.mine: needs pairs"),
        ({"mine": {}, "streaming": True}, "data.mine: needs all rows at once"),
    ],
)
def test_what_a_recipe_may_not_ask_for(here: Path, data: dict, problem: str):
    (here / "r.yaml").write_text(json.dumps(RECIPE | {"data": RECIPE["data"] | data}))
    with pytest.raises(InputError) as caught:
        load_recipe("r.yaml")
    assert any(problem in found for found in caught.value.problems), caught.value.problems


def test_a_recipe_has_its_share_as_a_data_set(here: Path):
    write("a.jsonl", pairs_of(200))
    data = RECIPE["data"] | {"heldout": 0.1}
    (here / "r.yaml").write_text(
        json.dumps(RECIPE | {"data": data, "evaluate": {"during": None, "after": ["heldout"]}})
    )
    inputs = load_inputs(load_recipe("r.yaml"))
    train, heldout = inputs.train[""], inputs.heldout[""]
    assert heldout.column_names == ["anchor", "positive"]
    assert len(train) + len(heldout) == 200 and len(heldout) > 5
