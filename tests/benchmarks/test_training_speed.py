"""The benchmark of training speed: it runs at a tiny size, both programs train alike, and its clock adds up."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from eval.benchmarks import training_speed
from eval.benchmarks.step_clock import REST, StepClock
from eval.benchmarks.training_speed import JOBS, PROGRAMS, Setting, build, mrr
from fmicl_text.errors import InputError
from fmicl_text.files import read_json


def test_the_clock_counts_each_moment_once(monkeypatch: pytest.MonkeyPatch):
    moments = iter([0, 1, 3, 7, 15, 31, 63])  # made, begun anew, outer and inner entered and left, read
    monkeypatch.setattr(time, "perf_counter", lambda: next(moments))
    clock = StepClock()
    clock.reset()
    with clock.part("outer"), clock.part("inner"):
        pass
    assert clock.read() == {REST: (3 - 1) + (63 - 31), "outer": (7 - 3) + (31 - 15), "inner": 15 - 7}


def test_mrr_of_known_ranks():
    class Given:
        def encode(self, texts, **_):
            return torch.tensor([[float(text == other) for other in ("a", "b", "c")] for text in texts])

    assert mrr(Given(), {"anchor": ["a", "b"], "positive": ["a", "b"]}) == pytest.approx(100)
    assert mrr(Given(), {"anchor": ["a", "b"], "positive": ["b", "a"]}) == pytest.approx(50)


def test_a_tiny_run(tiny_encoder_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training_speed, "in_a_process", lambda _: {"megabytes": 2.0})
    monkeypatch.setattr(training_speed, "start_to_end", lambda _: 1.0)
    sizes = ["--jobs", "pairs, gradient cache", "--steps", "3", "--turns", "1", "--batch", "8"]
    training_speed.main(["--model", str(tiny_encoder_path), *sizes, "--profile", "--output", str(tmp_path / "speed")])
    [job] = read_json(tmp_path / "speed.json")["jobs"].values()
    assert all(len(job["turns"][0][program]["seconds"]) == 2 for program in PROGRAMS)
    parts = {"encoder", "backward", "optimiser", "loss", "waiting for data", "tokenising", "clipping"}
    assert all(parts <= job["profile"][program].keys() for program in PROGRAMS)
    assert job["profile"]["fmicl"]["encoder"] > 0
    for shares in job["operations"].values():
        assert sum(shares.values()) == pytest.approx(1) and min(shares.values()) >= 0
        assert shares["matrix products"] > 0 and shares["optimiser"] > 0
    assert "| pairs, gradient cache | random words |" in (tmp_path / "speed.md").read_text()
    assert (tmp_path / "speed.png").is_file()


def test_the_page_says_what_was_trained_on(tmp_path: Path):
    class Encoder:
        def tokenizer(self, texts, truncation, max_length):
            assert truncation
            return {"input_ids": [text.split()[:max_length] for text in texts]}

    rows = {"anchor": ["a " * n for n in range(1, 7)], "positive": ["a " * n for n in range(7, 12)]}
    assert training_speed.tokens(Encoder(), rows, length=8) == [2, 6, 8]
    args = Namespace(texts=tmp_path / "wiki.parquet", pairs=tmp_path / "pairs.parquet", kind="answer")
    assert training_speed.origin(JOBS["dropout pairs"], args) == "`wiki.parquet`"
    assert training_speed.origin(JOBS["triplets"], args) == "`pairs.parquet`, answer"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--steps", "1"], "--steps must be at least 2, as the first is not counted, got 1"),
        (["--turns", "0"], "--turns must be at least 1, got 0"),
        (["--batch", "1"], "--batch must be at least 2, as a lone row has no negative, got 1"),
        (["--growth", "--jobs", "pairs"], "not allowed with argument"),
        (["--kind", "nli"], "--kind is of the rows of --pairs, which is not given"),
    ],
)
def test_sizes_that_measure_nothing_are_refused(given: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        training_speed.main(given)
    assert said in capsys.readouterr().err


def test_files_that_cannot_be_trained_on_are_refused(tmp_path: Path):
    from datasets import Dataset

    file = tmp_path / "rows.parquet"
    rows = {"anchor": ["a"] * 300, "positive": ["b"] * 300, "kind": ["nli"] * 300}

    def refused(said: str, job: str = "pairs", kind: str | None = None, batch: int = 16) -> None:
        with pytest.raises(InputError, match=said):
            training_speed.tuples(JOBS[job], None, file, kind, batch)

    refused(r"rows\.parquet: cannot be read as Parquet: ")
    file.write_bytes(b"")
    refused(r"rows\.parquet: cannot be read as Parquet: ")
    Dataset.from_dict(rows).to_parquet(file)
    refused("has no column negative; it has anchor, positive, kind", job="triplets")
    refused("none of 300 rows of kind other has anchor, positive", kind="other")
    refused("too few rows: 256 are held out, and a batch has 64", batch=64)


def test_growth_counts_the_rows_of_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training_speed, "in_a_process", lambda setting, processes: {"step": setting.job.length / 64})
    training_speed.main(["--growth", "--output", str(tmp_path / "speed")])
    found = read_json(tmp_path / "speed.json")["growth"]
    assert found["batch"]["256"] == dict.fromkeys(PROGRAMS, 512)
    assert found["length"]["128"] == dict.fromkeys(PROGRAMS, 32)
    assert found["processes"]["2"] == dict.fromkeys(PROGRAMS, 256)
    assert "| processes 2 | 256.0 | 256.0 |" in (tmp_path / "speed.md").read_text()
    assert (tmp_path / "speed.png").is_file()


def test_the_share_of_evaluation():
    shown = training_speed._evaluation(steps=90, step=2.0, evaluations=2, during=10.0)
    assert shown.endswith("the evaluations are 10.0%.")


def test_both_programs_have_the_same_loss(tiny_encoder_path: Path, tmp_path: Path):
    from datasets import Dataset

    rows, _ = training_speed.tuples(JOBS["triplets"], None, None, None, 16)
    Dataset.from_dict(rows).to_parquet(tmp_path / "rows.parquet")
    losses = []
    for program in PROGRAMS:
        data = str(tmp_path / "rows.parquet")
        trainer, _ = build(Setting(program, JOBS["triplets"], str(tiny_encoder_path), data, 1, False))
        batch = next(iter(trainer.get_train_dataloader()))
        trainer.model.eval()
        losses.append(trainer.compute_loss(trainer.model, dict(batch)).item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
