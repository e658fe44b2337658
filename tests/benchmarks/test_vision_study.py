"""The study of objectives on images: its arms can be trained, and its report says what the results say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from test_image_encoder import RESNET, encoder

import fmicl_text
from fmicl_text.evaluation.items import Items, Measured, score, write_result
from fmicl_text.evaluation.metrics import ACCURACY
from fmicl_text.evaluation.results import Result
from fmicl_text.files import write_json
from fmicl_text.recipe.build import build_loss
from fmicl_text.recipe.file import load_recipe

FILE = Path(fmicl_text.__file__).parent.parent / "eval" / "benchmarks" / "vision.py"
SPEC = importlib.util.spec_from_file_location("vision_study", FILE)
study = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(study)


@pytest.mark.parametrize("arm", study.ARMS)
def test_every_setting_makes_a_loss(arm: str):
    model = encoder(RESNET)
    for setting in study.ARMS[arm]:
        overrides = ["data.train=x.parquet", f"loss={setting}", *([study.PREDICTOR] if "moco-v3" in arm else [])]
        build_loss(load_recipe(FILE.with_suffix(".yaml"), overrides), model)
    assert len(set(study.ARMS[arm])) == 2, "as many settings are tried for each"


def write(folder: Path, arm: str, right: float) -> None:
    for seed in study.SEEDS:
        items, scores = {}, []
        for method in study.METHODS:
            values = (np.random.default_rng(seed).random(500) < right).astype(float)
            items[ACCURACY.key(method)] = (Items("mean", values, source="x"),)
            scores.append(ACCURACY.score(method, score(items[ACCURACY.key(method)]), 500, (0.0, 100.0)))
            if arm == study.PILOT[0]:
                scores += [ACCURACY.score(f"{method}, {b}", 30.0, 500) for b in ("raw pixels", "random encoder")]
        result = Result(kind="images", name="images", protocol="p", model="m", scores=scores)
        write_result(Measured(result, items), folder / f"{arm}-seed{seed}.json")
    write_json(folder / f"{arm}-tuned.json", {"settings": list(study.ARMS[arm]), "kNN": [1.0, 2.0], "chosen": 1})


def test_the_report_says_what_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(study, "RESULTS", tmp_path / "vision")
    for arm, right in {"simclr-infonce": 0.5, "simclr-fmicl-kl": 0.7, "simclr-fmicl-js": 0.5}.items():
        write(tmp_path / "vision", arm, right)
    study._report()
    report = (tmp_path / "vision.md").read_text()
    assert "| f-MICL at least on a par with InfoNCE | simclr-fmicl-kl against simclr-infonce | held |" in report
    assert "simclr-fmicl-js against simclr-infonce | cannot be told here |" in report
    assert "| raw pixels | | 30.00 ± 0.00 | 30.00 ± 0.00 |" in report
    assert study.ARMS["simclr-fmicl-kl"][1] in report and "moco" not in report
