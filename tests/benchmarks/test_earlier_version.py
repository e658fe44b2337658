"""The benchmark of an earlier version: it is that version which trains, and both are put side by side."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from eval.benchmarks import earlier_version
from eval.benchmarks.earlier_version import ROOT, take
from fmicl_text.files import read_json

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the history of a checkout")
SIZES = ["--steps", "3", "--turns", "2", "--batch", "8"]


def test_a_tiny_run(tiny_encoder_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = earlier_version.in_a_process
    trained = []

    def noted(setting, processes, *more, cwd):
        assert (cwd / "fmicl_text" / "__init__.py").is_file()
        trained.append((cwd == ROOT, setting.seed, setting.job.columns))
        return real(setting, processes, *more, cwd=cwd)

    scores = {"held-out pairs, MRR@10": 90.0}
    monkeypatch.setattr(earlier_version, "TRAINED", ("dropout pairs",))
    monkeypatch.setattr(earlier_version, "in_a_process", noted)
    monkeypatch.setattr(earlier_version, "quickstart", lambda place, *_: {"seconds": len(place.name), "scores": scores})
    earlier_version.main(["HEAD", "--model", str(tiny_encoder_path), *SIZES, "--output", str(tmp_path / "found")])
    assert trained == [(now, seed, ("text",)) for seed, order in enumerate(((1, 0), (0, 1))) for now in order]
    document = read_json(tmp_path / "found.json")
    [job] = document["steps"].values()
    for turn in job["turns"]:
        for seconds in turn.values():
            assert {"encoder", "backward", "optimiser", "loss"} <= seconds.keys() and min(seconds.values()) >= 0
    page = (tmp_path / "found.md").read_text()
    assert f"| seconds | {len('earlier')} | {len(ROOT.name)} |" in page
    assert "| held-out pairs, MRR@10 | 90.00 | 90.00 |" in page
    assert "| dropout pairs | random words | 8, 32 |" in page
    assert (tmp_path / "found.png").is_file()


def test_sizes_that_measure_nothing_are_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        earlier_version.main(["HEAD", "--steps", "1"])
    assert "--steps must be at least 2, as the first is not counted, got 1" in capsys.readouterr().err


def test_a_ratio_is_the_earlier_time_over_that_of_now():
    turns = [{"earlier": {"encoder": 3.0, "loss": 1.0}, "now": {"encoder": 1.5, "checks": 0.5}}] * 2
    job = {"texts": "random words", "length": 32, "batch": 8, "turns": turns}
    run = {version: {"seconds": 1.0, "scores": {}} for version in earlier_version.VERSIONS}
    facts = {"commit": "0" * 40, "device": "CPU", "model": "tiny", "versions": {}}
    page = earlier_version.markdown({**facts, "steps": {"pairs": job}, "quickstart": run})
    assert "| 2.0 (2.0 to 2.0) | 4.0 (4.0 to 4.0) | **2.00 (2.00 to 2.00)** |" in page
    assert "| encoder | 3000 | 1500 |" in page and "| checks | 0 | 500 |" in page and "| loss | 1000 | 0 |" in page


def test_a_commit_is_taken_with_the_benchmarks_of_today(tmp_path: Path):
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert take("HEAD", tmp_path / "taken") == head
    of_today, taken = (root / "eval" / "benchmarks" / "step_clock.py" for root in (ROOT, tmp_path / "taken"))
    assert taken.read_bytes() == of_today.read_bytes()
    with pytest.raises(SystemExit, match="no-such-commit is no commit of this checkout"):
        take("no-such-commit", tmp_path / "none")


@pytest.mark.slow
def test_the_quickstart_of_a_version(tmp_path: Path):
    found = earlier_version.quickstart(ROOT, tmp_path / "run", steps=1)
    assert found["seconds"] > 0
    assert list(found["scores"]) == ["held-out pairs, MRR@10", "STSBenchmark, Spearman"]
    assert all(60 < score < 100 for score in found["scores"].values())
