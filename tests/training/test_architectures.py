"""The recipes of ``recipes/encoders`` on tiny random models of the same architectures: what is trained loads again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Router, Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, StaticEmbedding
from transformers import BertConfig, Gemma3TextConfig, ModernBertConfig, PretrainedConfig, Qwen3Config, set_seed
from transformers.models.auto.modeling_auto import AutoModel
from words import WORDS

from fmicl_text.encoders.lora import has_adapter
from fmicl_text.encoders.section import ModelSection
from fmicl_text.encoders.text import load_encoder, load_model
from fmicl_text.errors import InputError
from fmicl_text.hub.card import model_card
from fmicl_text.hub.source import find_source
from fmicl_text.recipe.file import load_recipe, shipped_recipes
from fmicl_text.recipe.schema import PublishSection
from fmicl_text.training.train import train

pytestmark = pytest.mark.usefixtures("blank_pictures")

SMALL = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
FEW_HEADS = SMALL | {"num_key_value_heads": 1, "head_dim": 16, "pad_token_id": 0}
RECIPES = [name for name in shipped_recipes() if name.startswith("encoders/")]
TEXTS = [f"the {word} is red" for word in WORDS[1:25]]


def write_rows(file: Path) -> None:
    rows = [{"query": text, "answer": f"a {word} plays"} for text, word in zip(TEXTS, WORDS[1:25], strict=True)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def architecture(name: str) -> tuple[PretrainedConfig, list]:
    """Return the configuration of a recipe's base, made small, and the modules after the transformer."""
    dense = [Dense(32, 64, bias=False, activation_function=torch.nn.Identity()), Dense(64, 32, bias=False)]
    return {
        "encoders/modernbert-base": (ModernBertConfig(**SMALL, pad_token_id=0), [Pooling(32, pooling_mode="mean")]),
        "encoders/embeddinggemma-300m-lora": (
            Gemma3TextConfig(**FEW_HEADS, use_bidirectional_attention=True, dtype="bfloat16"),
            [Pooling(32, pooling_mode="mean"), *dense, Normalize()],
        ),
        "encoders/qwen3-embedding-0.6b-lora": (
            Qwen3Config(**FEW_HEADS, dtype="bfloat16"),
            [Pooling(32, pooling_mode="lasttoken"), Normalize()],
        ),
        "encoders/multilingual-e5-small": (BertConfig(**SMALL), [Pooling(32, pooling_mode="mean"), Normalize()]),
    }[name]


@pytest.fixture
def make_base(tiny_encoder_path: Path, tmp_path: Path):
    """Save a tiny random encoder of the architecture of a recipe's base, with the tokenizer of the tiny BERT."""

    def make(name: str) -> Path:
        config, modules = architecture(name)
        torch.manual_seed(0)
        folder = tmp_path / "transformer"
        AutoModel.from_config(config).save_pretrained(folder)
        load_model(str(tiny_encoder_path)).tokenizer.save_pretrained(folder)
        SentenceTransformer(modules=[Transformer(str(folder)), *modules]).save_pretrained(str(tmp_path / "base"))
        return tmp_path / "base"

    return make


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_its_architecture(name: str, make_base, tiny_encoder_path: Path, tmp_path: Path):
    assert len([line for line in shipped_recipes()[name].read_text().splitlines() if line[:1] not in "#"]) < 25
    write_rows(tmp_path / "rows.jsonl")
    base = f"static:{tiny_encoder_path}" if name == "encoders/static" else make_base(name)
    changes = {"model.base": base, "data.train": tmp_path / "rows.jsonl", "data.heldout": 0.3, "train.max_steps": 2}
    changes |= {"train.per_device_train_batch_size": 8, "evaluate": "{during: null}"}
    recipe = load_recipe(name, [f"{key}={value}" for key, value in changes.items()])
    model = train(recipe, tmp_path / "run").seeds[0].folder.model
    trained = SentenceTransformer(str(model))
    set_seed(recipe.seeds[0])  # of a new encoder's weights
    started = load_encoder(recipe.model.model_copy(update={"lora": None})).encode(TEXTS)
    assert trained.get_embedding_dimension() == (512 if name == "encoders/static" else 32)
    assert np.isfinite(trained.encode(TEXTS)).all() and np.abs(trained.encode(TEXTS) - started).max() > 1e-4
    assert has_adapter(trained) == (recipe.model.lora is not None) == (model / "adapter_config.json").is_file()
    if name == "encoders/static":
        card = model_card(find_source(tmp_path / "run"), PublishSection(repo="me/x", license="mit"), trained, False)
        begun = f"a new static embedding over the tokenizer of {tiny_encoder_path.name}"
        assert f"It was trained from {begun} by f-MICL" in str(card) and f"| base model | {begun} |" in str(card)
        assert card.data.base_model is None and "of a text are read" not in str(card), "it reads texts of any length"


