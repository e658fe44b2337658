"""What reaches a terminal is text: hostile names, data, recipes and logs cannot command it."""

from __future__ import annotations

import io
import json
import logging
import sys
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_folders import STSB, finished_run, write
from tqdm import tqdm

from fmicl_text.cli import main
from fmicl_text.cli.terminal import VisibleStream, visible_output
from fmicl_text.text import visible

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.\u2028\x08[red]x[/red][link=http://evil.example]y[/link] :bomb:"
SHOWN = "[red]x[/red][link=http://evil.example]y[/link] :bomb:"
"""The part of it that is no command: as it stands, neither obeyed nor lost."""


def commands(text: str) -> set[str]:
    """Characters that a terminal would obey."""
    bidirectional = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return {
        character
        for character in text
        if (unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") and character not in "\n\t")
        or unicodedata.bidirectional(character) in bidirectional
    }


@given(st.text())
def test_commands_become_visible_and_all_else_stays(text: str):
    shown = visible(text)
    assert not commands(shown) and visible(shown) == shown
    if not commands(text) and not set(text) & set("\u061c\u200e\u200f"):
        assert shown == text


def test_progress_bars_move_on_a_terminal_and_text_in_them_does_not():
    raw, plain = io.StringIO(), io.StringIO()
    for stream in (VisibleStream(raw, moves=True), plain):
        outer = tqdm(range(3), file=stream, mininterval=0, desc="outer", ncols=40, bar_format="{desc} {n}")
        for _ in outer:
            for _ in tqdm(range(2), file=stream, mininterval=0, leave=False, ncols=40, bar_format="{desc} {n}"):
                pass
    assert raw.getvalue() == plain.getvalue() and "\x1b[A" in plain.getvalue()
    attack = io.StringIO()
    VisibleStream(attack, moves=True).write("error:\r\x1b[A\x1b[2Kfine\x1b[A")
    assert not commands(attack.getvalue())


def test_no_move_without_a_terminal():
    stream = io.StringIO()
    VisibleStream(stream).write("\r50%")
    assert stream.getvalue() == "\\r50%"


def test_logs_of_libraries_are_text_too(capsys: pytest.CaptureFixture[str]):
    with visible_output():
        handler = logging.StreamHandler()  # as a library makes it when it is imported
        logger = logging.Logger("a library")
        logger.addHandler(handler)
        logger.warning("the model is of type %s", EVIL)
        print(EVIL, file=sys.stdout)
    out, err = capsys.readouterr()
    assert out.count(SHOWN) == 1 and err.count(SHOWN) == 1 and not commands(out + err)


@pytest.fixture
def hostile(tmp_path: Path, tiny_encoder_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with files of hostile names and contents."""
    monkeypatch.chdir(tmp_path)
    name = EVIL.replace("/", "|")
    rows = ["the dog,a dog,3", "a cat,the city,1", "big park,small park,2", "man,river,0"]
    (tmp_path / f"{name}.csv").write_text("\n".join([f"{EVIL},b,score", *rows]) + "\n")
    recipe = {
        "name": "x",
        "model": {"base": str(tiny_encoder_path)},
        "data": {"train": f"{name}.csv", "columns": {"anchor": "nothing", "positive": EVIL}},
        "loss": {"objective": "fmicl"},
        "evaluate": {"during": None},
    }
    (tmp_path / "data.yaml").write_text(json.dumps(recipe))
    (tmp_path / "keys.yaml").write_text(json.dumps(recipe | {EVIL: 1, "name": EVIL, "loss": {"objective": EVIL}}))
    (tmp_path / "shown.yaml").write_text(f"# {EVIL}\nname: x\n")
    task = {"name": EVIL, "n": 4, "file": {"path": "pairs.parquet", "splits": ["test"]}}
    missing = {"name": f"{EVIL}2", "n": 4, "file": {"path": f"{EVIL}.parquet", "splits": ["test"]}}
    (tmp_path / "suite.yaml").write_text(json.dumps({"name": EVIL, "protocol": EVIL, "tasks": [task, missing]}))
    pairs = {"split": ["test"] * 4, "score": [0.0, 1.0, 2.0, 3.0]}
    pairs |= {"sentence1": ["the dog", "a cat", "old", "man"], "sentence2": ["dog", "cat", "man", "big"]}
    pq.write_table(pa.table(pairs), tmp_path / "pairs.parquet")
    for run in (f"one {name}", f"two {name}"):
        finished_run(tmp_path / run[:3], tiny_encoder_path).rename(tmp_path / run)
        tasks = {EVIL: STSB["tasks"]["STSBenchmark"]}
        facts = {"suite": EVIL, "protocol": EVIL, "tasks": tasks, "max_seq_length": 32, "versions": {EVIL: EVIL}}
        write(tmp_path / run / "results" / "stsb.json", STSB | facts)
        (tmp_path / run / "results" / "before-stsb.json").unlink()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["train", "data.yaml"], 2),
        (["train", "keys.yaml"], 2),
        (["train", "data.yaml", "--set", f"{EVIL}=1", "--set", f"name={EVIL}"], 2),
        (["train", f"{EVIL}.yaml"], 2),
        (["train", "--resume", EVIL], 2),
        (["recipe", "validate", "keys.yaml", "data.yaml"], 2),
        (["recipe", "show", "shown.yaml"], 0),
        (["recipe", "copy", "quickstart", "copy \x1b[2J[red]x[/red].yaml"], 0),
        (["recipe", EVIL], 2),
        (["eval", "sts", "MODEL", "--suite", "suite.yaml", "--data", "."], 0),
        (["eval", "sts", EVIL, "--suite", "suite.yaml", "--data", "."], 2),
        (["eval", "pairs", "MODEL", "CSV", "--sentences", EVIL, "b"], 0),
        (["eval", "pairs", "MODEL", "CSV", "--sentences", "b", "c"], 2),
        (["eval", "geometry", "MODEL", "--pairs", "CSV", "--columns", EVIL, "b"], 0),
        (["report", "RUN1", "RUN2", "--output", "page"], 0),
        (["publish", "RUN1", f"me/{EVIL}", "--license", EVIL], 2),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_hostile_input_is_shown_and_not_obeyed(
    hostile: Path, tiny_encoder_path: Path, capfd, caplog, arguments, status
):
    name = EVIL.replace("/", "|")
    places = {"MODEL": str(tiny_encoder_path), "CSV": f"{name}.csv", "RUN1": f"one {name}", "RUN2": f"two {name}"}
    try:
        ended = main([places.get(argument, argument) for argument in arguments])
    except SystemExit as leaving:  # argparse's
        ended = leaving.code
    out, err = capfd.readouterr()
    assert ended == status, err
    assert not commands(out + err), repr(out + err)
    joined = "".join((out + err).replace("│", "").split())
    assert "[red]x[" in joined, "it is neither obeyed nor lost"
    if arguments[0] == "report":
        assert not commands((hostile / "page" / "report.html").read_text())
