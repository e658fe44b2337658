"""Whatever the bytes are, a reader gives a value or an InputError: never another exception, never half an answer."""

from __future__ import annotations

import copy
import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from report_runs import make_run

from fmicl_text.data.formats import FORMATS, read_file
from fmicl_text.data.section import Columns
from fmicl_text.data.sources import load_rows
from fmicl_text.errors import InputError
from fmicl_text.evaluation.columns import binary, grade, label, number, read_columns, text
from fmicl_text.evaluation.mteb.own_suite import load_own_suite
from fmicl_text.evaluation.suites import load_suite
from fmicl_text.files import resource_folder
from fmicl_text.recipe.file import dump_recipe, load_recipe, shipped_recipes
from fmicl_text.recipe.schema import Recipe
from fmicl_text.recipe.training_arguments import training_arguments_model
from fmicl_text.report import Report, read_report
from fmicl_text.report.page import Page, render
from fmicl_text.report.published import TASKS
from fmicl_text.runs.plots import training_curves

EFFORT = int(os.environ.get("FMICL_FUZZ", "1"))
"""How many times as many examples, which then are others in each run; ``FMICL_FUZZ=300`` takes half an hour."""
fuzz = settings(suppress_health_check=list(HealthCheck))

RECIPES = [yaml.safe_load(file.read_text()) for file in shipped_recipes().values()]
SUITES = [yaml.safe_load(file.read_text()) for file in resource_folder("suites").glob("*.yaml")]
OWN_SUITE = {
    "name": "desk",
    "language": "eng-Latn",
    "tasks": [
        {"name": "Pairs", "type": "sts", "file": "pairs.csv", "columns": {"score": "gold"}},
        {"name": "Topics", "type": "classification", "train": "train.csv", "test": "test.csv"},
        {"name": "Search", "type": "retrieval", "queries": "q.jsonl", "corpus": "c.jsonl", "relevant": "r.tsv"},
    ],
}
HOSTILE = [
    None, True, "", " ", "\0", "\x1b[2J", "\u202e", "\ud800", "../../etc/passwd", "a" * 5000, "a" * 300 + ".yaml",
    "<script>", "{{7*7}}",
    "[red]x[/]", "yes", ".nan", ".inf", -1, 0, 10**18, 10**30, -(2**63), 1e308, float("nan"), float("inf"), [], {},
    [[]], [None], {"": None}, {"a": {"a": {"a": 1}}}, "!!python/object:os.system", "2024-02-30", "1:30", "0x1f", "~",
]  # fmt: skip
anything = st.sampled_from(HOSTILE) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths of all nodes of a document but itself."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(value[key], (*path, key))


@st.composite
def mutated(draw: st.DrawFn, documents: list[Any]) -> Any:
    """A valid document of which a few nodes are replaced, renamed, dropped or swapped for others of it."""
    document = copy.deepcopy(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(1, 3))):
        nodes = list(places(document))
        if not nodes:
            return document
        *above, last = draw(st.sampled_from(nodes))
        parent = document
        for step in above:
            parent = parent[step]
        match draw(st.sampled_from(["replace", "rename", "drop", "swap"])):
            case "rename" if isinstance(parent, dict):
                parent[draw(st.text(max_size=8))] = parent.pop(last)
            case "drop":
                del parent[last]
            case "swap":
                *others, other = draw(st.sampled_from(nodes))
                found: Any = document
                for step in (*others, other):
                    found = found[step] if isinstance(found, dict | list) and _has(found, step) else None
                parent[last] = copy.deepcopy(found)
            case _:
                parent[last] = copy.deepcopy(draw(anything))
    return document


def _has(value: Any, step: Any) -> bool:
    return step in value if isinstance(value, dict) else isinstance(step, int) and step < len(value)


def as_yaml(document: Any) -> bytes:
    return yaml.dump(document, allow_unicode=True).encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw: st.DrawFn, contents: st.SearchStrategy[bytes]) -> bytes:
    """Bytes of which a few are changed, taken away or put in."""
    content = bytearray(draw(contents))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 5))] = draw(st.binary(max_size=6) | st.sampled_from([b"\n", b'"', b"\t"]))
    return bytes(content)


YAML_CASES = [
    b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",  # a bomb
    b"a: &a [*a]\n",
    b"[" * 1000,  # deeper than Python calls
    b"name: " + b"[" * 200 + b"]" * 200,
    b"a: " + b"{a: " * 400,
    b"seeds: [" + b"9" * 100_000 + b"]\n",
    b"train: {max_steps: " + b"9" * 5000 + b"}\n",
    b"x" * 2_000_000,
    b"? [a, b]\n: 1\n",
    b"? !!str [a]\n: 1\n",
    b"? {a: 1}\n: 1\n",
    b"name: !!int ''\n",
    b"name: !!float ''\n",
    b"name: !!bool maybe\n",
    b"name: !!seq x\nmodel: !!map y\n",
    b"name: !!binary aGk=\nmodel: !!set {a, b}\ndata: !!timestamp 2024-02-30\n",
    b"name: !!python/object/apply:os.system ['true']\n",
    b"<<: {name: x}\nname: y\n",
    b"name: a\nname: b\nname: c\n",
    b"name: 'a\0b'\n",
    b"name: \xff\xfe\n",
    "name: x\n".encode("utf-16"),
    b"\xef\xbb\xbfname: x\n",
    b'name: "\\ud800"\n',
    b"%YAML 9.9\n---\nname: x\n",
    b"--- !!map\n...\n--- x\n",
    b"name: |\n" + b" x\n" * 1000,
    b"evaluate: {after: [../../../etc/passwd, sts7/../sts7]}\n",
    b"model: {base: x, revision: ../../x}\n",
    b"evaluate: {after: [" + b"a" * 300 + b".yaml]}\n",
]


