"""Prompts of a recipe: in training, every evaluation, the saved encoder and its card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from words import WORDS

from fmicl_text.cli import main
from fmicl_text.encoders.prompts import Prompts
from fmicl_text.encoders.section import ModelSection, PromptsSection
from fmicl_text.encoders.text import load_encoder
from fmicl_text.errors import InputError
from fmicl_text.evaluation.mteb.model import wrapped
from fmicl_text.evaluation.mteb.run import evaluate
from fmicl_text.evaluation.mteb.selection import select_suite
from fmicl_text.evaluation.scored_model import scored_model
from fmicl_text.hub.card import model_card
from fmicl_text.hub.source import find_source
from fmicl_text.recipe.file import load_recipe
from fmicl_text.recipe.schema import PublishSection
from fmicl_text.training.train import train

pytestmark = pytest.mark.usefixtures("blank_pictures")

QUERY, DOCUMENT = "the big ", "near a "
TARGET = PublishSection(repo="me/tiny", license="mit")


def write_data(folder: Path, query: str = "", document: str = "") -> None:
    """Pairs, and scored pairs whose texts have no role, each text after a prompt."""
    rows = [(f"{word} dog runs", f"water is {word}") for word in WORDS[:24]]
    pairs = [{"anchor": query + a, "positive": document + b} for a, b in rows]
    scored = [
        {"sentence1": query + a, "sentence2": query + rows[-i][1], "score": i * i % 7} for i, (a, _) in enumerate(rows)
    ]
    folder.mkdir()
    for name, lines in (("train", pairs[:16]), ("heldout", pairs[16:]), ("scored", scored)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_recipe(folder: Path, model: dict) -> Path:
    recipe = {
        "name": folder.name,
        "model": model,
        "data": {
            "train": str(folder / "train.jsonl"),
            "heldout": str(folder / "heldout.jsonl"),
            "columns": {"anchor": "anchor", "positive": "positive"},
        },
        "loss": {"objective": "infonce"},
        "train": {"per_device_train_batch_size": 8, "max_steps": 3, "learning_rate": 1e-3},
        "evaluate": {"after": ["heldout", str(folder / "scored.jsonl")]},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    return folder / "recipe.yaml"


def test_a_run_with_prompts_is_one_whose_texts_begin_with_them(tiny_encoder_path: Path, tmp_path: Path):
    """In training and evaluation; the saved encoder has the prompts, for texts without a role too."""
    write_data(tmp_path / "plain"), write_data(tmp_path / "written", QUERY, DOCUMENT)
    prompts = {"query": QUERY, "document": DOCUMENT}
    recipe = load_recipe(write_recipe(tmp_path / "plain", {"base": str(tiny_encoder_path), "prompts": prompts}))
    prompted = train(recipe, tmp_path / "run").seeds[0]
    recipe = load_recipe(write_recipe(tmp_path / "written", {"base": str(tiny_encoder_path)}))
    written = train(recipe, tmp_path / "other").seeds[0]
    weights, expected = (load_file(run.folder.model / "model.safetensors") for run in (prompted, written))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    for name, result in written.after.items():
        assert [score.value for score in prompted.after[name].scores] == [score.value for score in result.scores]
        assert prompted.after[name].facts["prompts"] == prompts | {"text": QUERY} and "prompts" not in result.facts
    assert Prompts.of(SentenceTransformer(str(prompted.folder.model))) == Prompts(QUERY, DOCUMENT, QUERY)
    card = str(
        model_card(find_source(tmp_path / "run"), TARGET, SentenceTransformer(str(prompted.folder.model)), False)
    )
    for line in (
        '`encode_query` puts `"the big "`',
        '`encode_document` puts `"near a "`',
        '`encode` puts `"the big "`',
    ):
        assert f"- {line} before a text." in card


def test_roles_of_columns(tiny_encoder):
    assert Prompts.of(tiny_encoder).by_column(["anchor", "positive"]) == {}
    tiny_encoder.prompts |= {"query": "q", "document": "d"}
    prompts = Prompts.of(tiny_encoder)
    assert prompts.by_column(["anchor", "positive", "negative_1"]) == {
        "anchor": "q",
        "positive": "d",
        "negative_1": "d",
    }
    assert prompts.by_column(["anchor"]) == {}, "a text that is its own positive is read as by encode"
    tiny_encoder.default_prompt_name = "document"
    assert Prompts.of(tiny_encoder).by_column(["anchor"]) == {"anchor": "d"}


def test_prompts_are_what_the_encoder_puts_before_texts(tiny_encoder):
    """For every way to name them, by the encoder's own methods."""
    tiny_encoder.prompts = {"query": "the dog ", "passage": "a cat ", "STS": "big "}
    for default in (None, "STS"):
        tiny_encoder.default_prompt_name = default
        prompts = Prompts.of(tiny_encoder)
        for prompt, encode in zip(
            (prompts.query, prompts.document, prompts.text),
            (tiny_encoder.encode_query, tiny_encoder.encode_document, tiny_encoder.encode),
            strict=True,
        ):
            assert (encode("runs") == tiny_encoder.encode(f"{prompt}runs", prompt="")).all()


