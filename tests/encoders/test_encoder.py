"""Encoders that come from anywhere: pickles are refused, and code of their own is not run unless a recipe says so."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense

from fmicl_text.cli import main
from fmicl_text.encoders.section import ModelSection
from fmicl_text.encoders.text import check_positions, load_encoder, load_model
from fmicl_text.errors import InputError
from fmicl_text.hub.source import find_source
from fmicl_text.recipe.file import load_recipe
from fmicl_text.training.build import check_build
from fmicl_text.training.inputs import load_inputs
from fmicl_text.training.train import train


@pytest.fixture
def encoder(tiny_encoder_path: Path, tmp_path: Path) -> Path:
    """A copy of the tiny encoder with a dense layer, a module with weights of its own."""
    model = SentenceTransformer(str(tiny_encoder_path), device="cpu")
    model.append(Dense(32, 32))
    model.save_pretrained(str(tmp_path / "encoder"), create_model_card=False)
    return tmp_path / "encoder"


def pickle(folder: Path) -> None:
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()


@pytest.mark.parametrize("pooling", [None, "mean"])
@pytest.mark.parametrize("module", [".", "2_Dense"])
def test_pickles_are_refused_wherever_they_lie(encoder: Path, module: str, pooling: str | None):
    pickle(encoder / module)
    with pytest.raises(InputError, match=r"has its weights in a pickle \(.*pytorch_model.bin\), which can run code"):
        load_encoder(ModelSection(base=str(encoder), pooling=pooling))


def test_a_pickle_beside_safetensors_is_not_read_and_no_hindrance(encoder: Path):
    (encoder / "2_Dense" / "pytorch_model.bin").write_bytes(b"\x80\x04not one")
    (encoder / "optimizer.pt").write_bytes(b"\x80\x04not one")
    load_model(str(encoder))


def test_the_home_of_nobody_is_no_folder():
    with pytest.raises(InputError, match="no model folder '~nosuchuser/encoder'"):
        load_model("~nosuchuser/encoder")
    with pytest.raises(InputError, match="no folder '~nosuchuser/encoder'"):
        find_source("~nosuchuser/encoder")


def test_the_command_of_a_refusal_makes_an_encoder_that_loads(encoder: Path, capsys: pytest.CaptureFixture[str]):
    expected = SentenceTransformer(str(encoder), device="cpu").encode(["the dog runs"])
    pickle(encoder), pickle(encoder / "2_Dense")
    assert main(["eval", "sts", str(encoder), "--suite", "stsb", "--data", "sample:stsb"]) == 2
    convert = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("    python -c"))
    _, _, code = shlex.split(convert)
    exec(code, {})
    assert np.array_equal(load_model(f"{encoder}-safetensors").encode(["the dog runs"]), expected)


@pytest.fixture(params=["module", "transformer"])
def foreign(encoder: Path, request: pytest.FixtureRequest) -> Path:
    """An encoder with Python code of its own, which leaves a file behind where it is run."""
    ran = f"import pathlib; pathlib.Path({str(encoder.parent / 'ran')!r}).touch()\n"
    if request.param == "module":
        (encoder / "own.py").write_text(
            f"{ran}from sentence_transformers.base.modules import Dense\nclass Own(Dense):\n    pass\n"
        )
        modules = json.loads((encoder / "modules.json").read_text())
        modules[2]["type"] = "own.Own"
        (encoder / "modules.json").write_text(json.dumps(modules))
    else:
        (encoder / "own.py").write_text(
            f"{ran}from transformers import BertConfig, BertModel\n"
            "class OwnConfig(BertConfig):\n    model_type = 'own'\n"
            "class Own(BertModel):\n    config_class = OwnConfig\n"
        )
        config = json.loads((encoder / "config.json").read_text())
        config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.Own"}}
        (encoder / "config.json").write_text(json.dumps(config))
    return encoder


@pytest.fixture
def recipe(foreign: Path, tmp_path: Path) -> Path:
    rows = [{"a": f"the dog {word}", "b": f"a cat {word}"} for word in ("runs", "eats", "sings", "sleeps")]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "foreign",
        "model": {"base": str(foreign)},
        "data": {"train": str(tmp_path / "pairs.jsonl"), "columns": {"anchor": "a", "positive": "b"}},
        "loss": {"objective": "fmicl"},
        "train": {"per_device_train_batch_size": 4, "max_steps": 1},
        "evaluate": {"during": None},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    return tmp_path / "recipe.yaml"


def test_code_that_comes_with_a_model_is_not_run(foreign: Path, recipe: Path, tmp_path: Path, capsys):
    pairs = tmp_path / "scored.csv"
    pairs.write_text("sentence1,sentence2,score\nthe dog,a cat,1\nman,woman,2\nbig,small,3\n")
    for command in (
        ["train", str(recipe)],
        ["train", str(recipe), "--dry-run"],
        ["eval", "pairs", str(foreign), str(pairs)],
    ):
        assert main(command) == 2
        assert "brings Python code of its own, which is not run" in capsys.readouterr().err
    assert main(["publish", str(foreign), "me/x", "--license", "mit", "--dry-run"]) == 2
    assert "own.py: an encoder with Python code of its own is not published, as" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_it_is_run_when_the_recipe_says_so_and_the_plan_says_it(foreign: Path, recipe: Path, tmp_path: Path, capsys):
    trusted = "model.trust_remote_code=true"
    assert main(["train", str(recipe), "--set", trusted, "--dry-run"]) == 0
    assert "Python code that comes with the model is run (model.trust_remote_code)" in capsys.readouterr().out
    assert (tmp_path / "ran").exists()
    run = train(load_recipe(recipe, [trusted]), tmp_path / "run").folder
    assert "trust_remote_code: true" in (run / "recipe.yaml").read_text()
    assert not load_recipe(recipe).model.trust_remote_code
    with pytest.raises(InputError, match="is not run"):  # by Python's name alone, without the run's recipe
        load_model(str(run))


def scored(tmp_path: Path) -> str:
    (tmp_path / "scored.csv").write_text("sentence1,sentence2,score\nthe dog,a cat,1\nman,woman,2\nbig,small,3\n")
    return str(tmp_path / "scored.csv")


@pytest.fixture
def trusted_run(recipe: Path, tmp_path: Path) -> Path:
    run = train(load_recipe(recipe, ["model.trust_remote_code=true"]), tmp_path / "run").folder
    (tmp_path / "ran").unlink()
    return run


of_a_transformer = pytest.mark.parametrize("foreign", ["transformer"], indirect=True)
"""The library saves the code of a module that is not the first where it does not look for it."""


@of_a_transformer
def test_a_run_is_evaluated_if_the_user_trusts_it(trusted_run: Path, tmp_path: Path, capsys):
    """Its recipe alone does not do: a run folder may be somebody else's."""
    pairs = scored(tmp_path)
    assert main(["eval", "pairs", str(trusted_run), pairs]) == 2
    assert "evaluate it with --trust-remote-code" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
    assert main(["eval", "pairs", str(trusted_run), pairs, "--trust-remote-code"]) == 0, capsys.readouterr().err


