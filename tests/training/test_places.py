"""Mistakes that only the loaded model or an extra shows are told with file, line and key, before anything runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from words import WORDS

from fmicl_text.cli import main

RECIPE = """\
name: tiny
model:
  base: BASE
data: {train: pairs.jsonl, columns: {anchor: a, positive: b}, heldout: 0.3}
loss:
  objective: infonce
train: {max_steps: 1}
evaluate: {during: null, after: [heldout]}
"""


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("  base: BASE", "  base: ./nowhere", "3: model.base: no model folder './nowhere'"),
        ("BASE\n", "BASE\n  lora: {target_modules: [vale]}\n", '4: model.lora.target_modules: no layer "vale"'),
        (
            "BASE\n",
            "BASE\n  max_seq_length: 65\n",
            "4: model.max_seq_length: the encoder has positions for 64 tokens, got 65",
        ),
        ("BASE\n", "BASE\n  freeze: [nothing]\n", '4: model.freeze: no part "nothing"'),
        ("BASE\n", "BASE\n  include_prompt: true\n", "4: model.include_prompt: the encoder has no prompts"),
        ("infonce\n", "infonce\n  matryoshka: {dims: [64, 32]}\n", "7: loss.matryoshka.dims: the encoder has 32"),
        ("[heldout]", "[heldout], dims: [64]", "8: evaluate.dims: the encoder has 32 dimensions, got 64"),
        ("max_steps: 1", "router_mapping: {a: query}", "7: train.router_mapping: the encoder has no Router"),
        ("infonce\n", "contextual-infonce\n", "6: loss.objective: contextual-infonce needs explicit negatives"),
    ],
)
def test_a_mistake_that_the_model_shows(
    tmp_path: Path, tiny_encoder_path: Path, monkeypatch, capsys, before: str, after: str, problem: str
):
    if "lora" in after:
        pytest.importorskip("peft", reason="peft is not installed")
    monkeypatch.chdir(tmp_path)
    Path("pairs.jsonl").write_text("".join(json.dumps({"a": f"the {word}", "b": word}) + "\n" for word in WORDS[:24]))
    assert before in RECIPE
    Path("recipe.yaml").write_text(RECIPE.replace(before, after, 1).replace("BASE", str(tiny_encoder_path)))
    assert main(["train", "recipe.yaml", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert f"error: recipe.yaml:{problem.replace('BASE', str(tiny_encoder_path))}" in said, said


@pytest.mark.parametrize(
    ("recipe", "options", "library"),
    [
        ("vision-quickstart", [], "data.views: augment needs kornia"),
        ("vision-quickstart", ["--set", "train.optim=lars"], "train.optim: lars needs pytorch_optimizer"),
        ("quickstart", ["--set", "model.lora={}"], "model.lora: needs peft"),
    ],
)
def test_a_missing_extra_is_named_before_anything_is_loaded(monkeypatch, capsys, recipe: str, options, library: str):
    for name in ("kornia", "pytorch_optimizer", "peft"):
        monkeypatch.setitem(sys.modules, name, None)
    for loaded in ("_train_rows", "_train_images", "load_heldouts"):
        monkeypatch.setattr(f"fmicl_text.training.inputs.{loaded}", None)
    assert main(["train", recipe, "--dry-run", *options]) == 2
    said = capsys.readouterr().err
    assert library in said and 'pip install "fmicl-text[' in said and f": {library}" in said, said
