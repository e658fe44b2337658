"""Which pairs are negatives, against a loop over sets of texts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fmicl_text.core import NEGATIVES
from fmicl_text.core.pairs import Block, Rows, as_rows, negative_blocks


def kept(blocks: list[Block]) -> list[list[list[bool]]]:
    return [block.keep().tolist() for block in blocks]


def batch(size: int, extra: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    x, y, n = torch.randn(2 * size + extra, 3).split([size, size, extra])
    return x, y, n if extra else None


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_by_default_all_texts_differ(negatives: str):
    x, y, extra = batch(3, extra=2)
    main, explicit = negative_blocks(*as_rows(x, y, extra, None, None), negatives)
    others = ~torch.eye(3, dtype=torch.bool)
    assert torch.equal(main.keep(), others.repeat(2, 2) if negatives == "both" else others)
    assert explicit.keep().all() and explicit.keep().shape == (3, 2)
    assert torch.equal(explicit.rows.vectors, x) and torch.equal(explicit.columns.vectors, extra)


@pytest.mark.parametrize(
    ("negatives", "rows", "columns"), [("within", "x", "x"), ("cross", "x", "y"), ("both", "xy", "xy")]
)
def test_which_vectors_are_paired(negatives: str, rows: str, columns: str):
    x, y, _ = batch(3)
    (block,) = negative_blocks(*as_rows(x, y, None, None, None), negatives)
    sides = {"x": x, "y": y, "xy": torch.cat([x, y])}
    assert torch.equal(block.rows.vectors, sides[rows]) and torch.equal(block.columns.vectors, sides[columns])


TEXT = st.integers(-2, 4)  # few, so that texts are often shared; negative ones are as good as any


@given(
    pairs=st.integers(1, 3).flatmap(lambda k: st.lists(st.tuples(*[TEXT] * k), min_size=1, max_size=5)),
    extras=st.lists(TEXT, min_size=1, max_size=4),
)
@settings(deadline=None)
def test_rows_that_share_a_text_are_no_negatives(pairs: list[tuple[int, ...]], extras: list[int]):
    x, y, extra = batch(len(pairs), extra=len(extras))
    rows = as_rows(x, y, extra, torch.tensor(pairs), torch.tensor(extras))
    apart = [[not set(a) & set(b) for b in pairs] for a in pairs]
    explicit = [[text not in a for text in extras] for a in pairs]
    assert kept(negative_blocks(*rows, "within")) == [apart, explicit]
    assert kept(negative_blocks(*rows, "cross")) == [apart, explicit]
    assert kept(negative_blocks(*rows, "both")) == [[row * 2 for row in apart] * 2, explicit]


def test_sharing_is_not_transitive():
    """a-b, b-c, c-d: the first and the last share nothing."""
    texts = torch.tensor([[0, 1], [1, 2], [2, 3]])
    block = Block(Rows(torch.randn(3, 2), texts), Rows(torch.randn(3, 2), texts))
    assert block.keep().tolist() == [[False, False, True], [False, False, False], [True, False, False]]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"y": (2, 4)}, r"x and y must both be \(B, D\), got \(3, 4\) and \(2, 4\)"),
        ({"x": (4,), "y": (4,)}, r"x and y must both be \(B, D\)"),
        ({"extra": (2, 5)}, r"extra must be \(M, 4\) like x, got \(2, 5\)"),
        ({"texts": (2, 1)}, r"texts must be \(B, K\) with B = 3, got \(2, 1\)"),
        ({"texts": (3,)}, r"texts must be \(B, K\)"),
        ({"extra": (2, 4), "extra_texts": (3,)}, r"extra_texts must be \(M,\) with M = 2, got \(3,\)"),
    ],
)
def test_shapes_that_do_not_fit(shapes: dict[str, tuple[int, ...]], message: str):
    shapes = {"x": (3, 4), "y": (3, 4)} | shapes
    given = {name: torch.zeros(shape) for name, shape in shapes.items()}
    with pytest.raises(ValueError, match=message):
        as_rows(*(given.get(name) for name in ("x", "y", "extra", "texts", "extra_texts")))


def test_unknown_negatives():
    x, y, _ = batch(2)
    with pytest.raises(ValueError, match="negatives must be one of within, cross, both, got 'all'"):
        negative_blocks(*as_rows(x, y, None, None, None), "all")
