"""The quickstart of images ends in a table where it beats what costs no training."""

from __future__ import annotations

import pytest

from fmicl_text.cli import main
from fmicl_text.evaluation.results import read_result

SYSTEMS = ("raw pixels", "random encoder")


@pytest.mark.slow
def test_it_beats_raw_pixels_and_a_random_encoder(tmp_path):
    assert main(["train", "vision-quickstart", "--output", str(tmp_path / "run")]) == 0
    result = read_result(tmp_path / "run" / "results" / "images.json")
    for method in ("kNN", "linear"):
        for system in SYSTEMS:
            assert result.score(method).value > result.score(f"{method}, {system}").value
            low, _ = result.details["above"][f"{method}, {system}"]["ci95"]
            assert low > 0, f"{method} against {system}: not beyond noise"
    assert result.facts["draws_of_labels"] == 20 and result.score("kNN").n == 597
