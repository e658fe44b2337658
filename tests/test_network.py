"""Nothing phones home: commands on local files open no socket to any other machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from words import WORDS

WATCH = Path(__file__).with_name("watch")
CALLS = "import sys, json; from fmicl_text.cli import main; print(*map(main, json.loads(sys.argv[1])), file=sys.stderr)"


class Watched(NamedTuple):
    """What a process wrote to its two streams, and what it tried to reach."""

    out: str
    said: str
    tried: str


def watched(code: str, argument: str, folder: Path) -> Watched:
    """Run code in a process in which sockets are watched."""
    tried = folder / "tried"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    path = os.pathsep.join([str(WATCH), *filter(None, sys.path)])
    environment |= {"PYTHONPATH": path, "WATCHED_SOCKETS": str(tried), "HF_HOME": str(folder / "home")}
    finished = subprocess.run(
        [sys.executable, "-c", code, argument], env=environment, cwd=folder, capture_output=True, text=True
    )
    return Watched(finished.stdout, finished.stderr, tried.read_text() if tried.exists() else "")


def test_the_watch_sees_what_is_tried(tmp_path: Path):
    code = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1])"
    process = watched(code, "http://huggingface.co", tmp_path)
    assert "a test forbids" in process.said and process.tried == "socket.getaddrinfo huggingface.co\n"


def test_commands_on_local_files_reach_no_other_machine(tiny_encoder_path: Path, tmp_path: Path):
    rows = [{"a": f"the {word} runs", "b": f"a {word} sleeps"} for word in WORDS[1:13]]
    for name in ("pairs", "heldout"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "sts").mkdir()
    first, second = [WORDS[i % 30] for i in range(1500)], [WORDS[i % 7] for i in range(1500)]
    scores = [float(i % 5) for i in range(1500)]
    columns = {"split": ["dev"] * 1500, "sentence1": first, "sentence2": second, "score": scores}
    pq.write_table(pa.table(columns), tmp_path / "sts" / "stsb.parquet")
    recipe = {
        "name": "tiny",
        "model": {"base": str(tiny_encoder_path)},
        "data": {"train": "pairs.jsonl", "columns": {"anchor": "a", "positive": "b"}, "heldout": "heldout.jsonl"},
        "loss": {"objective": "fmicl"},
        "train": {"per_device_train_batch_size": 4, "num_train_epochs": 1, "report_to": "tensorboard"},
        "evaluate": {"every_steps": 2, "data": ".", "after": ["heldout", "stsb-dev"]},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    calls = [
        ["eval", "sts", str(tiny_encoder_path), "--suite", "stsb-dev", "--data", ".", "--json"],
        ["recipe", "list"],
        ["train", "recipe.yaml"],
        ["eval", "sts", "runs/tiny", "--suite", "stsb-dev", "--data", "."],
        ["report", "runs/tiny"],
        ["publish", "runs/tiny", "me/tiny", "--license", "mit", "--dry-run"],
    ]
    process = watched(CALLS, json.dumps(calls), tmp_path)
    assert process.said.splitlines()[-1] == " ".join("0" * len(calls)), process.said
    assert process.tried == ""
    assert (tmp_path / "runs" / "tiny" / "training.png").read_bytes().startswith(b"\x89PNG")
    document, _ = json.JSONDecoder().raw_decode(process.out)  # nothing stands before it, though libraries were imported
    assert document["name"] == "stsb-dev"