def outcome(read: Callable[[], Any]) -> Any:
    """What is read, or the problems there are."""
    try:
        return read()
    except InputError as error:
        assert error.problems and all(isinstance(problem, str) and problem for problem in error.problems)
        return error.problems


def check_recipe(folder: Path, content: bytes, overrides: tuple[str, ...] = ()) -> None:
    path = folder / "fuzzed.yaml"
    path.write_bytes(content)
    found = outcome(lambda: load_recipe(path, overrides))
    if isinstance(found, Recipe):  # what is accepted can be written down and is the same again
        path.write_text(dump_recipe(found), "utf-8")
        assert load_recipe(path) == found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    training_arguments_model()  # imports sentence-transformers, which no example is to wait for
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("content", YAML_CASES, ids=lambda content: repr(content[:30]))
def test_yaml_that_was_found_or_thought_of(folder: Path, content: bytes):
    check_recipe(folder, content)
    assert isinstance(outcome(lambda: load_own_suite(folder / "fuzzed.yaml")), list)
    assert isinstance(outcome(lambda: load_suite(str(folder / "fuzzed.yaml"))), list)


@settings(fuzz, max_examples=50 * EFFORT)
@given(content=st.binary(max_size=80) | damaged(st.sampled_from(RECIPES).map(as_yaml)))
def test_any_bytes_as_a_recipe(folder: Path, content: bytes):
    check_recipe(folder, content)


@settings(fuzz, max_examples=50 * EFFORT)
@given(recipe=mutated(RECIPES))
def test_recipes_with_hostile_values(folder: Path, recipe: Any):
    check_recipe(folder, as_yaml(recipe))


KEYS = [".".join(map(str, path)) for recipe in RECIPES for path in places(recipe)]
overrides = st.text(max_size=30) | st.builds(
    lambda key, value: f"{key}={value}",
    st.sampled_from(KEYS) | st.text(max_size=8),
    anything.map(lambda value: yaml.dump(value, default_flow_style=True)) | st.text(max_size=12),
)


@settings(fuzz, max_examples=40 * EFFORT)
@given(recipe=st.sampled_from(RECIPES).map(as_yaml), overrides=st.lists(overrides, min_size=1, max_size=3))
@example(as_yaml(RECIPES[0]), ["name.x=1", "seeds.0=2", "=", ".=", "a..b=1", "loss=*x", "loss=&x [*x]"])
def test_any_override(folder: Path, recipe: bytes, overrides: list[str]):
    check_recipe(folder, recipe, tuple(overrides))


@settings(fuzz, max_examples=40 * EFFORT)
@given(own=mutated([OWN_SUITE]), suite=mutated(SUITES))
def test_suites_with_hostile_values(folder: Path, own: Any, suite: Any):
    path = folder / "suite.yaml"
    path.write_bytes(as_yaml(own))
    outcome(lambda: load_own_suite(path))
    path.write_bytes(as_yaml(suite))
    outcome(lambda: load_suite(str(path)))


# Data


cells = st.sampled_from(["", "a", '"', '""', "a,b", "\t", "\r\n", "\n", "\0", "0", "1", "nan", "-1e400", "\u2028"])
cells |= st.text(max_size=6)
values = st.none() | st.booleans() | st.integers() | st.floats() | cells | st.lists(cells, max_size=2)
COLUMNS = ["anchor", "positive"]


def _delimited(delimiter: str) -> st.SearchStrategy[bytes]:
    def write(rows: list[list[str]]) -> bytes:
        file = io.StringIO()
        csv.writer(file, delimiter=delimiter).writerows([COLUMNS, *rows])
        return file.getvalue().encode("utf-8", "surrogatepass")

    return st.lists(st.lists(cells, min_size=1, max_size=3), max_size=4).map(write)


