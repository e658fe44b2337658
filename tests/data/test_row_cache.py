"""A second run takes checked rows from the cache, unless the file or the entry is not what it was."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from datasets import Dataset
from test_data import WRITERS

from fmicl_text.data import row_cache
from fmicl_text.data.section import Columns
from fmicl_text.data.sources import load_rows
from fmicl_text.errors import InputError

PAIRS = Columns(anchor="question", positive="answer")
NUMBERS = [random.Random(i).random() for i in range(20_000)]  # which Parquet cannot make much smaller
ROWS = [{"question": f"who {n} {n * 3}", "answer": f"für\n{n * 7} {n * 11}"} for n in NUMBERS]


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An empty cache, and what lies in it."""
    import datasets.config

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return lambda: sorted((tmp_path / "cache").rglob("*.arrow"))


def plant(entry: Path) -> dict[str, str]:
    """Put another row into an entry, sealed as its own: whoever reads it has not read the file."""
    row = {"anchor": "planted", "positive": "row"}
    row_cache.keep(Dataset.from_list([row, row]), entry)
    return row


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_second_load_reads_the_entry(entries, suffix: str):
    WRITERS[suffix](Path(f"a{suffix}"), ROWS)
    first = load_rows(f"a{suffix}", PAIRS)
    (entry,) = entries()
    second = load_rows(f"a{suffix}", PAIRS)
    assert second.cache_files == [{"filename": str(entry)}] and not first.cache_files
    assert second.to_list() == first.to_list() and second.column_names == first.column_names
    row = plant(entry)
    assert load_rows(f"a{suffix}", PAIRS)[0] == row


def test_another_file_or_question_has_another_entry(entries):
    WRITERS[".jsonl"](Path("a.jsonl"), ROWS)
    load_rows("a.jsonl", PAIRS)
    plant(*entries())
    Path("a.jsonl").rename("b.jsonl")
    assert load_rows("b.jsonl", PAIRS)[0]["anchor"] == "planted", "what counts is the content"
    assert load_rows("b.jsonl", Columns(anchor="answer", positive="question"))[0]["positive"] == ROWS[0]["question"]
    assert len(load_rows("b.jsonl", PAIRS, rows=7)) == 7
    assert len(entries()) == 3
    WRITERS[".jsonl"](Path("b.jsonl"), [ROWS[1], *ROWS[1:]])
    assert load_rows("b.jsonl", PAIRS)[0]["anchor"] == ROWS[1]["question"]


@pytest.mark.parametrize("how", ["cut", "changed", "no seal"])
def test_a_damaged_entry_is_made_again(entries, how: str, caplog: pytest.LogCaptureFixture):
    WRITERS[".jsonl"](Path("a.jsonl"), ROWS)
    expected = load_rows("a.jsonl", PAIRS).to_list()
    (entry,) = entries()
    content = bytearray(entry.read_bytes())
    if how == "no seal":
        entry.with_suffix(".json").unlink()
    elif how == "cut":
        entry.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 1
        entry.write_bytes(content)
    assert load_rows("a.jsonl", PAIRS).to_list() == expected
    assert f"{entry} is damaged: it is made again" in caplog.text
    caplog.clear()
    assert load_rows("a.jsonl", PAIRS).cache_files and not caplog.text


def test_bad_and_small_files_leave_nothing(entries):
    WRITERS[".jsonl"](Path("bad.jsonl"), [*ROWS, {"question": "", "answer": "a"}])
    WRITERS[".jsonl"](Path("small.jsonl"), ROWS[:100])
    with pytest.raises(InputError, match="line 20001"):
        load_rows("bad.jsonl", PAIRS)
    load_rows("small.jsonl", PAIRS)
    assert not entries()


def test_a_cache_that_cannot_be_written_is_no_hindrance(entries, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "cache").write_text("a file where the folder should be")
    WRITERS[".jsonl"](Path("a.jsonl"), ROWS)
    assert len(load_rows("a.jsonl", PAIRS)) == len(ROWS)
    assert "cannot be kept for the next run" in caplog.text