def test_mteb_uses_the_prompts_by_its_own_names(tiny_encoder_path: Path, tmp_path: Path, monkeypatch):
    section = ModelSection(base=str(tiny_encoder_path), prompts=PromptsSection(query=QUERY, document=DOCUMENT))
    load_encoder(section).save_pretrained(str(tmp_path / "model"), create_model_card=False)
    write_data(tmp_path / "data")
    (tmp_path / "suite.yaml").write_text(
        f"name: own\ntasks: [{{name: Pairs, type: sts, file: {tmp_path}/data/scored.jsonl}}]\n"
    )
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path / "cache"))
    result = evaluate(wrapped(scored_model(str(tmp_path / "model"))), select_suite(tmp_path / "suite.yaml"))
    assert result.prompts["Pairs"] == {"query": QUERY, "document": DOCUMENT, "text": QUERY}


def test_prompts_can_be_left_out_of_pooling(tiny_encoder_path: Path, tmp_path: Path):
    section = ModelSection(base=str(tiny_encoder_path), prompts=PromptsSection(query=QUERY), include_prompt=False)
    model = load_encoder(section).eval()
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    features = model.preprocess([f"{QUERY}dog runs"])
    tokens = model[0](features)["token_embeddings"][0]  # (L, D): [CLS] the big dog runs [SEP]
    expected = tokens[3:].mean(dim=0)
    found = torch.from_numpy(SentenceTransformer(str(tmp_path / "model"), device="cpu").encode("dog runs"))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ({"include_prompt": False}, "model.include_prompt: the encoder has no prompts; set model.prompts"),
        (
            {"base": "static", "include_prompt": False, "prompts": {"query": "big "}},
            "model.include_prompt: the encoder has no pooling of tokens that could leave any out",
        ),
    ],
)
def test_prompts_that_do_nothing(tiny_encoder, tiny_encoder_path: Path, tmp_path: Path, model: dict, problem: str):
    static = SentenceTransformer(modules=[StaticEmbedding(tiny_encoder.tokenizer, embedding_dim=8)], device="cpu")
    static.save_pretrained(str(tmp_path / "static"), create_model_card=False)
    base = {"base": str(tmp_path / "static" if "base" in model else tiny_encoder_path)}
    with pytest.raises(InputError, match=problem):
        load_encoder(ModelSection.model_validate(model | base))


def test_a_dry_run_says_what_is_put_before_which_column(tiny_encoder_path: Path, tmp_path: Path, capsys):
    write_data(tmp_path / "data")
    recipe = write_recipe(tmp_path / "data", {"base": str(tiny_encoder_path), "prompts": {"query": QUERY}})
    assert main(["train", str(recipe), "--dry-run"]) == 0
    assert 'prompts   "the big " before anchor\n' in capsys.readouterr().out
