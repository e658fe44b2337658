"""``precision: auto`` is what the device is faster with, and says what that is."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch

from fmicl_text.data.mining import _section
from fmicl_text.data.section import MineSection
from fmicl_text.encoders.section import ModelSection
from fmicl_text.errors import InputError
from fmicl_text.recipe.file import load_recipe
from fmicl_text.runs.manifest import Manifest
from fmicl_text.training import precision
from fmicl_text.training.build import check_build
from fmicl_text.training.inputs import load_inputs


@pytest.mark.parametrize(
    ("train", "has", "settings"),
    [
        ({"precision": "auto"}, True, {"bf16": True}),
        ({"precision": "auto"}, False, {"bf16": False}),
        ({"bf16": True}, True, {}),
        ({"bf16": True}, False, {"bf16": False}),
        ({"fp16": True}, True, {"fp16": False}),
        ({"fp16": True, "bf16": True}, False, {"fp16": False, "bf16": False}),
        ({}, True, {}),
    ],
)
def test_what_is_left_to_a_cpu(monkeypatch: pytest.MonkeyPatch, train, has: bool, settings):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: has)
    assert precision.settings_of(train, on_cpu=True) == settings


@pytest.mark.parametrize("has", [True, False])
def test_what_is_left_to_a_gpu(monkeypatch: pytest.MonkeyPatch, has: bool):
    """One that emulates bfloat16 does not have it."""
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: not has)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: has or including_emulation)
    assert precision.settings_of({"precision": "auto"}, on_cpu=False) == {"bf16": has}
    assert precision.settings_of({"bf16": True}, on_cpu=False) == {}
    assert precision.settings_of({"fp16": True}, on_cpu=False) == {}


def test_flash_attention_needs_half_precision():
    flash = ModelSection(base="x", attn_implementation="flash_attention_2")
    float32, half = SimpleNamespace(bf16=False, fp16=False), SimpleNamespace(bf16=False, fp16=True)
    with pytest.raises(InputError, match="flash_attention_2 computes in half precision alone; set"):
        precision.require_half_precision(flash, float32)
    precision.require_half_precision(flash, half)
    precision.require_half_precision(flash.model_copy(update={"dtype": "bfloat16"}), float32)
    precision.require_half_precision(ModelSection(base="x", attn_implementation="sdpa"), float32)


@pytest.mark.parametrize(
    ("attention", "dtype", "outside"),
    [
        ("flash_attention_2", "float32", None),
        ("flash_attention_2", "bfloat16", "flash_attention_2"),
        ("sdpa", "float32", "sdpa"),
        (None, "float32", None),
    ],
)
def test_flash_attention_is_left_out_where_nothing_makes_half_precision(attention, dtype: str, outside):
    """What measures the base model and mines with it is not in training."""
    section = ModelSection(base="x", attn_implementation=attention, dtype=dtype)
    assert section.without_autocast.attn_implementation == outside
    assert _section(MineSection(), section).attn_implementation == outside


@pytest.mark.parametrize("has", [True, False])
def test_a_recipe_trains_in_it_and_says_so(
    tiny_encoder_path, tmp_path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, has: bool
):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: has)
    (tmp_path / "rows.csv").write_text("anchor,positive\n" + "".join(f"the man {i},a dog {i}\n" for i in range(20)))
    (tmp_path / "recipe.yaml").write_text(
        f"name: r\nmodel: {{base: {tiny_encoder_path}}}\n"
        f"data: {{train: {tmp_path / 'rows.csv'}, columns: {{anchor: anchor, positive: positive}}}}\n"
        "loss: {objective: fmicl}\ntrain: {precision: auto, max_steps: 1}\nevaluate: {during: none}\n"
    )
    recipe = load_recipe(tmp_path / "recipe.yaml")
    with caplog.at_level(logging.INFO, "fmicl_text.training.precision"):
        trainer = check_build(recipe, load_inputs(recipe))
    said = "bfloat16 autocast" if has else "float32"
    assert precision.precision(trainer.args, "float32") == said and f"precision: auto is {said}, " in caplog.text
    for key in ("bf16", "fp16"):
        assert load_recipe(tmp_path / "recipe.yaml", [f"train.{key}=true"]).train[key] is True
        with pytest.raises(InputError, match=rf"train\.{key}: is given twice, also as precision: auto"):
            load_recipe(tmp_path / "recipe.yaml", [f"train.{key}=true", "train.precision=auto"])


def test_two_precisions_are_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_text(
        "name: r\nmodel: {base: x}\ndata: {train: rows.csv, columns: {anchor: a, positive: b}}\n"
        "loss: {objective: fmicl}\ntrain: {precision: auto}\n"
    )
    with pytest.raises(InputError, match=r"train\.fp16: cannot be beside bf16: a step has one precision"):
        load_recipe(tmp_path / "recipe.yaml", ["train.bf16=true", "train.fp16=true"])


def test_a_cpu_trains_in_float32_where_float16_was_asked_for(caplog: pytest.LogCaptureFixture):
    without = SimpleNamespace(bf16=False, fp16=False, use_cpu=True)
    precision.tell({"fp16": True}, without, "float32")
    assert "train.fp16 is for a GPU: training without autocast on this CPU" in caplog.text
    assert precision.precision(without, "float32") == "float32"


def test_nothing_is_said_of_what_was_not_left_to_it(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        precision.tell({"bf16": True}, SimpleNamespace(bf16=True, fp16=False, use_cpu=True), "float32")
        precision.tell({}, SimpleNamespace(bf16=False, fp16=False, use_cpu=True), "float32")
    assert not caplog.records


@pytest.mark.parametrize("has", [True, False])
def test_weights_in_bfloat16_are_no_float32(monkeypatch: pytest.MonkeyPatch, caplog, has: bool):
    """``model.dtype`` is what the plan, the manifest and the card call the precision of a run without autocast."""
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: has)
    without = SimpleNamespace(bf16=False, fp16=False, use_cpu=True)
    assert precision.precision(without, "bfloat16") == "bfloat16"
    assert "bf16" not in Manifest(seed=1, precision="bfloat16").in_effect({"bf16": True})
    precision.tell({}, without, "bfloat16")
    assert ("model.dtype: float32 is several times faster" in caplog.text) == (not has)