def test_weights_train_in_float32_unless_asked(make_base):
    """Files of large encoders are in bfloat16, in which small steps of an optimizer are lost."""
    base = str(make_base("encoders/qwen3-embedding-0.6b-lora"))
    assert load_model(base).dtype == torch.bfloat16
    assert load_encoder(ModelSection(base=base)).dtype == torch.float32
    assert load_encoder(ModelSection(base=base, pooling="lasttoken")).dtype == torch.float32
    eager = load_encoder(ModelSection(base=base, dtype="bfloat16", attn_implementation="eager"))
    assert eager.dtype == torch.bfloat16 and eager.transformers_model.config._attn_implementation == "eager"


@pytest.mark.skipif(torch.cuda.is_available(), reason="flash attention may run here")
def test_attention_that_needs_a_gpu_is_refused(tiny_encoder_path: Path):
    with pytest.raises(InputError, match=r"model\.attn_implementation: flash_attention_2 needs a GPU"):
        load_encoder(ModelSection(base=str(tiny_encoder_path), attn_implementation="flash_attention_2"))


def test_a_static_base_needs_a_tokenizer(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"model\.base: no tokenizer .*empty"):
        load_encoder(ModelSection(base=f"static:{tmp_path / 'empty'}"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"base": "static:x", "pooling": "mean"}, r"pooling\s+is for a transformer"),
        ({"base": "static:x", "lora": {"r": 2}}, r"lora\s+is for a transformer"),
        ({"base": "x", "embedding_dim": 64}, r"embedding_dim\s+is for base: static:TOKENIZER"),
        ({"base": "static:x", "dtype": "bfloat16"}, r"dtype\s+is for a base that is a transformer"),
    ],
)
def test_what_a_static_embedding_does_not_have(model: dict, message: str):
    with pytest.raises(ValueError, match=message):
        ModelSection.model_validate(model)


def test_a_router_trains_each_route_on_its_column(tiny_encoder_path: Path, tmp_path: Path):
    """Queries by a static embedding, documents by a transformer; held-out retrieval takes the routes too."""
    whole = load_model(str(tiny_encoder_path))
    static = StaticEmbedding(whole.tokenizer, embedding_dim=32)
    router = Router.for_query_document(query_modules=[static], document_modules=[whole[0], whole[1]])
    SentenceTransformer(modules=[router]).save_pretrained(str(tmp_path / "base"))
    write_rows(tmp_path / "rows.jsonl")
    recipe = {
        "name": "router",
        "model": {"base": str(tmp_path / "base")},
        "data": {
            "train": str(tmp_path / "rows.jsonl"),
            "columns": {"anchor": "query", "positive": "answer"},
            "heldout": 0.3,
        },
        "loss": {"objective": "fmicl"},
        "train": {
            "max_steps": 2,
            "per_device_train_batch_size": 8,
            "learning_rate": 0.01,
            "router_mapping": {"query": "query", "answer": "document"},
        },
        "evaluate": {"during": None, "after": ["heldout"]},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    run = train(load_recipe(tmp_path / "recipe.yaml"), tmp_path / "run").seeds[0].folder
    before, after = load_model(str(tmp_path / "base")), load_model(str(run.model))
    assert run.result("heldout").is_file()
    for encode in ("encode_query", "encode_document"):
        assert np.abs(getattr(before, encode)(["the dog"]) - getattr(after, encode)(["the dog"])).max() > 1e-4
