"""The losses inside every wrapper of sentence-transformers, and with encoders that have several routes."""

from __future__ import annotations

import inspect
import random
from typing import Any

import pytest
import torch
from loss_table import PAIRWISE
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses as library
from sentence_transformers.sentence_transformer.losses import AdaptiveLayerLoss, Matryoshka2dLoss, MatryoshkaLoss
from sentence_transformers.sentence_transformer.modules import Router, StaticEmbedding
from torch import Tensor

from fmicl_text import FMICLLoss, InfoNCELoss
from fmicl_text.losses import LOSSES

COLUMNS = [
    ["a dog runs", "the woman plays a guitar", "a dog runs", "the old man sings"],
    ["the dog is fast", "water is blue", "dog", "the river is slow"],
    ["a cat", "a dog runs", "food", "the city"],
]
ADAPTIVE = {"n_layers_per_step": -1, "kl_temperature": 0}


def tokenised(model: SentenceTransformer, columns: list[list[str]]) -> list[dict[str, Any]]:
    return [model.preprocess(column) for column in columns]


def total(loss: Tensor | dict[str, Tensor]) -> Tensor:
    return torch.stack(list(loss.values())).sum() if isinstance(loss, dict) else loss


def test_these_are_all_wrappers_there_are():
    """Losses of the library that take another loss."""
    found = set()
    for name in library.__all__:
        kind = getattr(library, name)
        if inspect.isclass(kind) and "loss" in inspect.signature(kind).parameters:
            found.add(kind)
    assert found == {MatryoshkaLoss, AdaptiveLayerLoss, Matryoshka2dLoss}


def by_layer(model: SentenceTransformer, columns: list[list[str]]) -> list[list[Tensor]]:
    """Mean-pooled embeddings of each layer, the first one being that of the tokens, by hand."""
    layers = []
    for features in tokenised(model, columns):
        output = model[0].auto_model(
            **{key: features[key] for key in ("input_ids", "attention_mask")}, output_hidden_states=True
        )
        mask = features["attention_mask"].unsqueeze(2)
        layers.append([(hidden * mask).sum(1) / mask.sum(1) for hidden in output.hidden_states])
    return [list(of_layer) for of_layer in zip(*layers, strict=True)]


@pytest.mark.parametrize("name", LOSSES)
def test_layers(tiny_encoder: SentenceTransformer, name: str):
    """The loss of the last layer and the mean of the losses of those before it."""
    distinct = [
        [f"{text} {word}" for text in column] for column, word in zip(COLUMNS, ["big", "red", "old"], strict=True)
    ]
    distinct[0][2] = "the horse eats"
    loss = LOSSES[name](tiny_encoder).eval()
    tiny_encoder.eval()
    value = AdaptiveLayerLoss(tiny_encoder, loss, **ADAPTIVE).eval()(tokenised(tiny_encoder, distinct), None)
    *prior, last = (total(loss.compute_loss_from_embeddings(e)) for e in by_layer(tiny_encoder, distinct))
    torch.testing.assert_close(total(value), last + torch.stack(prior).mean(), rtol=1e-4, atol=1e-4)
    total(value).backward()
    assert tiny_encoder[0].auto_model.get_input_embeddings().weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", PAIRWISE)
def test_layers_of_dropout_views(tiny_encoder: SentenceTransformer, name: str):
    tiny_encoder.train()
    wrapped = AdaptiveLayerLoss(tiny_encoder, LOSSES[name](tiny_encoder), kl_temperature=0.3)
    for _ in range(2):
        value = wrapped(tokenised(tiny_encoder, COLUMNS[:1]), None)
        total(value).backward()
        assert total(value).isfinite()


@pytest.mark.parametrize("name", LOSSES)
def test_layers_and_dimensions(tiny_encoder: SentenceTransformer, name: str):
    random.seed(0)
    tiny_encoder.train()
    wrapped = Matryoshka2dLoss(tiny_encoder, LOSSES[name](tiny_encoder), [32, 16, 8])
    for _ in range(3):
        value = wrapped(tokenised(tiny_encoder, COLUMNS), None)
        total(value).backward()
        assert total(value).isfinite()


def test_a_wrapper_that_calls_again_with_the_same_features_gets_the_same_identities(tiny_encoder: SentenceTransformer):
    """AdaptiveLayerLoss hands over the very same features, from which the identities are gone by then."""
    seen = []
    loss = InfoNCELoss(tiny_encoder)
    terms = loss.terms
    loss.terms = lambda x, y, **batch: seen.append(batch["texts"]) or terms(x, y, **batch)
    features = tokenised(tiny_encoder, COLUMNS[:2])
    for number, column in enumerate(features):
        column["identity"] = torch.arange(4) + 10 * number
    tiny_encoder.eval()
    AdaptiveLayerLoss(tiny_encoder, loss, **ADAPTIVE)(features, None)
    assert len(seen) == 3 and all(torch.equal(texts, torch.tensor([[i, 10 + i] for i in range(4)])) for texts in seen)


@pytest.mark.parametrize("wrap", [AdaptiveLayerLoss, lambda model, loss: Matryoshka2dLoss(model, loss, [32, 8])])
@pytest.mark.filterwarnings("ignore:AdaptiveLayerLoss is not compatible")
def test_layers_do_not_go_with_the_gradient_cache(tiny_encoder: SentenceTransformer, wrap):
    loss = FMICLLoss(tiny_encoder, mini_batch_size=2)
    with pytest.raises(ValueError, match="mini_batch_size must be None inside AdaptiveLayerLoss and Matryoshka2dLoss"):
        wrap(tiny_encoder, loss)(tokenised(tiny_encoder, COLUMNS), None)


@pytest.mark.parametrize("settings", [{"head": "mlp"}, {"queue": 4}])
def test_dimensions_do_not_go_with_head_or_queue(tiny_encoder: SentenceTransformer, settings: dict):
    loss = FMICLLoss(tiny_encoder, **settings)
    with pytest.raises(ValueError, match="does not go with MatryoshkaLoss or Matryoshka2dLoss"):
        Matryoshka2dLoss(tiny_encoder, loss, [16, 8], n_dims_per_step=-1)(tokenised(tiny_encoder, COLUMNS), None)


def routed(tiny_encoder: SentenceTransformer) -> SentenceTransformer:
    """A transformer for queries, a static embedding for documents."""
    static = StaticEmbedding(tiny_encoder.tokenizer, embedding_dim=32)
    router = Router.for_query_document(query_modules=[tiny_encoder[0], tiny_encoder[1]], document_modules=[static])
    return SentenceTransformer(modules=[router], device="cpu")


def routed_features(model: SentenceTransformer, columns: list[list[str]]) -> list[dict[str, Any]]:
    tasks = ["query", *["document"] * (len(columns) - 1)]
    return [model.preprocess(column, task=task) | {"task": task} for column, task in zip(columns, tasks, strict=True)]


def test_two_routes_of_one_encoder(tiny_encoder: SentenceTransformer):
    """Their tokens are hashed alike where the tokenizers are the same, apart from the start of a text."""
    model = routed(tiny_encoder)
    model.train()
    loss = InfoNCELoss(model)
    total(loss(routed_features(model, COLUMNS[:2]))).backward()
    cached = InfoNCELoss(model, mini_batch_size=2)
    with pytest.raises(
        ValueError, match="mini_batch_size must be None for a static embedding, also for one that a Router"
    ):
        cached(routed_features(model, COLUMNS[:2]))
