"""Rows encoded in groups of like length have the embeddings and gradients of one pass, and cost less of padding."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import AdaptiveLayerLoss, MatryoshkaLoss
from torch import nn
from words import WORDS

from fmicl_text import FMICLLoss
from fmicl_text.losses import length_groups
from fmicl_text.losses.length_groups import cuts, encode


def texts(rows: int, seed: int = 0) -> list[str]:
    drawn = random.Random(seed)
    return [" ".join(drawn.choices(WORDS, k=drawn.choice([1, 2, 9, 10, 25]))) for _ in range(rows)]


@pytest.fixture
def passes(tiny_encoder, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shape of every pass through the encoder; a further pass is free."""
    monkeypatch.setattr(length_groups, "_PASS", 0)
    shapes: list[tuple[int, ...]] = []
    tiny_encoder[0].register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0]["input_ids"].shape)))
    return shapes


def test_cuts_cost_least_of_all_ways_to_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(length_groups, "_PASS", 9)
    drawn = random.Random(0)

    def cost(lengths: list[int], ends: list[int]) -> int:
        return sum((end - first) * lengths[end - 1] + 9 for first, end in itertools.pairwise([0, *ends]))

    for _ in range(50):
        lengths = sorted(drawn.choices(range(1, 20), k=drawn.randint(1, 9)))
        inner = range(1, len(lengths))
        ways = [[*ends, len(lengths)] for k in range(len(lengths)) for ends in itertools.combinations(inner, k)]
        assert cost(lengths, cuts(lengths)) == min(cost(lengths, ends) for ends in ways)


@pytest.mark.parametrize("prompt", [None, 2])
def test_embeddings_and_gradients_are_those_of_one_pass(tiny_encoder, passes, prompt: int | None):
    tiny_encoder.eval()
    column = tiny_encoder.tokenize(texts(24))
    if prompt:
        column["prompt_length"] = torch.full((24,), prompt)
        tiny_encoder[1].include_prompt = False
    weights = torch.randn(24, 32)
    found = []
    for embeddings in (lambda: tiny_encoder(dict(column))["sentence_embedding"], lambda: encode(tiny_encoder, column)):
        tiny_encoder.zero_grad()
        vectors = embeddings()
        (vectors * weights).sum().backward()
        gradients = [p.grad.clone() for p in tiny_encoder.parameters() if p.grad is not None]
        found.append((vectors, gradients))
    (whole, slopes), (grouped, others) = found
    torch.testing.assert_close(grouped, whole)
    for slope, other in zip(slopes, others, strict=True):
        torch.testing.assert_close(other, slope, atol=1e-5, rtol=1e-4)
    (_, longest), *groups = passes
    assert len(groups) > 1 and sum(rows for rows, _ in groups) == 24
    assert sum(rows * length for rows, length in groups) == int(column["attention_mask"].sum()) < 24 * longest


def test_what_does_not_encode_rows_independently_from_the_left_is_one_pass(tiny_encoder, passes):
    column = tiny_encoder.tokenize(texts(8))
    padded_left = column | {"attention_mask": column["attention_mask"].flip(1)}
    with_more = column | {"further": torch.zeros(8, 3)}
    with_norm = nn.Sequential(*tiny_encoder, nn.Identity())
    with_norm.normed = nn.BatchNorm1d(3)
    for model, given in ((tiny_encoder, padded_left), (tiny_encoder, with_more)):
        assert length_groups._lengths(model, given) is None
    assert length_groups._lengths(with_norm, column) is None
    assert length_groups._lengths(tiny_encoder, column) is not None


def test_a_device_is_not_waited_for():
    """Of tensors without numbers nothing can be read."""
    column = {"input_ids": torch.zeros(4, 9), "attention_mask": torch.ones(4, 9)}
    on_device = {name: values.to("meta") for name, values in column.items()}
    embeddings = encode(_Mean(), on_device)
    assert embeddings.shape == (4, 9) and embeddings.device.type == "meta"


class _Mean(nn.Module):
    def forward(self, column):
        return column["input_ids"] * column["attention_mask"]


def test_lengths_are_used_again_after_layers_were_read(tiny_encoder):
    """The library puts a bound method back where there was none."""
    column = tiny_encoder.tokenize(texts(12))
    AdaptiveLayerLoss(tiny_encoder, FMICLLoss(tiny_encoder))([dict(column)], None)
    assert "forward" in vars(tiny_encoder[0])
    assert length_groups._lengths(tiny_encoder, column) is not None
    FMICLLoss(tiny_encoder, mini_batch_size=4)([dict(column)], None)


@pytest.mark.parametrize("wrapper", [None, MatryoshkaLoss, AdaptiveLayerLoss])
@pytest.mark.parametrize("columns", [1, 2])
def test_losses_and_their_wrappers_have_the_same_value(tiny_encoder, passes, monkeypatch, wrapper, columns: int):
    tiny_encoder.eval()
    loss = FMICLLoss(tiny_encoder)
    if wrapper is MatryoshkaLoss:
        loss = MatryoshkaLoss(tiny_encoder, loss, matryoshka_dims=[32, 8])
    elif wrapper is AdaptiveLayerLoss:
        loss = AdaptiveLayerLoss(tiny_encoder, loss, n_layers_per_step=-1)
    features = [tiny_encoder.tokenize(texts(12, seed)) for seed in range(columns)]

    def value() -> torch.Tensor:
        terms = loss([dict(column) for column in features], None)
        return sum(terms.values()) if isinstance(terms, dict) else terms

    grouped, made = value(), len(passes)
    monkeypatch.setattr(length_groups, "_PASS", 10**6)
    passes.clear()
    torch.testing.assert_close(grouped, value())
    assert (made == len(passes)) if wrapper is AdaptiveLayerLoss else (made > len(passes) == columns)


@pytest.mark.parametrize("columns", [1, 2])
def test_the_gradient_cache_cuts_mini_batches_of_like_length(tiny_encoder, passes, columns: int):
    """Value and gradients are those of the loss without it, and little padding is encoded."""
    tiny_encoder.eval()
    features = [tiny_encoder.tokenize(texts(16, seed)) for seed in range(columns)]
    found = []
    for loss in (FMICLLoss(tiny_encoder), FMICLLoss(tiny_encoder, mini_batch_size=4)):
        tiny_encoder.zero_grad()
        passes.clear()
        value = sum(loss([dict(column) for column in features], None).values())
        value.backward()
        found.append((value, [p.grad.clone() for p in tiny_encoder.parameters() if p.grad is not None]))
    (value, slopes), (cached, others) = found
    torch.testing.assert_close(cached, value)
    for slope, other in zip(slopes, others, strict=True):
        torch.testing.assert_close(other, slope, atol=1e-5, rtol=1e-4)
    whole = sum(
        4 * max(column["attention_mask"][at : at + 4].sum(dim=1)) for column in features for at in range(0, 16, 4)
    )
    assert sum(rows * length for rows, length in passes) < 2 * (3 - columns) * whole
