"""Width and balance from cosines: the rule, against the objective that it is for."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from fmicl_text.core import (
    KL,
    NEGATIVES,
    Alpha,
    CosineKernel,
    GaussianKernel,
    Region,
    as_batch,
    fmicl,
    measure_balance,
    pair_cosines,
)
from fmicl_text.core.objectives.fmicl import check_float32_range


def encoder(seed: int, gathered: float, rows: int = 32, dimension: int = 24) -> tuple[Tensor, Tensor]:
    """Pairs whose cosines are near 0 (``gathered`` 0), or near 1 as an untrained BERT's."""
    generator = torch.Generator().manual_seed(seed)
    centre = gathered * torch.randn(dimension, generator=generator, dtype=torch.float64)
    x = torch.randn(rows, dimension, generator=generator, dtype=torch.float64)
    y = x + 0.7 * torch.randn(rows, dimension, generator=generator, dtype=torch.float64)
    return normalize(x + centre, dim=1), normalize(y + centre, dim=1)


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("gathered", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("temperature", [None, 0.05, 0.3])
def test_the_start_is_balanced(gathered: float, negatives: str, temperature: float | None):
    """``alpha mean u = 1``, which is KL's negative term; and both ways to give it to the objective are the same."""
    x, y = encoder(0, gathered)
    found = measure_balance(*pair_cosines(as_batch(x, y), negatives), temperature)
    for kernel in (GaussianKernel(found.sigma), GaussianKernel(found.sigma, mu=1.7), CosineKernel(found.temperature)):
        alpha = Alpha(balance_cosine=found.balance_cosine)
        terms = fmicl(x, y, divergence=KL, kernel=kernel, alpha=alpha, negatives=negatives)
        assert terms["negative"].item() == pytest.approx(1, rel=1e-4)
    number = fmicl(x, y, divergence=KL, kernel=GaussianKernel(found.sigma), alpha=found.alpha, negatives=negatives)
    assert number["negative"].item() == pytest.approx(1, rel=1e-9)
    check_float32_range(KL, GaussianKernel(found.sigma), Alpha(balance_cosine=found.balance_cosine))


@pytest.mark.parametrize("gathered", [0.0, 4.0])
def test_push_is_pull_in_kl(gathered: float):
    """The slope of each term by a common shift of its log ratios, which is what pushes and pulls."""
    x, y = encoder(1, gathered)
    positive, negative = pair_cosines(as_batch(x, y), "cross")
    found = measure_balance(positive, negative)
    kernel = GaussianKernel(found.sigma)
    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    pull = KL.critic(kernel(positive) + shift).mean()
    push = found.alpha * KL.penalty(kernel(negative) + shift).mean()
    slopes = [torch.autograd.grad(value, shift)[0].item() for value in (pull, push)]
    assert slopes[0] == pytest.approx(slopes[1])


def test_width_is_half_the_spread_of_the_negatives():
    generator = torch.Generator().manual_seed(0)
    negative = 0.2 + 0.1 * torch.randn(100_000, generator=generator)
    found = measure_balance(torch.tensor([0.8]), negative.clamp(-1, 1))
    assert found.temperature == pytest.approx(0.05, rel=0.01) and found.sigma == pytest.approx(
        math.sqrt(0.05), rel=0.01
    )
    assert found.balance_cosine == pytest.approx(0.2 + 0.1**2 / (2 * 0.05), abs=0.02)  # of a normal distribution
    assert (found.positive, found.positives, found.negatives) == (pytest.approx(0.8), 1, 100_000)
    assert found.negative == pytest.approx(0.2, abs=0.01) and found.spread == pytest.approx(0.1, rel=0.01)


def test_the_share_of_pairs_that_counts():
    """``exp(-(d/tau)^2)`` of the pairs, as the derivation has it: at half the spread 1.8 percent."""
    generator = torch.Generator().manual_seed(0)
    cosines = 0.05 * torch.randn(10_000_000, generator=generator, dtype=torch.float64)
    weights = (cosines / 0.025).exp()
    share = weights.sum().square() / weights.square().sum() / len(cosines)
    assert share.item() == pytest.approx(math.exp(-4), rel=0.05)


@given(
    cosines=st.lists(st.floats(-1, 1), min_size=3, max_size=20),
    temperature=st.one_of(st.none(), st.floats(0.005, 2)),
)
@settings(max_examples=100)
def test_any_cosines_give_a_width_and_a_balance_among_them(cosines: list[float], temperature: float | None):
    values = torch.tensor(cosines, dtype=torch.float64)
    found = measure_balance(values[:1], values[1:], temperature)
    assert min(cosines[1:]) - 1e-9 <= found.balance_cosine <= max(cosines[1:]) + 1e-9
    assert found.balance_cosine >= found.negative - 1e-9  # hard pairs push more
    assert 0.01 <= found.temperature <= 1 if temperature is None else found.temperature == temperature
    assert all(math.isfinite(value) for value in found)


def test_collapsed_embeddings_have_the_narrowest_width():
    found = measure_balance(torch.ones(3), torch.ones(6))
    assert found.temperature == 0.01 and found.balance_cosine == 1 and found.alpha == pytest.approx(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cosines_in_low_precision(dtype: torch.dtype):
    negative = torch.linspace(-0.2, 0.6, 101)
    exact = measure_balance(torch.tensor([0.8]), negative)
    found = measure_balance(torch.tensor([0.8]).to(dtype), negative.to(dtype))
    assert found.balance_cosine == pytest.approx(exact.balance_cosine, abs=0.01)
    measure_balance(torch.tensor([1.0 + 1e-6]), negative)  # a coincident pair, rounded


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("region", [None, Region(0.5)])
def test_pair_cosines_are_of_the_pairs_that_count(negatives: str, region: Region | None):
    x, y = encoder(2, 0.0, rows=6)
    extra = encoder(3, 0.0, rows=3)[0]
    texts = torch.tensor([[0], [1], [0], [2], [3], [4]])
    batch = as_batch(x, y, extra, texts, torch.tensor([1, 9, 10]), region)
    positive, negative = pair_cosines(batch, negatives)
    torch.testing.assert_close(positive, (x * y).sum(dim=1))
    kernel = CosineKernel(0.5)
    mean = fmicl(
        x,
        y,
        extra,
        texts=texts,
        extra_texts=torch.tensor([1, 9, 10]),
        region=region,
        kernel=kernel,
        negatives=negatives,
    )["negative"]
    torch.testing.assert_close((negative / 0.5).exp().mean(), mean)


@pytest.mark.parametrize(
    ("positive", "negative", "temperature", "message"),
    [
        ([], [0.1, 0.2], None, "at least 1 positive and 2 negative pairs, got 0 and 2"),
        ([0.5], [0.1], None, "at least 1 positive and 2 negative pairs, got 1 and 1"),
        ([0.5], [0.1, 5.0], None, "cosines must be between -1 and 1, got 5.0"),
        ([math.nan], [0.1, 0.2], None, "cosines must be between -1 and 1, got nan"),
        ([0.5], [0.1, 0.2], 0.0, "temperature must be a positive finite number, got 0.0"),
    ],
)
def test_errors(positive: list[float], negative: list[float], temperature: float | None, message: str):
    with pytest.raises(ValueError, match=message):
        measure_balance(torch.tensor(positive), torch.tensor(negative), temperature)
