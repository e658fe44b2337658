"""Streams from a recipe: what is read, in which order, and what is said of rows that cannot be trained on."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_data import ROWS, WRITERS, write_jsonl

from fmicl_text.cli import main
from fmicl_text.data import streams
from fmicl_text.data.section import Columns, DataSection
from fmicl_text.data.sources import load_rows
from fmicl_text.data.streams import Stream, load_stream
from fmicl_text.errors import InputError
from fmicl_text.training.provenance import changes, stream_fingerprint

pytestmark = pytest.mark.usefixtures("blank_pictures")

PAIRS = {"anchor": "question", "positive": "answer"}
TEXT = {"anchor": "text"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Messages have bare names; and ``datasets`` need not wait for Arrow's threads at the end of a Parquet file."""
    import datasets.config

    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stream_of(source: str, columns: dict[str, Any] = PAIRS, **options: Any) -> Stream:
    views = "columns" if "positive" in columns else "dropout"
    return load_stream(DataSection(train=source, columns=Columns(**columns), views=views, streaming=True, **options))


def problems(source: str, columns: dict[str, Any] = TEXT, **options: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        stream_of(source, columns, **options)
    return caught.value.problems


def in_order(rows: list[dict]) -> list[dict]:
    return sorted(rows, key=lambda row: row["anchor"])


@pytest.mark.parametrize("suffix", WRITERS)
def test_values_are_those_that_are_read_without_streaming(suffix: str):
    WRITERS[suffix](Path(f"pairs{suffix}"), ROWS)
    rows = list(stream_of(f"pairs{suffix}").shuffled(seed=1, buffer=2))
    assert in_order(rows) == in_order(load_rows(f"pairs{suffix}", Columns(**PAIRS)).to_list())


def test_tsv_and_txt(here: Path):
    (here / "a.tsv").write_text('text\tb\n"Hello" he said\tx\nnull\ty\n')
    (here / "a.txt").write_bytes("\ufeffone\u2028still one\r\n two \n".encode())
    for source, texts in (("a.tsv", ['"Hello" he said', "null"]), ("a.txt", [" two ", "one\u2028still one"])):
        assert in_order(list(stream_of(source, TEXT).shuffled(1, 9))) == [{"anchor": text} for text in texts]


def test_a_pattern_names_files_whatever_they_are_called(here: Path):
    (here / "shards").mkdir()
    for number, name in enumerate(("b[1].jsonl", "a é.jsonl", "c*.jsonl", "notes.txt")):
        write_jsonl(here / "shards" / name, [{"text": f"{number} {i}"} for i in range(30)])
    stream = stream_of("shards/*.jsonl", TEXT)
    assert stream.files == ("shards/a é.jsonl", "shards/b[1].jsonl", "shards/c*.jsonl")
    orders = [[row["anchor"] for row in stream.shuffled(seed, 16)] for seed in (1, 1, 2)]
    assert sorted(orders[0]) == sorted(f"{number} {i}" for number in range(3) for i in range(30))
    assert orders[0] == orders[1] != orders[2]
    assert {text[0] for text in orders[0][:8]} == {"0", "1", "2"}, "files are mixed, too"
    assert len(list(stream_of("shards/b[1].jsonl", TEXT).shuffled(1, 16))) == 30
    assert problems("shards/*") == ["shards/*: files of one format make a stream, there are .jsonl, .txt"]


def test_rows_are_the_first_ones_and_only_they_are_looked_at(here: Path):
    for name, texts in (("1.txt", "a\nb\n"), ("2.txt", "c\nd\n\n")):
        (here / name).write_text(texts)
    stream = stream_of("?.txt", TEXT, rows=3)
    assert sorted(row["anchor"] for row in stream.shuffled(1, 9)) == ["a", "b", "c"]
    assert problems("?.txt") == ['2.txt, row 3: column "text" is empty']


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.txt", "one\n \ntwo\n", 'a.txt, row 2: column "text" is empty'),
        ("a.csv", 'text,b\n"one\ntwo",x\n\nfour,y\n', 'a.csv, row 2: column "text" is empty'),
        ("a.csv", "b,text\nx,one\ny\n", 'a.csv, row 2: column "text" is empty'),
        ("a.csv", "b,text\nx,one,more\n", "a.csv, line 2: 3 fields, the header has 2"),
        ("a.csv", "b,text\nx,one\ny,two,more\n", "a.csv: cannot be read after row 0: ParserError"),
        ("a.csv", "b,txt\nx,one\n", 'a.csv: no column "text" (did you mean "txt"?); there are b, txt'),
        ("a.csv", "text,b,b\nx,y,z\n", "a.csv, line 1: a column's name appears twice"),
        ("a.tsv", "text\nx\ty\n", "a.tsv, line 2: 2 fields, the header has 1"),
        ("a.txt", b"one\ntw\xff\n", "a.txt, line 2: not UTF-8 text (byte 0xff); save it"),
        ("a.jsonl", '{"text": "one"}\n{"text": null}\n', 'a.jsonl, row 2: column "text" has no value'),
        ("a.jsonl", '{"text": "one"}\n{"text": 7}\n', "a.jsonl: cannot be read after row 0: ArrowInvalid"),
        ("a.jsonl", '{"text": 8}\n{"text": 7}\n', 'a.jsonl, row 1: column "text" has 8, which is not text'),
        ("a.jsonl", '{"text": "one"}\n{"text": "\\ud800"}\n', "a.jsonl: cannot be read after row 0: ArrowInvalid"),
        ("a.jsonl", '{"text": "one"}\n{"text": \n', "a.jsonl: cannot be read after row 0: ArrowInvalid"),
        ("a.jsonl", '{"txt": "one"}\n', 'a.jsonl: no column "text" (did you mean "txt"?); there are txt'),
        ("a.jsonl", "", "a.jsonl: the file is empty"),
        ("a.txt", "one\n", "a.txt: training and retrieval need two rows or more, there are 1"),
        ("a.parquet", "text\n", "a.parquet: not a complete Parquet file"),
        ("b*.txt", None, "b*.txt: no such file"),
        ("a.json", "[]", "a.json: unknown format"),
    ],
)
def test_what_is_wrong_is_said_before_training(here: Path, name: str, content: str | bytes | None, problem: str):
    if content is not None:
        (here / name).write_bytes(content.encode() if isinstance(content, str) else content)
    assert problems(name)[0].startswith(problem)


