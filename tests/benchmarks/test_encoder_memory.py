"""The memory that the recipes for encoders name is what was measured, of bases of the real size."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import fmicl_text
from fmicl_text.recipe.file import load_recipe, shipped_recipes

ROOT = Path(fmicl_text.__file__).parent.parent
sys.path.insert(0, str(ROOT))
encoder_memory = pytest.importorskip("eval.benchmarks.encoder_memory")

RECIPES = json.loads((encoder_memory.RESULTS / "encoder_memory.json").read_text())["recipes"]
MILLIONS = {"modernbert-base": 149, "embeddinggemma-300m-lora": 308, "qwen3-embedding-0.6b-lora": 596}
"""Weights of the bases, as their cards have them; an adapter adds a few percent."""


def test_every_recipe_is_counted():
    assert RECIPES.keys() == {name for name in shipped_recipes() if name.startswith("encoders/")}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_the_memory_that_was_counted(name: str):
    comment = [line for line in shipped_recipes()[name].read_text().splitlines() if line.startswith("#")]
    for found in RECIPES[name].values():
        assert f"{found['bytes'] / 1e9:.1f} GB" in " ".join(comment)


@pytest.mark.parametrize("name", RECIPES)
def test_it_is_more_than_weights_gradients_and_moments_and_about_what_a_process_takes(name: str):
    recipe = load_recipe(name)
    for precision, found in RECIPES[name].items():
        frozen = found["weights"] - found["trained"]
        assert found["bytes"] > 16 * found["trained"] + (2 if precision == "bfloat16" else 4) * frozen
        assert (found["trained"] < 0.05 * found["weights"]) == (recipe.model.lora is not None)
        size = MILLIONS.get(name.removeprefix("encoders/"), found["weights"] / 1e6)
        assert size <= found["weights"] / 1e6 < 1.05 * size
        if few := found.get("measured"):
            assert 0 < few["resident"] - few["tensors"] < 0.3e9 + 4 * found["weights"]


def test_the_page_is_that_of_the_figures():
    document = json.loads((encoder_memory.RESULTS / "encoder_memory.json").read_text())
    assert (encoder_memory.RESULTS / "encoder_memory.md").read_text() == encoder_memory.markdown(document)


def test_tensors_are_counted_while_they_are_there():
    allocated = encoder_memory._allocated()
    with allocated:
        kept = torch.zeros(1000)  # 4,000 bytes
        gone = torch.ones(2000)  # 8,000
        view = gone[:10]
        del gone, view
        again = kept + 1  # 4,000
    assert (allocated.most, allocated.now) == (12_000, 8_000) and again.numel() == kept.numel()
