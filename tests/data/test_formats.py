"""Files as people have them: dialects, encodings and compression are read right, or named with the remedy."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_data import PAIRS, ROWS, WRITERS

from fmicl_text.data.delimited import is_quoted
from fmicl_text.data.formats import FORMATS, check_head, column_names, ending, read_file
from fmicl_text.data.section import Columns, DataSection
from fmicl_text.data.sources import load_heldout, load_rows, load_train
from fmicl_text.data.streams import load_stream
from fmicl_text.errors import InputError

TEXT = Columns(anchor="text")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets.config

    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def streamed(source: str, columns: Columns) -> list[dict]:
    views = "columns" if columns.positive else "dropout"
    section = DataSection(train=source, columns=columns, views=views, streaming=True)
    return sorted(load_stream(section).shuffled(1, 9), key=str)


def both_ways(source: str, columns: Columns) -> list[dict]:
    """The rows of a file, which must be the same when it is streamed."""
    rows = load_rows(source, columns).to_list()
    assert streamed(source, columns) == sorted(rows, key=str)
    return rows


def problems_both_ways(source: str, columns: Columns = TEXT) -> list[str]:
    """What is wrong with a file, read and streamed."""
    found = []
    for load in (load_rows, streamed):
        with pytest.raises(InputError) as caught:
            load(source, columns)
        found.append(caught.value.problems[0])
    return found


TEXTS = ['say "hi"', "a\ttab", "two\nlines", "plain", '"all of it"', "für"]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_a_tsv_of_pandas_is_read_as_it_was_written(quoting: int):
    frame = pandas.DataFrame({"text": TEXTS, "n": range(len(TEXTS))})
    frame.to_csv("a.tsv", sep="\t", index=False, quoting=quoting)
    assert [row["anchor"] for row in both_ways("a.tsv", TEXT)] == TEXTS


def test_a_tsv_without_quoting_keeps_its_quotes(here: Path):
    lines = ['"Hello."', 'he said "no"', "plain", '"Hello" he said', '5" long']
    (here / "a.tsv").write_text("text\tb\n" + "".join(f"{line}\tx\n" for line in lines))
    assert [row["anchor"] for row in both_ways("a.tsv", TEXT)] == lines
    (here / "b.tsv").write_text('text\tb\n"Hello."\tx\nplain\ty\n')
    assert both_ways("b.tsv", TEXT)[0] == {"anchor": '"Hello."'}, "no quote in it was needed for quoting"


cells = st.text(st.sampled_from('a"\t\n é'), max_size=5)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=4), st.sampled_from(["\n", "\r\n"]))
def test_what_a_writer_had_to_quote_is_known_to_be_quoted(rows, end):
    file = io.StringIO()
    csv.writer(file, delimiter="\t", lineterminator=end).writerows([("h", "g"), *rows])
    text = file.getvalue()
    assert is_quoted(text) == any(set(cell) & set('"\t\n') for row in rows for cell in row)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=4), st.data())
def test_the_head_of_a_quoted_tsv_tells_it_too(rows, data):
    """However it is cut, if one quoted field is whole in it."""
    file = io.StringIO()
    csv.writer(file, delimiter="\t", lineterminator="\n").writerows([("h", "g"), ('say "hi"', "x"), *rows])
    text = file.getvalue()
    cut = data.draw(st.integers(len('h\tg\n"say ""hi"""\tx\n'), len(text)))
    assert is_quoted(text[:cut], whole=False)


def test_a_field_may_be_long(here: Path):
    long = "word " * 40_000
    limit = csv.field_size_limit()
    for name, separator in (("a.csv", ","), ("a.tsv", "\t")):
        (here / name).write_text(f"text{separator}b\n{long}{separator}x\nshort{separator}y\n")
        assert both_ways(name, TEXT)[0] == {"anchor": long}
    assert csv.field_size_limit() == limit, "the limit of other users of the csv module"


@pytest.mark.parametrize(
    ("name", "separator", "words", "remedy"),
    [
        ("a.csv", ";", "separated by semicolons, not commas", "python -c"),
        ("a.csv", "|", "separated by vertical bars, not commas", "python -c"),
        ("a.csv", "\t", "separated by tabs, not commas", "rename the file so that it ends in .tsv"),
        ("a.tsv", ",", "separated by commas, not tabs", "rename the file so that it ends in .csv"),
        ("a.tsv", ";", "separated by semicolons, not tabs", "python -c"),
    ],
)
def test_another_separator_is_told_with_the_remedy(here: Path, name: str, separator: str, words: str, remedy: str):
    with (here / name).open("w", newline="") as file:
        rows = [("text", "label, or so"), ("1", "null"), ('say "hi"', "0012")]
        csv.writer(file, delimiter=separator).writerows(rows)
    for problem in problems_both_ways(name):
        assert problem.startswith(f"{name}, line 1: columns are {words}") and remedy in problem
    with pytest.raises(InputError, match=words):
        check_head(Path(name), ["text"])