def test_every_file_is_looked_at_for_its_columns(here: Path):
    pq.write_table(pa.table({"text": ["one", "two"]}), "1.parquet")
    pq.write_table(pa.table({"txt": ["one", "two"]}), "2.parquet")
    (here / "3.parquet").write_bytes((here / "1.parquet").read_bytes()[:100])
    first, second = problems("*.parquet")
    assert first == '2.parquet: no column "text" (did you mean "txt"?); there are txt'
    assert second.startswith("3.parquet: not a complete Parquet file")


def test_the_hub_is_asked_for_one_commit(monkeypatch: pytest.MonkeyPatch):
    """What the Hub gives is stood in for; the toolkit's own part is real."""
    import datasets
    import huggingface_hub

    asked = []

    def load_dataset(path: str, name: str | None, **options: Any) -> datasets.IterableDataset:
        asked.append((path, name, options))
        rows = {"id": [1, 2, 3], "positive": ["a", "b", " "], "anchor": ["d", "e", "f"]}
        return datasets.Dataset.from_dict(rows).to_iterable_dataset()

    class Info:
        sha = "0" * 40

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, repo, revision: Info)
    monkeypatch.setattr(streams, "load_dataset", load_dataset)
    swapped = {"anchor": "positive", "positive": "anchor"}
    stream = stream_of("owner/name", swapped, split="validation", config="pair", rows=2)
    rows = in_order(list(stream.shuffled(1, 9)))
    assert rows == [{"anchor": "a", "positive": "d"}, {"anchor": "b", "positive": "e"}]
    assert set(map(str, asked)) == {
        str(("owner/name", "pair", {"split": "validation", "revision": "0" * 40, "streaming": True}))
    }
    known = stream_fingerprint(stream)
    assert known == {"rows": None, "columns": ["anchor", "positive"], "revision": "0" * 40}
    assert problems("owner/name", swapped) == ['owner/name, row 3: column "positive" is empty']
    assert problems("owner/name", {"anchor": "txt"}) == ['owner/name: no column "txt"; there are id, positive, anchor']
    moved = {"data": {"training": known | {"revision": "1" * 40}}}
    (change,) = changes({"data": {"training": known}, "base_model": {}}, moved | {"base_model": {}})
    assert change.startswith(f"the training data has changed since (revision {'0' * 40} then, revision {'1' * 40} now)")


def test_a_changed_file_is_another_stream(here: Path):
    for name in ("1.txt", "2.txt"):
        (here / name).write_text("one\ntwo\n")
    before = stream_fingerprint(stream_of("?.txt", TEXT))
    assert before == stream_fingerprint(stream_of("?.txt", TEXT)) and before["bytes"] == 16 and before["files"] == 2
    (here / "2.txt").write_text("one\ntoo\n")
    after = stream_fingerprint(stream_of("?.txt", TEXT))
    assert {key for key in before if before[key] != after[key]} == {"sha256"}


