"""Dropout from fewer random bits: its probabilities and expectation, and that nothing but dropout changes."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from fmicl_text.training import cheap_dropout as module
from fmicl_text.training.cheap_dropout import CheapDropout, cheap_dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.999])
def test_numbers_are_dropped_with_the_probability_and_independently(probability: float, dtype: torch.dtype):
    torch.manual_seed(0)
    values = torch.ones(1001, 999, dtype=dtype)
    kept = (cheap_dropout(values, probability) != 0).double()
    deviation = (probability * (1 - probability) / kept.numel()) ** 0.5
    assert abs(kept.mean().item() - (1 - probability)) < 4 * deviation
    for shift in (1, 2, 3, 4, 999):  # numbers of one draw, and of others
        joint = kept.flatten()[shift:] * kept.flatten()[:-shift]
        spread = (1 - probability) * (1 - (1 - probability) ** 2) ** 0.5 / kept.numel() ** 0.5
        assert abs(joint.mean().item() - (1 - probability) ** 2) < 5 * spread


@pytest.mark.parametrize("probability", [0.1, 1 / 3, 0.75])
def test_the_scale_keeps_the_expectation_of_the_rounded_probability(probability: float):
    values = torch.rand(4096, dtype=torch.float64)
    dropped = cheap_dropout(values, probability)
    share = round(probability * 2**16) / 2**16
    assert abs(share - probability) < 1e-5
    torch.testing.assert_close(dropped[dropped != 0], values[dropped != 0] / (1 - share))


def test_the_gradient_is_that_of_what_is_kept_and_a_seed_repeats_it():
    values = torch.randn(33, 7, requires_grad=True)
    torch.manual_seed(1)
    first = cheap_dropout(values, 0.25)
    second = cheap_dropout(values, 0.25)
    torch.manual_seed(1)
    assert torch.equal(first, cheap_dropout(values, 0.25)) and not torch.equal(first, second)
    (gradient,) = torch.autograd.grad(first.sum(), values)
    torch.testing.assert_close(gradient * values, first)


def test_only_dropout_in_training_is_replaced():
    values = torch.randn(50, 50)
    torch.manual_seed(2)
    ours = cheap_dropout(values, 0.3)
    layer = torch.nn.Dropout(0.3)
    with CheapDropout():
        torch.manual_seed(2)
        assert torch.equal(layer(values), ours)
        assert torch.equal(layer.eval()(values), values)
        assert torch.equal(functional.dropout(values, 1.0), torch.zeros_like(values))
        assert torch.equal(functional.dropout(values, 0.0), values)
    torch.manual_seed(2)
    assert not torch.equal(functional.dropout(values, 0.3), ours)


@pytest.mark.parametrize("mask", [None, "padding", "nothing allowed"])
def test_attention_is_that_of_torch_but_for_what_is_dropped(monkeypatch: pytest.MonkeyPatch, mask: str | None):
    query, key, value = torch.randn(3, 2, 4, 9, 8, requires_grad=True).unbind()
    allowed = None if mask is None else (torch.arange(9) < 5).expand(2, 1, 9, 9).clone()
    if mask == "nothing allowed":
        allowed[:, :, 7] = False
    with CheapDropout():
        torch.manual_seed(0)
        drawn = functional.scaled_dot_product_attention(query, key, value, allowed, 0.5)
        monkeypatch.setattr(module, "cheap_dropout", lambda values, probability: values)
        kept = functional.scaled_dot_product_attention(query, key, value, allowed, 0.5)
    expected = functional.scaled_dot_product_attention(query, key, value, allowed)
    read = [row for row in range(9) if row != 7 or mask != "nothing allowed"]
    torch.testing.assert_close(kept[:, :, read], expected[:, :, read])
    assert drawn.isfinite().all() and not torch.allclose(drawn, kept)
    assert all(slope.isfinite().all() for slope in torch.autograd.grad(drawn.sum(), [query, key, value]))


def test_causal_attention_is_left_to_torch():
    query = torch.randn(1, 2, 6, 8)
    torch.manual_seed(0)
    expected = functional.scaled_dot_product_attention(query, query, query, None, 0.2, True)
    torch.manual_seed(0)
    with CheapDropout():
        assert torch.equal(functional.scaled_dot_product_attention(query, query, query, None, 0.2, True), expected)
