"""Named terms, which scale and add like the loss they sum to."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fmicl_text.losses.terms import ADDED, Terms

numbers = st.floats(-9, 9).map(lambda number: torch.tensor(number, dtype=torch.float64))
terms = st.dictionaries(st.sampled_from(["positive", "negative", ADDED]), numbers, min_size=1).map(Terms)


def total(value: Terms | Tensor | float) -> Tensor:
    return sum(value.values()) if isinstance(value, Terms) else value


@given(terms, terms, numbers, st.floats(0.5, 4))
def test_arithmetic_is_that_of_the_sum(a: Terms, b: Terms, number: Tensor, weight: float):
    for found, wanted in [
        (a + b, total(a) + total(b)),
        (a + number, total(a) + number),
        (number.item() * 0 + a, total(a)),
        (sum([a, b]), total(a) + total(b)),
        (a * weight, total(a) * weight),
        (weight * a / 2 + b / weight, total(a) * weight / 2 + total(b) / weight),
    ]:
        assert isinstance(found, Terms)
        torch.testing.assert_close(total(found), wanted)


@given(terms, numbers)
def test_what_a_wrapper_adds_has_a_name(a: Terms, number: Tensor):
    torch.testing.assert_close((a + number)[ADDED], a.get(ADDED, 0) + number)
    assert {name: value for name, value in (a + number).items() if name != ADDED} == {
        name: value for name, value in a.items() if name != ADDED
    }
