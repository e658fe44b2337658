"""``model.lora``: what trains, what is saved, resuming, merging, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback
from words import WORDS

from fmicl_text.cli import main
from fmicl_text.encoders.lora import add_lora
from fmicl_text.encoders.section import LoraSection, ModelSection
from fmicl_text.encoders.text import load_encoder, load_model
from fmicl_text.errors import InputError
from fmicl_text.evaluation.results import read_result
from fmicl_text.recipe.file import load_recipe
from fmicl_text.training.callbacks import LastStep
from fmicl_text.training.plan import plan
from fmicl_text.training.train import train

pytestmark = pytest.mark.usefixtures("blank_pictures")

peft = pytest.importorskip("peft", reason="peft is not installed")

LORA = {"r": 4, "lora_alpha": 16, "target_modules": ["query", "value"]}
SENTENCES = [f"the {size} {animal} sleeps" for size in ("big", "small", "old", "young") for animal in WORDS[5:9]]


@pytest.fixture
def write_recipe(tiny_encoder_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a recipe whose files are named relative to the working directory, with changes to its sections."""
    place = tmp_path / "here"
    shutil.copytree(tiny_encoder_path, place / "base")
    rows = [{"anchor": sentence, "positive": sentence.replace("the", "a")} for sentence in SENTENCES]
    (place / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(place)

    def write(**sections: dict) -> Path:
        recipe = {
            "name": "tiny",
            "model": {"base": "base", "lora": LORA},
            "data": {"train": "pairs.jsonl", "columns": {"anchor": "anchor", "positive": "positive"}, "heldout": 0.3},
            "loss": {"objective": "fmicl"},
            "train": {"per_device_train_batch_size": 4, "max_steps": 5, "logging_steps": 1, "learning_rate": 1e-2},
            "evaluate": {"during": None, "every_steps": 2},
        }
        for name, section in sections.items():
            recipe[name] = recipe.get(name, {}) | section
        Path("recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
        return Path("recipe.yaml")

    return write


def test_settings_are_those_of_peft():
    """Of its names, with its defaults except for one that is documented."""
    theirs = {field.name: field.default for field in dataclasses.fields(peft.LoraConfig)}
    ours = {name: field.default for name, field in LoraSection.model_fields.items() if name != "merge"}
    assert {name: theirs[name] for name in ours} == ours | {"target_modules": None}


def test_every_linear_layer_but_the_poolers_has_an_adapter(tiny_encoder_path: Path):
    plain = load_encoder(ModelSection(base=str(tiny_encoder_path)))
    encoder = load_encoder(ModelSection(base=str(tiny_encoder_path), lora=LoraSection(r=2)))
    trained = {name.partition(".lora_")[0] for name, p in encoder.named_parameters() if p.requires_grad}
    linear = {name for name, m in plain.named_modules() if isinstance(m, torch.nn.Linear) and "pooler" not in name}
    assert trained == linear and len(linear) == 12
    assert np.array_equal(plain.encode(SENTENCES), encoder.encode(SENTENCES)), "an adapter is zero at first"


def test_an_adapter_is_in_float32_over_bfloat16(tiny_encoder_path: Path):
    encoder = load_model(str(tiny_encoder_path)).bfloat16()
    add_lora(encoder, LoraSection())
    assert {p.dtype for p in encoder.parameters() if p.requires_grad} == {torch.float32}


class Crash(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise KeyError("crash")


@pytest.mark.parametrize("settings", [{"merge": True}, {"use_dora": True, "lora_dropout": 0.1}], ids=["merged", "dora"])
def test_a_resumed_run_ends_with_the_same_bits(write_recipe, tmp_path: Path, monkeypatch, settings: dict):
    """Also after a move, when the path that the checkpoint has for its base leads nowhere."""
    write_recipe(model={"lora": LORA | settings, "head": "mlp"})
    train(load_recipe("recipe.yaml"), Path("whole"))
    with monkeypatch.context() as patch, pytest.raises(KeyError, match="crash"):
        patch.setattr(LastStep, "on_step_end", Crash.on_step_end)
        train(load_recipe("recipe.yaml"), Path("half"))

    checkpoint = Path("half/checkpoints/checkpoint-2")
    names = {file.relative_to(checkpoint).as_posix() for file in checkpoint.rglob("*.safetensors")}
    assert {"adapter_model.safetensors", "2_Dense/model.safetensors"} <= names and "model.safetensors" not in names
    keys = load_file(checkpoint / "adapter_model.safetensors").keys()
    assert all(".lora_" in key for key in keys) and len(keys) == (12 if "use_dora" in settings else 8)

    Path.cwd().rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    train(load_recipe("recipe.yaml"), Path("half"), resume=True)
    files = sorted(Path("whole/model").rglob("*.safetensors"))
    assert len(files) == 2 and ("merge" in settings) == (files[-1].name == "model.safetensors")
    for file in files:
        one, other = load_file(file), load_file("half" / file.relative_to("whole"))
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_finished_adapter_and_the_merged_encoder_are_one(write_recipe, monkeypatch):
    """With gradient checkpointing, which changes no gradient; both are measured as they are loaded by others."""
    monkeypatch.setattr("fmicl_text.training.trainer.CheapDropout", nullcontext)  # as with gradient checkpointing
    after = {"after": ["heldout"]}
    adapted = train(load_recipe(write_recipe(evaluate=after)), Path("adapter")).seeds[0].folder
    write_recipe(model={"lora": LORA | {"merge": True}}, train={"gradient_checkpointing": True}, evaluate=after)
    merged = train(load_recipe("recipe.yaml"), Path("merged")).seeds[0].folder
    assert (adapted.model / "adapter_config.json").is_file() and not (adapted.model / "model.safetensors").exists()
    assert (merged.model / "model.safetensors").is_file() and not (merged.model / "adapter_config.json").exists()
    one, other, base = (
        SentenceTransformer(str(place)).encode(SENTENCES) for place in (adapted.model, merged.model, "base")
    )
    assert np.abs(one - other).max() < 1e-5 < np.abs(one - base).max()
    assert read_result(adapted.result("heldout")).scores == read_result(merged.result("heldout")).scores


@pytest.mark.filterwarnings("error:.*is_gradient_checkpointing:FutureWarning")
def test_a_base_that_is_an_adapter_is_merged_and_trains_as_a_whole(tiny_encoder_path: Path, tmp_path: Path):
    adapted = load_encoder(ModelSection(base=str(tiny_encoder_path), lora=LoraSection()))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(str(tmp_path / "adapter"))
    encoder = load_encoder(ModelSection(base=str(tmp_path / "adapter")))
    assert np.abs(encoder.encode(SENTENCES) - adapted.encode(SENTENCES)).max() < 1e-5
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    encoder.save_pretrained(str(tmp_path / "whole"))
    assert np.array_equal(load_model(str(tmp_path / "whole")).encode(SENTENCES), encoder.encode(SENTENCES))
    with pytest.raises(InputError, match=r"model\.lora: the base is an adapter itself"):
        load_encoder(ModelSection(base=str(tmp_path / "adapter"), lora=LoraSection()))


def test_a_plan_says_how_much_trains_and_by_which_adapter(write_recipe, capsys):
    planned = plan(load_recipe(write_recipe()))
    assert planned.trained == 2 * 2 * (4 * 32 + 32 * 4) < planned.parameters
    assert main(["train", "recipe.yaml", "--dry-run", "--set", "model.lora.merge=true"]) == 0
    shown = (
        "LoRA (r: 4, lora_alpha: 16, lora_dropout: 0.0, target_modules: ['query', 'value']), merged into the weights"
    )
    assert f"  adapter   {shown}\n" in capsys.readouterr().out


def test_an_adapter_on_a_local_base_is_not_trained_to_be_published(write_recipe):
    publish = {"publish": {"repo": "me/tiny", "license": "mit"}}
    with pytest.raises(InputError, match=r"model\.lora: base, the base of the adapter, .* set merge: true"):
        plan(load_recipe(write_recipe(**publish)))


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"r": 0}, r"recipe.yaml:1: model\.lora\.r: "),
        ({"alpha": 16}, r'model\.lora\.alpha: .*did you mean "lora_alpha"'),
        ({"lora_dropout": 1}, r"model\.lora\.lora_dropout: "),
        ({"target_modules": ["q_proj"]}, r'target_modules: no layer "q_proj"; there are dense, key, query, value'),
        ({"target_modules": ["query", "vale"]}, r'target_modules: no layer "vale" \(did you mean "value"\?\)'),
        ({"target_modules": "nowhere"}, r"model\.lora: .*target"),
    ],
)
def test_mistakes_are_named(write_recipe, lora: dict, message: str):
    with pytest.raises(InputError, match=message):
        load_encoder(load_recipe(write_recipe(model={"lora": lora})).model)
