"""Which rows share a text, against a loop over sets of texts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fmicl_text.core.pairs import Rows, share_text, together

TEXT = st.integers(-2, 4)  # few, so that texts are often shared; negative ones are as good as any


def texts(most: int) -> st.SearchStrategy[list[tuple[int, ...]]]:
    return st.integers(1, 3).flatmap(lambda k: st.lists(st.tuples(*[TEXT] * k), min_size=1, max_size=most))


@given(a=texts(5), b=texts(4))
def test_rows_that_stand_for_a_common_text(a: list[tuple[int, ...]], b: list[tuple[int, ...]]):
    expected = [[bool(set(row) & set(column)) for column in b] for row in a]
    shared = share_text(torch.tensor(a), torch.tensor(b))
    if shared is None:
        assert not any(map(any, expected))
    else:
        assert shared.tolist() == expected


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_shared_text_of_several_among_many_pairs(place: int):
    """More pairs than are compared one by one: a row counts if any of its texts is shared, not all of them."""
    a = torch.arange(3 * 200).reshape(200, 3)
    b = torch.arange(1000, 1000 + 2 * 150).reshape(150, 2)
    b[7, 1] = a[11, place]
    b[100, 0] = a[190, place]
    shared = share_text(a, b)
    assert len(a) * len(b) > 2**14 and shared is not None
    assert shared.nonzero().tolist() == [[11, 7], [190, 100]]
    assert share_text(a, b + 10**6) is None


def test_sharing_is_not_transitive():
    """a-b, b-c, c-d: the first and the last share nothing."""
    texts = torch.tensor([[0, 1], [1, 2], [2, 3]])
    shared = share_text(texts, texts)
    assert shared is not None
    assert shared.tolist() == [[True, True, False], [True, True, True], [False, True, True]]


@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_is_shared_with_no_rows(rows: int):
    shared = share_text(torch.zeros(rows, 2, dtype=torch.long), torch.zeros(0, 1, dtype=torch.long))
    assert shared is None or shared.shape == (rows, 0)


def test_together():
    x, y = (Rows(torch.randn(3, 2), torch.tensor([[0], [1], [2]])) for _ in range(2))
    rows = together(x, y)
    assert torch.equal(rows.vectors, torch.cat([x.vectors, y.vectors])) and rows.texts.tolist() == [[0], [1], [2]] * 2