def _jsonl(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _parquet(columns: dict[str, list[Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


TABLES = [
    {"anchor": ["a", "b", None], "positive": ["c", "", "e"]},
    {"anchor": [b"\xff", b"x"], "positive": ["a", "b"]},
    {"anchor": [["a"], []], "positive": [{"x": 1}, None]},
    {"anchor": pa.array([2**62, -(2**62)], pa.timestamp("ms")), "positive": pa.array([1, 2], pa.date64())},
    {"anchor": pa.array([1, 2], pa.timestamp("ns", "Nowhere/Land")), "positive": pa.array([1, 2], pa.duration("ns"))},
    {"anchor": pa.array(["a", "b"]).dictionary_encode(), "positive": pa.nulls(2)},
    {
        "anchor": pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")),
        "positive": ["a", "b"],
    },
]
records = st.dictionaries(st.sampled_from([*COLUMNS, "x"]), values, max_size=3) | values
CONTENTS = {
    ".csv": _delimited(","),
    ".tsv": _delimited("\t"),
    ".jsonl": st.lists(records, max_size=4).map(_jsonl),
    ".parquet": st.sampled_from([_parquet(table) for table in TABLES]),
    ".txt": st.lists(cells, max_size=4).map(lambda rows: "\n".join(rows).encode("utf-8", "surrogatepass")),
}
DATA_CASES = {
    ".jsonl": [b"[" * 100_000, b'{"anchor": ' * 5000, b'{"anchor": ' + b"9" * 5000 + b"}", b'{"anchor": "\\ud800"}'],
    ".csv": [b'anchor,positive\n"' + b"x" * 200_000, b"anchor,anchor\n1,2\n", b"anchor,positive\na,\0\n", b"\xff"],
    ".tsv": [b"anchor\tpositive\r1\t2\r3\t4", b"\n\n"],
    ".parquet": [
        b"PAR1",
        b"PAR1" + bytes(8) + b"PAR1",
        _parquet(TABLES[0]).replace(b"anchor", b"anch\x80r"),
        *(_parquet(table) for table in TABLES),
    ],
    ".txt": [b"\0", b"\xed\xa0\x80", b"\r\r\n"],
}
KINDS = {"anchor": text, "positive": number}


def check_data(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    wanted = ["text"] if path.suffix == ".txt" else COLUMNS
    read = outcome(lambda: read_file(path, wanted))
    if isinstance(read, tuple):
        assert {len(read.columns[name]) for name in wanted} == {len(read.numbers)}
    columns = Columns(anchor="text") if path.suffix == ".txt" else Columns(anchor="anchor", positive="positive")
    loaded = outcome(lambda: load_rows(str(path), columns))
    if not isinstance(loaded, list):  # no value is left out, and each is a text
        assert len(loaded) == len(read.numbers)
        assert all(isinstance(value, str) and value.strip() for value in loaded["anchor"])
    for kind in (number, binary, label, grade):
        outcome(lambda kind=kind: read_columns(path, dict.fromkeys(wanted, kind)))


@pytest.mark.parametrize(
    ("suffix", "content"),
    [(suffix, content) for suffix in DATA_CASES for content in DATA_CASES[suffix]],
    ids=lambda value: value if isinstance(value, str) else repr(value[:20]),
)
def test_data_that_was_found_or_thought_of(folder: Path, suffix: str, content: bytes):
    check_data(folder / f"found{suffix}", content)


@pytest.mark.parametrize("suffix", FORMATS)
@settings(fuzz, max_examples=30 * EFFORT)
@given(data=st.data())
def test_any_bytes_as_data(folder: Path, suffix: str, data: st.DataObject):
    contents = st.binary(max_size=60) | CONTENTS[suffix] | damaged(CONTENTS[suffix])
    check_data(folder / f"fuzzed{suffix}", data.draw(contents))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A run, another, and the documents of the other."""
    folder = tmp_path_factory.mktemp("runs")
    first, other = (make_run(folder / name, noise, tasks=TASKS[:1]) for name, noise in (("first", 0.3), ("other", 0.4)))
    files = ["manifest.json", "recipe.yaml", *(f"results/{n}.json" for n in ("sts7", "sts7.items", "geometry"))]
    documents = {name: json.loads((other / name).read_text()) for name in files}
    documents["metrics.jsonl"] = [json.loads(line) for line in (other / "metrics.jsonl").read_text().splitlines()]
    return first, other, documents


@settings(fuzz, max_examples=30 * EFFORT)
@given(data=st.data())
def test_run_folders_with_hostile_values(runs: tuple[Path, Path, dict[str, Any]], data: st.DataObject):
    first, other, documents = runs
    name = data.draw(st.sampled_from(sorted(documents)))
    whole = (other / name).read_bytes()
    document = data.draw(mutated([documents[name]]))
    lines = document if name == "metrics.jsonl" else [document]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (other / name).write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        report = outcome(lambda: read_report([first, other]))
        if isinstance(report, Report):  # what is accepted can be shown, and runs nothing
            parts = {key: [] for key in ("dimensions", "training", "differences", "geometry", "photos")}
            page = Page(report.runs, report.comparisons, [], **parts)
            assert "<script>" not in render(page)
            seed = report.runs[1].first
            for curve in training_curves(seed.history, seed.manifest.criterion).values():
                assert all(map(math.isfinite, curve[0])) and len(curve[0]) == len(curve[1])
    finally:
        (other / name).write_bytes(whole)
