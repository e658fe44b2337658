import json

import pytest
from transfer_data import write_small_tasks

from fmicl_text.cli import main
from fmicl_text.evaluation.transfer import PROTOCOL


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The arguments that score TREC and MRPC, made small, on random texts."""
    write_small_tasks(tmp_path, monkeypatch)
    return ["--data", str(tmp_path)]


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = main(["eval", "transfer", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_the_table_names_model_protocol_and_every_figure(run, tiny_encoder_path, small, tmp_path):
    """Here classifiers are fitted in several processes, as they are for users."""
    code, table, _ = run(tiny_encoder_path, "--tasks", "mrpc,TREC", *small, "--output", tmp_path / "out.json")
    document = json.loads((tmp_path / "out.json").read_text())
    assert code == 0
    assert f"{tiny_encoder_path} on transfer" in table
    assert PROTOCOL in " ".join(table.split())
    found = [(score["name"], score["metric"]) for score in document["scores"]]
    assert found == [("MRPC", "accuracy"), ("MRPC", "F1"), ("TREC", "accuracy")]  # no average of two
    for score in document["scores"]:
        start = (score["name"], f"{score['metric']} (%)")
        (row,) = [line for line in table.splitlines() if "│" in line and all(f" {cell} " in line for cell in start)]
        low, high = score["ci95"]
        for figure in (f" {score['n']:,} ", f" {score['value']:.2f} ", f" {low:.2f} to {high:.2f} "):
            assert figure in row


@pytest.mark.usefixtures("one_process")
def test_missing_tasks_are_named_and_json_is_all_there_is(run, tiny_encoder_path, small, tmp_path):
    (tmp_path / "transfer" / "mrpc.parquet").unlink()
    code, out, _ = run(tiny_encoder_path, *small, "--json")
    document = json.loads(out)
    assert code == 0
    assert [score["name"] for score in document["scores"]] == ["TREC"]
    assert list(document["missing"]) == ["MR", "CR", "SUBJ", "MPQA", "SST2", "MRPC"]
    _, table, _ = run(tiny_encoder_path, *small, "--tasks", "TREC,MRPC")
    assert "MRPC is missing: no file" in " ".join(table.split())
    assert "missing" in next(line for line in table.splitlines() if " MRPC " in line and "│" in line)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--tasks", "SST,MR"], 'no transfer task "SST" (did you mean "SST2"?)'),
        (["--data", "nowhere"], "no such data folder: nowhere"),
        (["--tasks", "MR"], "no transfer task has data"),
        (["--output", "there.json"], "there.json already exists; --overwrite"),
    ],
)
def test_wrong_input_ends_in_two_and_a_sentence(run, tiny_encoder_path, small, tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.json").write_text("precious")
    code, out, err = run(tiny_encoder_path, *small, *change)
    assert (code, out) == (2, "")
    assert message in err
    assert (tmp_path / "there.json").read_text() == "precious"
