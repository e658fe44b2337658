"""The study of scaling counts what the engine does, and plans from it what arithmetic says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import fmicl_text

ROOT = Path(fmicl_text.__file__).parent.parent
sys.path.insert(0, str(ROOT))
scaling = pytest.importorskip("eval.benchmarks.scaling")


@pytest.fixture(scope="module")
def document() -> dict:
    return json.loads((scaling.RESULTS / "scaling.json").read_text())


@pytest.mark.parametrize(("name", "sweeps", "products"), [("InfoNCE", 2, 4), ("f-MICL without a shift", 1, 3)])
def test_sweeps_and_products_are_those_of_the_engine(
    name: str, sweeps: int, products: int, monkeypatch: pytest.MonkeyPatch
):
    """A sweep is a product, and its gradient two more."""
    monkeypatch.setattr(scaling, "COUNTED", 512)
    work = scaling.work_of(scaling.LOSSES[name])
    assert (work["sweeps"], work["products"]) == (pytest.approx(sweeps), pytest.approx(products))


def test_what_a_ring_sends_is_what_was_counted(document: dict):
    for name, sizes in document["processes"]["2"].items():
        for size, figures in sizes.items():
            rows = int(size) // 2
            vectors, identities = rows * scaling.DIMENSION * 4, rows * 8
            sweeps = (figures["bytes sent"] - 2 * vectors) / (vectors + identities)
            assert sweeps == pytest.approx(round(sweeps)), "whole sweeps"
            assert (
                round(sweeps) == document["work"][name]["sweeps"] or name == "f-MICL by row"
            )  # it depends on the data
            assert scaling.ring_bytes(round(sweeps), 2, vectors, identities) == figures["bytes sent"]


def test_the_plan_adds_up(document: dict):
    hardware, run = scaling.Hardware(), scaling.Run()
    plan = scaling.planned(document, hardware, run)
    assert plan["steps"] * plan["batch"] == pytest.approx(run.pairs)
    for each in plan["losses"].values():
        step = (
            plan["encoder, s"] + plan["all-reduce, s"] + each["products, s"] + each["elementwise, s"] + each["ring, s"]
        )
        assert each["step, s"] == pytest.approx(step)
        assert each["dollars"] == pytest.approx(step * plan["steps"] / 3600 * hardware.gpus * hardware.price)
    faster = scaling.planned(document, scaling.Hardware(share=0.8), run)
    assert faster["encoder, s"] == pytest.approx(plan["encoder, s"] / 2)


def test_the_page_is_that_of_the_figures(document: dict):
    assert (scaling.RESULTS / "scaling.md").read_text() == scaling.page(document)