@pytest.mark.parametrize("header", ["x" * 200_000, '"two\nlines",y'])
def test_a_header_that_no_other_separator_explains_is_shown(here: Path, header: str):
    (here / "a.csv").write_text(f"{header}\n1,2\n")
    with pytest.raises(InputError, match='no column "text"'):
        column_names(Path("a.csv"), ["text"])


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_name_of_a_column_may_have_line_ends(here: Path, end: str):
    (here / "a.csv").write_bytes(f'text,"note{end}on it"\na dog,b\n'.encode())
    assert column_names(here / "a.csv") == ["text", f"note{end}on it"]


def test_the_remedy_for_semicolons_works_and_changes_no_value(here: Path):
    (here / "a.csv").write_text('text;n\n"say ""hi""";007\nNA;1,5\n')
    command = problems_both_ways("a.csv")[0].partition("convert it:\n    python ")[2]
    code = command.removeprefix("-c ").strip('"')
    subprocess.run([sys.executable, "-c", code], check=True)
    assert read_file(Path("a-commas.csv"), ["text", "n"]).columns == {"text": ['say "hi"', "NA"], "n": ["007", "1,5"]}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_gzip(here: Path, suffix: str):
    WRITERS[suffix](here / f"a{suffix}", ROWS)
    (here / f"a{suffix}.gz").write_bytes(gzip.compress((here / f"a{suffix}").read_bytes()))
    assert both_ways(f"a{suffix}.gz", PAIRS) == both_ways(f"a{suffix}", PAIRS)
    (here / f"cut{suffix}.gz").write_bytes(gzip.compress((here / f"a{suffix}").read_bytes())[:-9])
    assert problems_both_ways(f"cut{suffix}.gz", PAIRS)[0].startswith(f"cut{suffix}.gz: not a complete gzip file")
    (here / f"plain{suffix}.gz").write_bytes((here / f"a{suffix}").read_bytes())
    assert problems_both_ways(f"plain{suffix}.gz", PAIRS)[0].startswith(f"plain{suffix}.gz: not a complete gzip file")


def test_gzip_of_txt_and_tsv(here: Path):
    (here / "a.txt.gz").write_bytes(gzip.compress("one\r\nzwei für\n".encode()))
    (here / "a.tsv.gz").write_bytes(gzip.compress(b'text\tb\n"say ""hi"""\tx\ntwo\ty\n'))
    assert [row["anchor"] for row in both_ways("a.txt.gz", TEXT)] == ["one", "zwei für"]
    assert [row["anchor"] for row in both_ways("a.tsv.gz", TEXT)] == ['say "hi"', "two"]


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.csv", ".csv"), ("A.CSV.GZ", ".csv"), ("v1.2.txt", ".txt"), ("a.parquet.gz", ".gz"), ("a", ""), (".csv", "")],
)
def test_ending(name: str, suffix: str):
    assert ending(name) == suffix


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".jsonl"])
def test_line_ends_and_a_byte_order_mark(here: Path, suffix: str, end: str):
    rows = ['{"text": "one"}', '{"text": "two"}'] if suffix == ".jsonl" else ["one", "two"]
    head = ["text"] if suffix in (".csv", ".tsv") else []
    (here / f"a{suffix}").write_bytes(("\ufeff" + end.join([*head, *rows]) + end).encode())
    assert load_rows(f"a{suffix}", TEXT)["anchor"][:] == ["one", "two"]
    if (suffix, end) != (".jsonl", "\r"):  # Arrow does not end a line there, and says so
        assert streamed(f"a{suffix}", TEXT) == [{"anchor": "one"}, {"anchor": "two"}]


