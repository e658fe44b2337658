"""The sums of the log, and those of checkpoints of version 0.1.0."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from fmicl_text.training.log_sums import LogSums

CPU = torch.device("cpu")


def added(sums: LogSums, values: list[float]) -> None:
    for value in values:
        sums.add_terms({"positive": torch.tensor(-value), "negative": torch.tensor(2 * value)})
        sums.add_loss(torch.tensor(value))


def test_averages_are_of_steps_and_of_calls():
    sums = LogSums()
    added(sums, [1.0, 2.0, 6.0])
    sums.add_terms({"spectral": torch.tensor(5.0)})  # of another loss, which is called less often
    assert sums.take(step=2) == {"loss": 4.5, "positive": -3.0, "negative": 6.0, "spectral": 5.0}
    added(sums, [3.0])
    assert sums.final_average(step=3) == 4.0
    assert sums.take(step=3) == {"loss": 3.0, "positive": -3.0, "negative": 6.0}


def test_saved_and_loaded_they_go_on_bit_by_bit(tmp_path):
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(30, generator=generator).tolist()
    whole, half = LogSums(), LogSums()
    added(whole, values[:7]), added(half, values[:7])
    assert whole.take(7) == half.take(7)
    added(whole, values[7:20]), added(half, values[7:20])
    half.save(tmp_path / "sums")
    half = LogSums.load(tmp_path / "sums", CPU)
    added(whole, values[20:]), added(half, values[20:])
    assert whole.final_average(30) == half.final_average(30)
    assert whole.take(30) == half.take(30) and whole.total == half.total


def test_sums_of_version_0_1_0_are_read(tmp_path):
    """Which had zeros after a log, and one number of calls for all terms."""
    old = {
        "loss": torch.tensor(3.0),
        "all losses": torch.tensor(10.0, dtype=torch.float64),
        "logged step": torch.tensor(5),
        "seconds": torch.tensor(60.0, dtype=torch.float64),
        "term positive": torch.tensor(-4.0),
        "term steps": torch.tensor(2),
    }
    save_file(old, tmp_path / "sums")
    sums = LogSums.load(tmp_path / "sums", CPU)
    assert sums.elapsed() == pytest.approx(60, abs=5)
    added(sums, [1.0])
    assert sums.take(7) == {"loss": 2.0, "positive": -5 / 3, "negative": 2.0} and sums.total == 14.0
    save_file(old | {"term positive": torch.tensor(0.0), "term steps": torch.tensor(0)}, tmp_path / "logged")
    assert LogSums.load(tmp_path / "logged", CPU).take(7) == {"loss": 1.5}
