"""An encoder that is loaded once: each copy is what a fresh load would be, whatever became of the copies before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import set_seed

from fmicl_text.encoders.kept import KeptEncoder
from fmicl_text.encoders.section import ModelSection
from fmicl_text.encoders.text import load_encoder
from fmicl_text.errors import InputError

RESNET = {"type": "resnet", "embedding_size": 8, "hidden_sizes": [8], "depths": [1], "layer_type": "basic"}
PLAIN: list[dict[str, Any]] = [
    {"base": "FOLDER", "max_seq_length": 16, "prompts": {"query": "a "}, "dtype": "bfloat16"},
    {"base": "FOLDER", "pooling": "cls", "freeze": ["embeddings"]},
]
DRAWN: list[dict[str, Any]] = [
    {"base": "FOLDER", "head": "mlp"},
    {"base": "FOLDER", "lora": {"r": 2}},
    {"base": "static:FOLDER", "embedding_dim": 4},
    {"scratch": RESNET, "image_size": 32},
]


@pytest.fixture
def folder(tiny_encoder_path: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_encoder_path, tmp_path / "encoder")


def described(settings: dict[str, Any], folder: Path) -> ModelSection:
    base = {"base": settings["base"].replace("FOLDER", str(folder))} if "base" in settings else {}
    return ModelSection.model_validate(settings | base)


def written(model: Any, folder: Path) -> dict[str, Any]:
    model.save_pretrained(str(folder))
    files: dict[str, Any] = {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    if (name := "adapter_config.json") in files:
        adapter = json.loads(files[name])
        files[name] = adapter | {"target_modules": sorted(adapter["target_modules"])}  # a set, written in any order
    return files


@pytest.mark.filterwarnings("ignore:Could not find a config file")  # peft, of the folder that is gone
@pytest.mark.parametrize("settings", PLAIN + DRAWN, ids=str)
def test_a_copy_is_a_fresh_load_and_needs_no_file(settings: dict[str, Any], folder: Path, tmp_path: Path):
    section = described(settings, folder)
    set_seed(1)
    fresh = load_encoder(section)
    after, trained = torch.get_rng_state(), [parameter.requires_grad for parameter in fresh.parameters()]
    expected, files = fresh.state_dict(), written(fresh, tmp_path / "fresh")

    kept = KeptEncoder()
    set_seed(1)
    first = kept.load(section)
    shutil.rmtree(folder)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_().requires_grad_(not parameter.requires_grad)
    first.prompts, first.similarity_fn_name = {"query": "spoilt"}, "dot"
    first.model_card_data.language = ["en"]
    tokenizer = getattr(first, "tokenizer", None)
    if tokenizer is not None:
        getattr(tokenizer, "backend_tokenizer", tokenizer).enable_truncation(1)
    set_seed(1)
    copy = kept.load(section)
    assert torch.equal(torch.get_rng_state(), after)
    assert [parameter.requires_grad for parameter in copy.parameters()] == trained
    assert copy.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in copy.state_dict().items())
    assert written(copy, tmp_path / "copy") == files
    if section.scratch is None:
        assert torch.equal(*(model.eval().encode(["a dog runs"], convert_to_tensor=True) for model in (copy, fresh)))


@pytest.mark.parametrize("settings", PLAIN[:1], ids=str)
def test_weights_that_are_not_drawn_do_not_depend_on_the_seed(settings: dict[str, Any], folder: Path):
    kept = KeptEncoder()
    set_seed(1)
    kept.load(described(settings, folder))
    shutil.rmtree(folder)
    set_seed(2)
    state = torch.get_rng_state()
    kept.load(described(settings, folder))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("settings", DRAWN, ids=str)
def test_weights_that_are_drawn_do(settings: dict[str, Any], folder: Path):
    section, kept = described(settings, folder), KeptEncoder()
    for seed in (1, 2):
        set_seed(seed)
        expected = load_encoder(section).state_dict()
        set_seed(seed)
        found = kept.load(section).state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_another_section_is_another_encoder(folder: Path):
    kept, section = KeptEncoder(), described(PLAIN[1], folder)
    kept.load(section)
    assert kept.load(section.model_copy(update={"max_seq_length": 8})).max_seq_length == 8
    shutil.rmtree(folder)
    with pytest.raises(InputError, match="no model folder"):
        kept.load(section)
