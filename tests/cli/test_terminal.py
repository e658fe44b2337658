"""What reaches a terminal is text: hostile names, data, recipes and logs cannot command it."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import logging
import os
import pty
import re
import struct
import sys
import termios
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_folders import STSB, finished_run, write
from tqdm import tqdm
from words import WORDS

from fmicl_text.bars import DISABLED
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


# A real terminal -----------------------------------------------------------------------------------------------------


def on_a_terminal(command: list[str], **environment: str) -> str:
    """What a command writes to a terminal of 40 lines and 150 columns."""
    environment = {
        name: value for name, value in os.environ.items() if name != DISABLED
    } | environment  # `main` sets it
    process, terminal = pty.fork()
    if process == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 150, 0, 0))  # before the command can ask for it
        os.execve(sys.executable, [sys.executable, "-m", "fmicl_text", *command], environment)
    written = b""
    with contextlib.suppress(OSError):  # how a terminal says that nothing more comes
        while chunk := os.read(terminal, 65_536):
            written += chunk
    os.waitpid(process, 0)
    return written.decode()


def test_on_a_terminal_bars_are_our_own_and_quiet_has_none(tiny_encoder_path: Path, tmp_path: Path):
    (tmp_path / "pairs.csv").write_text("anchor,positive\n" + "".join(f"a {w},the {w}\n" for w in WORDS[:12]))
    recipe = {
        "name": "tiny",
        "model": {"base": str(tiny_encoder_path)},
        "data": {
            "train": str(tmp_path / "pairs.csv"),
            "heldout": 0.3,
            "columns": {"anchor": "anchor", "positive": "positive"},
        },
        "loss": {"objective": "fmicl"},
        "train": {"per_device_train_batch_size": 4, "max_steps": 4, "logging_steps": 1},
        "evaluate": {"every_steps": 2, "after": ["heldout"]},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    command = ["train", str(tmp_path / "recipe.yaml"), "--output", str(tmp_path / "run")]
    said = on_a_terminal(command, NO_COLOR="1", TERM="xterm-256color")
    assert not re.search(r"\x1b\[[\d;]*(3|4|9|10)\d[\d;]*m", said), "a colour"
    assert "loading libraries" in said and "positive=" in said and "4/4" in said
    assert "\\x1b" not in said and "\\r" not in said  # nothing of rich or tqdm was taken for an attack
    assert not re.search("Loading weights|Writing model shards", said)
    assert re.search(r"measuring \S+model: heldout\r\n\s*Batches", said)
    quiet = on_a_terminal([*command, "--overwrite", "-q"])
    assert (
        "it/s" not in quiet
        and "Computing" not in quiet
        and "loading" not in quiet
        and "training with" not in quiet
        and "Use it:" in quiet
    )
