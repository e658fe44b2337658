import json
import random
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from words import WORDS

from fmicl_text.cli import main

pytest.importorskip("mteb")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder that has the data of one task."""
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    draw = random.Random(0)
    sides = [[" ".join(draw.choices(WORDS, k=draw.randint(3, 12))) for _ in range(40)] for _ in range(2)]
    columns = {"sentence1": sides[0], "sentence2": sides[1], "score": [draw.randint(0, 25) / 5 for _ in range(40)]}
    (tmp_path / "hub" / "mteb" / "stsbenchmark-sts").mkdir(parents=True)
    pq.write_table(pa.table(columns), tmp_path / "hub" / "mteb" / "stsbenchmark-sts" / "test.parquet")
    return tmp_path / "hub"


@pytest.fixture
def suite(hub, tmp_path):
    rows = pq.read_table(hub / "mteb" / "stsbenchmark-sts" / "test.parquet").to_pylist()
    lines = [",".join(map(str, row.values())) for row in rows]
    (tmp_path / "pairs.csv").write_text("sentence1,sentence2,score\n" + "\n".join(lines))
    (tmp_path / "own.yaml").write_text("name: '[own]'\ntasks:\n  - {name: Mine, type: sts, file: pairs.csv}\n")
    return tmp_path / "own.yaml"


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = main(["eval", "mteb", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_plan_then_one_table_of_main_scores(run, tiny_encoder_path, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    for name in ("one", "two"):
        shutil.copytree(tiny_encoder_path, tmp_path / name)
    arguments = ["one", "two", "--tasks", "STSBenchmark", "--data", hub]
    code, table, err = run(*arguments)
    assert code == 0
    assert "plan for mteb" in err and "1,379 pairs" in err and "total" in err
    documents = json.loads(run(*arguments, "--json")[1])
    assert [document["model"] for document in documents] == ["one", "two"]
    row = next(line for line in table.splitlines() if "STSBenchmark" in line)
    assert " Spearman (%) " in row
    (score,) = documents[0]["scores"]
    assert row.count(f"{score['value']:.2f} (") == 2
    low, high = score["ci95"]
    assert row.count(f"({low:.2f} to {high:.2f})") == 2
    assert "finished" in run(*arguments)[2]
    shutil.rmtree(tmp_path / "cache" / "items")  # as if mteb itself had made the results
    table = run(*arguments)[1]
    row = next(line for line in table.splitlines() if "│ STSBenchmark" in line)
    assert row.count(f" {score['value']:.2f} ") == 2 and "(" not in row.replace("(%)", "")
    assert "two: STSBenchmark has no interval: mteb's result was there" in table


def test_a_missing_task_is_in_the_table_and_in_the_status(run, tiny_encoder_path, hub, tmp_path):
    arguments = [tiny_encoder_path, "--tasks", "STSBenchmark, STS12", "--data", hub]
    code, table, err = run(*arguments, "--output", tmp_path / "result.json")
    assert code == 1
    assert "no data" in err
    assert "missing" in next(line for line in table.splitlines() if line.startswith("│ STS12"))
    assert "no average is shown" in table and "hf download mteb/sts12-sts" in table
    document = json.loads((tmp_path / "result.json").read_text())
    assert list(document["missing"]) == ["STS12"] and [score["name"] for score in document["scores"]] == [
        "STSBenchmark"
    ]
    code, out, _ = run(*arguments, "--json")
    assert (code, json.loads(out)) == (1, document)


def test_own_tasks(run, tiny_encoder_path, suite, tmp_path):
    code, table, err = run(tiny_encoder_path, "--suite", suite)
    assert code == 0
    assert "plan for [own]" in err and "40 pairs" in err
    assert "Mine" in table and "[own]" in table


def test_a_dry_run_only_plans(run, tiny_encoder_path, hub, tmp_path):
    code, out, err = run(tiny_encoder_path, "--tasks", "STSBenchmark", "--data", hub, "--dry-run")
    assert (code, out) == (0, "")
    assert "STSBenchmark" in err
    assert not list((tmp_path / "cache").rglob("STSBenchmark.json"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "STS-Benchmark"], 'no task "STS-Benchmark" (did you mean "STSBenchmark"?)'),
        (["--benchmark", "MTEB(eng,v2)"], 'no benchmark "MTEB(eng,v2)" (did you mean "MTEB(eng, v2)"?)'),
        (["--tasks", "STS12", "--data", "nowhere"], "no such data folder: nowhere"),
        (["--suite", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["--suite", "own.yaml", "--data", "."], "--data is for public tasks"),
        (["--tasks", "STS12", "--submission", "out"], "is not on the Hub: publish the model"),
    ],
)
def test_wrong_input_ends_in_two_and_a_sentence(run, tiny_encoder_path, hub, arguments, message):
    code, out, err = run(tiny_encoder_path, *arguments)
    assert (code, out) == (2, "")
    assert message in err and "Traceback" not in err


def test_no_result_is_overwritten_unasked(run, tiny_encoder_path, suite, tmp_path):
    (tmp_path / "result.json").write_text("precious")
    code, _, err = run(tiny_encoder_path, "--suite", suite, "--output", tmp_path / "result.json")
    assert (code, "--overwrite replaces it" in err) == (2, True)
    assert (tmp_path / "result.json").read_text() == "precious"


@pytest.mark.parametrize("arguments", [[], ["--tasks", "A", "--suite", "b.yaml"]])
def test_the_tasks_are_named_in_one_way(arguments):
    with pytest.raises(SystemExit) as caught:
        main(["eval", "mteb", "model", *arguments])
    assert caught.value.code == 2


def test_without_mteb_it_is_said_how_to_install_it(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = run("model", "--tasks", "STS12")
    assert code == 2
    assert 'pip install "fmicl-text[mteb]"' in err