def test_mixed_line_ends(here: Path):
    (here / "a.txt").write_bytes(b"one\r\ntwo\nthree\rfour")
    (here / "a.csv").write_bytes(b"text,b\r\none,1\ntwo,2\r\n")
    assert [row["anchor"] for row in both_ways("a.txt", TEXT)] == ["one", "two", "three", "four"]
    assert [row["anchor"] for row in both_ways("a.csv", TEXT)] == ["one", "two"]


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".jsonl"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("text\none\ntwo\n".encode("utf-16"), ": is UTF-16 text; save it as UTF-8"),
        ("text\none\ntwo\n".encode("utf-16-le"), ", line 1: has a NUL byte, so it is not UTF-8 text; UTF-16 has many"),
        (b"text\none\nt\0wo\n", ", line 3: has a NUL byte, so it is not UTF-8 text"),
        (gzip.compress(b"text\none\n", mtime=0), ": is compressed with gzip; its name must end in .gz"),
        (b"PK\x03\x04rest", ": is a zip archive or an Excel workbook, not text; export the sheet as csv"),
        ("text\nzwölf\n".encode("latin-1"), ", line 2: not UTF-8 text (byte 0xf6)"),
    ],
)
def test_what_is_not_utf_8(here: Path, suffix: str, content: bytes, problem: str):
    (here / f"a{suffix}").write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_rows(f"a{suffix}", TEXT)
    assert caught.value.problems[0].startswith(f"a{suffix}{problem}")
    with pytest.raises(InputError):
        streamed(f"a{suffix}", TEXT)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", "text,text\na,b\nc,d\n", 'a.csv, line 1: a column\'s name appears twice: "text"'),
        ("a.csv", ",,text\na,b,c\n", 'a.csv, line 1: a column\'s name appears twice: ""'),
        ("a.csv", " text ,b\na,b\nc,d\n", 'a.csv: no column "text" (did you mean " text "?)'),
        ("a.csv", "text\n", "a.csv: training and retrieval need two rows or more, there are 0"),
        ("a.jsonl", '{"text": "a", "text": "b"}\n', 'a.jsonl, line 1: the key "text" appears twice in an object'),
        ("a.jsonl", '["a", "b"]\n', 'a.jsonl, line 1: not a JSON object such as {"text": "..."}'),
        (
            "a.jsonl",
            '[\n{"text": "a"}\n]\n',
            "a.jsonl, line 1: not JSON: the file is one JSON document; write each row",
        ),
        ("a.jsonl", '{\n"text": "a"\n}\n', "a.jsonl, line 1: not JSON: the file is one JSON document; write each row"),
        (
            "a.jsonl",
            '{"text": {"en": "a"}}\n{"text": {"en": "b"}}\n',
            "a.jsonl, line 1: column \"text\" has {'en': 'a'}",
        ),
        ("a.jsonl", '{"text": "a\\u0000"}\n{"text": "b"}\n', 'a.jsonl, line 1: column "text" has a NUL character'),
        ("a.jsonl", f'{{"text": {"9" * 25}}}\n{{"text": 1}}\n', 'a.jsonl, line 1: column "text" has 9999999999'),
        ("a.csv.zip", "PK", "a.csv.zip: unknown format; the name of a file of texts ends in .csv, .tsv, .jsonl"),
    ],
)
def test_oddities(here: Path, name: str, content: str, problem: str):
    (here / name).write_text(content)
    read, stream = problems_both_ways(name)
    assert read.startswith(problem)
    assert stream.startswith(name)


def test_a_parquet_file_with_two_columns_of_one_name(here: Path):
    table = pa.table([["a", "b"], ["c", "d"], ["e", "f"]], names=["text", "text", "other"])
    pq.write_table(table, here / "a.parquet")
    assert problems_both_ways("a.parquet") == ['a.parquet: a column\'s name appears twice: "text"'] * 2
    with pytest.raises(InputError, match="appears twice"):
        load_rows("a.parquet", Columns(anchor="other"))


def test_a_tilde_is_the_home_folder(here: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(here))
    (here / "a.csv").write_text("question,answer\na,1\nb,2\n")
    (here / "b.csv").write_text("question,answer\nc,3\nd,4\n")
    section = DataSection(train="~/a.csv", heldout="~/b.csv", columns=PAIRS)
    assert load_train(section)["anchor"][:] == ["a", "b"]
    assert load_heldout(section)["anchor"][:] == ["c", "d"]
    assert len(streamed("~/?.csv", PAIRS)) == 4
    (here / "~").mkdir()
    with pytest.raises(InputError, match="no such file"):
        load_rows("~nobody-of-this-name/a.csv", PAIRS)


@pytest.mark.parametrize("suffix", FORMATS)
def test_column_names_are_known_from_a_look(here: Path, suffix: str):
    path = here / f"a{suffix}"
    if suffix in WRITERS:
        WRITERS[suffix](path, ROWS)
    elif suffix == ".tsv":
        path.write_text("id\tanswer\tquestion\n1\ta\tb\n")
    else:
        path.write_text("one\n")
    expected = ["text"] if suffix == ".txt" else ["id", "answer", "question"]
    assert column_names(path) == expected
    check_head(path, expected[-1:])
    with pytest.raises(InputError, match='no column "questions"'):
        check_head(path, ["questions"])
    with pytest.raises(InputError, match="no such file"):
        column_names(here / f"none{suffix}")


def test_nested_objects_of_other_columns_are_no_hindrance(here: Path):
    rows = [{"text": f"text {i}", "meta": {"tags": ["x"], "n": i}} for i in range(3)]
    (here / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row["anchor"] for row in both_ways("a.jsonl", TEXT)] == ["text 0", "text 1", "text 2"]