def test_an_encoder_with_code_is_refused_before_training_if_it_is_to_be_published(recipe: Path, tmp_path: Path, capsys):
    options = ["model.trust_remote_code=true", "publish.repo=me/x", "publish.license=mit"]
    command = ["train", str(recipe), "--output", str(tmp_path / "run")]
    assert main([*command, *(word for option in options for word in ("--set", option))]) == 2
    said = capsys.readouterr().err
    assert "publish.repo: an encoder with Python code of its own is not published, as whoever loads it" in said
    assert not (tmp_path / "run").exists()


def test_an_encoder_without_code_may_be_trusted_and_published(recipe: Path, tiny_encoder_path: Path):
    options = ["model.trust_remote_code=true", "publish.repo=me/x", "publish.license=mit"]
    plain = load_recipe(recipe, [f"model.base={tiny_encoder_path}", *options])
    check_build(plain, load_inputs(plain))


@of_a_transformer
def test_publishing_a_run_with_code_says_that_it_is_not_done(trusted_run: Path, capsys):
    for code in (trusted_run / "model").glob("*.py"):  # of a base on the Hub, the code stays there
        code.unlink()
    assert main(["publish", str(trusted_run), "me/x", "--license", "mit", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "an encoder with Python code of its own is not published" in said and "train from it" not in said


def test_a_pooling_of_ones_own_is_no_way_around(foreign: Path, tmp_path: Path):
    if "auto_map" in (foreign / "config.json").read_text():
        with pytest.raises(InputError, match="is not run"):
            load_encoder(ModelSection(base=str(foreign), pooling="mean"))
    else:  # other modules are not loaded
        load_encoder(ModelSection(base=str(foreign), pooling="mean"))
    assert not (tmp_path / "ran").exists()


def test_more_tokens_than_the_encoder_has_positions_for(tiny_encoder_path: Path):
    """BERT counts positions from 0; RoBERTa from 2, so that two of its table are of no token."""
    from transformers import RobertaConfig, RobertaModel

    longest = load_encoder(ModelSection(base=str(tiny_encoder_path), max_seq_length=64))
    assert longest.encode("dog " * 100).shape == (32,)
    with pytest.raises(InputError, match=r"model\.max_seq_length: the encoder has positions for 64 tokens, got 65"):
        load_encoder(ModelSection(base=str(tiny_encoder_path), max_seq_length=65))
    roberta = RobertaModel(
        RobertaConfig(
            vocab_size=9,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
            max_position_embeddings=18,
        )
    )
    for tokens, fits in ((16, True), (17, False)):
        tokenised = torch.full((1, tokens), 5)
        if fits:
            roberta(tokenised)
            check_positions([SimpleNamespace(model=roberta)], tokens)
        else:
            with pytest.raises((IndexError, RuntimeError)):
                roberta(tokenised)
            with pytest.raises(InputError, match="has positions for 16 tokens, got 17"):
                check_positions([SimpleNamespace(model=roberta)], tokens)


def test_another_pooling_leaves_the_prompts(tiny_encoder: SentenceTransformer, tmp_path: Path):
    tiny_encoder.prompts |= {"query": "the dog ", "document": "a cat "}
    tiny_encoder.default_prompt_name = "query"
    tiny_encoder.set_pooling_include_prompt(False)
    tiny_encoder.save_pretrained(str(tmp_path), create_model_card=False)
    pooled = load_encoder(ModelSection(base=str(tmp_path), pooling="mean"))
    for encode in ("encode", "encode_query", "encode_document"):
        expected = getattr(tiny_encoder, encode)("woman sings")
        assert np.allclose(getattr(pooled, encode)("woman sings"), expected, atol=1e-6)
    assert not np.allclose(pooled.encode("woman sings", prompt=""), pooled.encode("woman sings"))
    without = load_encoder(ModelSection(base=str(tmp_path), pooling="cls", prompts={"query": "", "document": ""}))
    assert not any(without.prompts.values())
