"""Embeddings trained and measured at several numbers of dimensions: recipe, loss, results, report, card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch.nn.functional import cross_entropy, normalize
from words import WORDS

from fmicl_text.errors import InputError
from fmicl_text.evaluation.dimensions import measure_at
from fmicl_text.evaluation.kind import Effort, Given
from fmicl_text.evaluation.registry import evaluation
from fmicl_text.evaluation.retrieval import retrieve
from fmicl_text.evaluation.scored_model import ScoredModel, scored_model
from fmicl_text.hub.card import model_card
from fmicl_text.hub.source import find_source
from fmicl_text.losses import ContrastiveLoss, objectives
from fmicl_text.recipe.file import load_recipe
from fmicl_text.recipe.schema import PublishSection
from fmicl_text.report import read_report, write_report
from fmicl_text.report.pictures import score_by_dimensions
from fmicl_text.runs.manifest import read_manifest
from fmicl_text.training.plan import plan
from fmicl_text.training.train import train

pytestmark = pytest.mark.usefixtures("blank_pictures")

PAIRS = [(f"{word} dog runs", f"water is {word}") for word in WORDS[:32]]


@pytest.fixture
def encoder(tiny_encoder_path: Path, tmp_path: Path) -> Path:
    """The tiny encoder of 32 dimensions without dropout."""
    shutil.copytree(tiny_encoder_path, tmp_path / "encoder")
    config = tmp_path / "encoder" / "config.json"
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config.write_text(json.dumps(json.loads(config.read_text()) | none))
    return tmp_path / "encoder"


@pytest.fixture
def write_recipe(encoder: Path, tmp_path: Path):
    for name, pairs in (("train", PAIRS[:8]), ("heldout", PAIRS[8:])):
        rows = [{"anchor": a, "positive": b} for a, b in pairs]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def write(**sections: dict) -> Path:
        recipe = {
            "name": "tiny",
            "model": {"base": str(encoder)},
            "data": {
                "train": str(tmp_path / "train.jsonl"),
                "heldout": str(tmp_path / "heldout.jsonl"),
                "columns": {"anchor": "anchor", "positive": "positive"},
            },
            "loss": {"objective": "infonce", "temperature": 0.1},
            "train": {"per_device_train_batch_size": 8, "max_steps": 2, "logging_steps": 1, "learning_rate": 1e-3},
            "evaluate": {"during": None, "after": ["heldout"]},
        }
        for name, section in sections.items():
            recipe[name] = recipe[name] | section
        (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
        return tmp_path / "recipe.yaml"

    return write


@pytest.mark.parametrize("mini_batch_size", [None, 3])
def test_a_run_at_two_dimensions(write_recipe, encoder: Path, tmp_path: Path, mini_batch_size: int | None):
    """Its loss is the weighted sum of that at each; scores at each are those of an encoder that the library cuts."""
    matryoshka = {"matryoshka": {"dims": [8, 32], "weights": [0.5, 1.0]}, "mini_batch_size": mini_batch_size}
    recipe = load_recipe(write_recipe(loss=matryoshka, evaluate={"dims": [8], "before": True}))
    planned = plan(recipe)
    assert planned.sources[""].loss.endswith(", on the first 8, 32 numbers of each vector") and planned.dims == [8]
    result = train(recipe, tmp_path / "run")
    first, *_ = map(json.loads, result.seeds[0].folder.metrics.read_text().splitlines())
    model = SentenceTransformer(str(encoder), device="cpu")
    x, y = (model.encode(list(texts), convert_to_tensor=True) for texts in zip(*PAIRS[:8], strict=True))
    expected = sum(
        weight * cross_entropy(normalize(x[:, :dim]) @ normalize(y[:, :dim]).T / 0.1, torch.arange(8))
        for dim, weight in ((8, 0.5), (32, 1.0))
    )
    assert first["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert "InfoNCELoss" in (text := (result.model / "README.md").read_text()) and "SentenceLoss" not in text
    if mini_batch_size is None:
        assert first["positive"] + first["negative"] == pytest.approx(first["loss"], rel=1e-5)

    queries, documents = zip(*PAIRS[8:], strict=True)
    for found, folder in ((result.seeds[0].after, result.seeds[0].folder.model), (result.before, encoder)):
        for at, dim in (("", None), (" at 8 dimensions", 8)):
            cut = SentenceTransformer(str(folder), device="cpu", truncate_dim=dim)
            for score in retrieve(cut, queries, documents).result.scores:
                key = f"held-out pairs{at} {score.metric}"
                assert found["heldout"].score(key).value == score.value
                assert found["heldout"].score(key).ci95 == score.ci95
    scores = result.seeds[0].after["heldout"]
    values = [scores.score(f"held-out pairs{at} MRR@10").value for at in (" at 8 dimensions", "")]
    assert score_by_dimensions(scores) == ([8, 32], values)
    write_report(read_report([tmp_path / "run"]), tmp_path / "report")
    assert (tmp_path / "report" / "report-dimensions-1.png").is_file()
    card = model_card(
        find_source(tmp_path / "run"), PublishSection(repo="me/tiny", license="mit"), model, adapter=False
    )
    assert '`SentenceTransformer("me/tiny", truncate_dim=8)` gives the first 8.' in str(card)
    assert "| matryoshka dims | 8, 32 |" in str(card) and "kusupati2024matryoshka" in str(card)


def test_width_and_balance_are_measured_on_whole_embeddings(write_recipe, tmp_path: Path):
    """So they are those of the same run without matryoshka, as long as nothing is learned."""
    loss = {"objective": "fmicl", "temperature": None, "shift": "none"}
    found = []
    for name, more in (("whole", {}), ("parts", {"matryoshka": {"dims": [32, 8, 4]}})):
        section = {key: value for key, value in (loss | more).items() if value is not None}
        path = write_recipe(train={"max_steps": 5, "learning_rate": 0.0, "per_device_train_batch_size": 4})
        recipe = json.loads(path.read_text()) | {"loss": section}
        path.write_text(json.dumps(recipe))
        train(load_recipe(path), tmp_path / name)
        found.append(read_manifest(tmp_path / name / "manifest.json")[1].measured)
    assert found[0] == pytest.approx(found[1], rel=1e-5) and found[0].keys() == {"sigma", "balance_cosine"}


@pytest.mark.parametrize("name", ["scored.jsonl", "suite.yaml"])
def test_each_kind_is_measured_on_the_vectors_that_are_left(name: str, encoder: Path, tmp_path: Path, monkeypatch):
    """Also by mteb, which keeps the results of an encoder."""
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path / "cache"))
    rows = [{"sentence1": a, "sentence2": PAIRS[-i][1], "score": i * i % 7} for i, (a, _) in enumerate(PAIRS)]
    file = tmp_path / "scored.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "suite.yaml").write_text(f"name: own\ntasks: [{{name: Pairs, type: sts, file: {file}}}]\n")
    loaded = evaluation(str(tmp_path / name)).load(Given())
    found = measure_at(loaded, scored_model(str(encoder)), Effort(), [32, 8])
    cut = ScoredModel(SentenceTransformer(str(encoder), device="cpu", truncate_dim=8), "cut", None)
    expected = loaded.measure(cut, Effort()).result.scores
    parts = [score for score in found.result.scores if score.dimensions is not None]
    assert [score.value for score in parts] == pytest.approx([score.value for score in expected])
    assert parts == [s.at(8).model_copy(update={"value": p.value}) for s, p in zip(expected, parts, strict=True)]
    assert (
        found.result.scores[0].value != parts[0].value and found.result.revision == scored_model(str(encoder)).revision
    )
    assert parts[0].key in found.items


@pytest.mark.parametrize(
    ("loss", "other", "problem"),
    [
        ({"dims": [64, 32]}, {}, "loss.matryoshka.dims: the encoder has 32 dimensions, got 64"),
        ({"dims": [16, 8]}, {}, "loss.matryoshka.dims: must have the encoder's own 32 dimensions among them"),
        ({"dims": [32, 32]}, {}, r"recipe.yaml:1: loss.matryoshka.dims: must differ, got \[32, 32\]"),
        ({"dims": [32, 8], "weights": [1.0]}, {}, "recipe.yaml:1: loss.matryoshka.weights: must be as many as dims, 2"),
        ({"dims": [32], "dim": 8}, {}, 'recipe.yaml:1: loss.matryoshka.dim: unknown key .did you mean "dims"'),
        ({"dims": [32]}, {"loss": {"queue": 4}}, "recipe.yaml:1: loss.matryoshka: cuts .* does not go with queue"),
        (
            {"dims": [32]},
            {"model": {"head": "mlp-train-only"}},
            "recipe.yaml:1: loss.matryoshka: cuts the encoder's own vectors: it needs model.head: mlp or none",
        ),
        (
            {"dims": [32]},
            {"loss": {"objective": "fmicl", "temperature": None, "learn_kernel": True, "mini_batch_size": 2}},
            "loss.mini_batch_size: does not go with matryoshka where the loss learns",
        ),
        ({"dims": [32]}, {"evaluate": {"dims": [64]}}, "evaluate.dims: the encoder has 32 dimensions, got 64"),
        ({"dims": [32]}, {"evaluate": {"dims": [8, 8]}}, "recipe.yaml:1: evaluate.dims: must differ"),
        (
            {"dims": [32]},
            {"evaluate": {"dims": [8], "after": []}},
            "recipe.yaml:1: evaluate.dims: needs evaluate.after",
        ),
    ],
)
def test_what_cannot_be_is_said_before_training(write_recipe, loss: dict, other: dict, problem: str):
    sections = {**other, "loss": {**other.get("loss", {}), "matryoshka": loss}}
    with pytest.raises(InputError, match=problem):
        plan(load_recipe(write_recipe(**sections)))


def test_it_is_a_setting_of_recipes():
    with pytest.raises(ValueError, match="put sentence-transformers' MatryoshkaLoss around this loss"):
        ContrastiveLoss(objectives()["infonce"].of("InfoNCE", {"matryoshka": {"dims": [4]}}))