CHECKED = 4000
"""How many rows are checked before training, fewer than the 10,000 of a real one, which take long to train on."""


@pytest.fixture
def recipe(here: Path, tiny_encoder_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """180 rows a step, a checkpoint every five steps; the 17th step needs a row that is beyond those checked before."""
    monkeypatch.setattr(streams, "CHECKED_ROWS", CHECKED)
    texts = [f"the dog {number % 97} runs {number // 97}" for number in range(CHECKED + 1000)]
    texts[CHECKED + 49] = " "
    (here / "texts.txt").write_text("\n".join(texts) + "\n")
    settings = {
        "name": "streamed",
        "model": {"base": str(tiny_encoder_path), "max_seq_length": 8},
        "data": {"train": "texts.txt", "columns": TEXT, "views": "dropout", "streaming": True, "shuffle_buffer": 60},
        "loss": {"objective": "fmicl"},
        "train": {"per_device_train_batch_size": 180, "max_steps": 25, "save_steps": 5, "logging_steps": 5},
        "evaluate": {"during": None},
    }
    (here / "recipe.yaml").write_text(json.dumps(settings))  # JSON is YAML
    return here / "recipe.yaml"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_row_met_later_stops_training_and_is_named(recipe: Path, here: Path, capsys, caplog, workers: int):
    override = ["--set", f"train.dataloader_num_workers={workers}"]
    others = set(multiprocessing.active_children())
    assert main(["train", str(recipe), "--output", "run", *override]) == 2
    assert set(multiprocessing.active_children()) <= others, "workers are ended"
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert said == [
        f'error: texts.txt, row {CHECKED + 50}: column "text" is empty',
        "error: to continue once that is fixed: fmicl train --resume run",
    ]
    assert 'texts.txt: a row of which column "text" is empty; looking for it' in caplog.text
    assert "Traceback" not in caplog.text
    checkpoints = sorted(path.name for path in (here / "run" / "checkpoints").iterdir())
    assert checkpoints == ["checkpoint-10", "checkpoint-15"]
    assert json.loads((here / "run" / "manifest.json").read_text())["state"] == "failed"
    texts = (here / "texts.txt").read_text().split("\n")
    (here / "texts.txt").write_text("\n".join([text if text.strip() else "a dog" for text in texts[:-1]]) + "\n")
    assert main(["train", "--resume", "run"]) == 0
    log = [json.loads(line) for line in (here / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if "loss" in entry] == [5, 10, 15, 20, 25]


def test_the_plan_of_a_stream(recipe: Path, capsys):
    assert main(["train", str(recipe), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "a stream of anchor, shuffled in a buffer of 60 rows" in said and "25 steps of 180 rows" in said


def test_a_run_stays_with_the_commit_it_began_with(recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """The Hub's part is stood in for: it says which commit a name stands for now, and gives rows."""
    import datasets
    import huggingface_hub

    now, asked = {"main": "0" * 40}, []

    class Info:
        def __init__(self, sha: str) -> None:
            self.sha = sha

    def load_dataset(path: str, name: None, revision: str, **options: Any) -> datasets.IterableDataset:
        asked.append(revision)
        return datasets.Dataset.from_dict({"text": ["a dog", "the cat", "a man"]}).to_iterable_dataset()

    monkeypatch.setattr(
        huggingface_hub.HfApi, "dataset_info", lambda self, repo, revision: Info(now.get(revision or "main", revision))
    )
    monkeypatch.setattr(streams, "load_dataset", load_dataset)
    arguments = [
        "train",
        str(recipe),
        "--output",
        "run",
        "--set",
        "data.train=owner/name",
        "--set",
        "train.max_steps=2",
    ]
    assert main(arguments) == 0, capsys.readouterr().err
    assert f"revision: '{'0' * 40}'" in Path("run/recipe.yaml").read_text()
    now["main"] = "1" * 40
    for command in ([*arguments, "--resume"], ["train", "run/recipe.yaml", "--output", "again"]):
        assert main(command) == 0, capsys.readouterr().err
    assert set(asked) == {"0" * 40}
    arguments[3] = "new"
    assert main(arguments) == 0
    assert set(asked) == {"0" * 40, "1" * 40}


def test_only_the_hub_has_revisions(here: Path):
    (here / "a.txt").write_text("one\ntwo\n")
    assert problems("a.txt", revision="main") == ['a.txt: only the Hub has revisions, got data.revision "main"']
    with pytest.raises(InputError, match="only the Hub has revisions"):
        load_rows("a.txt", Columns(**TEXT), revision="main")
