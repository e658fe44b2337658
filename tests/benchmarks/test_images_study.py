"""The study of objectives on images: its arms can be trained, and its report says what the results say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_image_encoder import RESNET, encoder

from eval.benchmarks import images
from eval.benchmarks.images.arms import ARMS, PILOT, overrides
from eval.benchmarks.images.report import BASELINES, METHODS, SEEDS, Measurements, _differs, _said, write_report
from fmicl_text.evaluation.items import Items, Measured, score, write_result
from fmicl_text.evaluation.metrics import ACCURACY
from fmicl_text.evaluation.results import Result
from fmicl_text.files import write_json
from fmicl_text.recipe.build import build_loss
from fmicl_text.recipe.file import load_recipe

RECIPE = Path(images.__file__).parent / "recipe.yaml"


@pytest.mark.parametrize("arm", ARMS)
def test_every_setting_makes_a_loss(arm: str):
    model = encoder(RESNET)
    for setting in ARMS[arm]:
        build_loss(load_recipe(RECIPE, ["data.train=x.parquet", *overrides(arm, setting)]), model)
    assert len(set(ARMS[arm])) == 2, "as many settings are tried for each"


def write(measured: Measurements, arm: str, right: float) -> None:
    for seed in SEEDS:
        items, scores = {}, []
        for method in METHODS:
            values = (np.random.default_rng(seed).random(500) < right).astype(float)
            items[ACCURACY.key(method)] = (Items("mean", values, source="x"),)
            scores.append(ACCURACY.score(method, score(items[ACCURACY.key(method)]), 500, (0.0, 100.0)))
            if arm == PILOT[0]:
                scores += [ACCURACY.score(f"{method}, {baseline}", 30.0, 500) for baseline in BASELINES]
        result = Result(kind="images", name="images", protocol="p", model="m", scores=scores)
        write_result(Measured(result, items), measured.of_seed(arm, seed))
    write_json(measured.tuning(arm), {"settings": list(ARMS[arm]), "kNN": [1.0, 2.0], "chosen": 1})


def test_the_report_says_what_held(tmp_path: Path):
    measured = Measurements(tmp_path / "measured")
    for arm, right in {"simclr-infonce": 0.5, "simclr-fmicl-kl": 0.7, "simclr-fmicl-js": 0.5}.items():
        write(measured, arm, right)
    write_report(measured, tmp_path / "images")
    report = (tmp_path / "images.md").read_text()
    [kl, js] = [line for line in report.splitlines() if line.startswith("| f-MICL at least on a par")]
    assert "simclr-fmicl-kl against simclr-infonce" in kl and kl.endswith("| held |")
    assert "simclr-fmicl-js against simclr-infonce" in js and "+0.00" in js
    assert "| raw pixels | | 30.00 ± 0.00 | 30.00 ± 0.00 | | |" in report
    assert f"| simclr-fmicl-kl | `{ARMS['simclr-fmicl-kl'][1]}` |" in report and "moco" not in report
    assert (tmp_path / "images.png").is_file()


@pytest.mark.parametrize(
    ("ends", "margin", "said"),
    [
        ((0.1, 2), 0, "held"),
        ((-0.5, 2), 0, "cannot be told here"),
        ((-0.5, 2), 1, "held"),
        ((-3, -0.1), 1, "did not hold"),
    ],
)
def test_what_an_interval_says(ends: tuple[float, float], margin: float, said: str):
    assert _said({"ci95": ends}, margin) == said


def test_the_best_differs_if_one_is_better_here_and_worse_there():
    better, worse, equal = ({"ci95": ends} for ends in ((1, 2), (-2, -1), (-1, 1)))
    assert _differs([better, worse, equal]) == "held"
    assert _differs([better, better]) == "did not hold"
    assert _differs([better, equal]) == "cannot be told here"
