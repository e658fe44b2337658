"""Which pairs of a batch are negatives, against a loop over sets of texts; and batches that cannot be."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from fmicl_text.core import NEGATIVES, CosineKernel, GaussianKernel, Region, as_batch
from fmicl_text.core.pairs import Block, share_text
from fmicl_text.core.reduce import pair_mean, row_log_sum_exp


def kept(blocks: Sequence[Block]) -> list[list[list[bool]]]:
    apart = []
    for block in blocks:
        shared = share_text(block.rows.texts, block.columns.texts)
        shape = len(block.rows.vectors), len(block.columns.vectors)
        apart.append((torch.ones(shape, dtype=torch.bool) if shared is None else ~shared).tolist())
    return apart


def vectors(size: int, extra: int = 0) -> tuple[Tensor, Tensor, Tensor | None]:
    x, y, n = normalize(torch.randn(2 * size + extra, 3), dim=1).split([size, size, extra])
    return x, y, n if extra else None


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_by_default_all_texts_differ(negatives: str):
    x, y, extra = vectors(3, extra=2)
    blocks = as_batch(x, y, extra).negatives(negatives)
    others = ~torch.eye(3, dtype=torch.bool)
    expected = {"both": [others.repeat(2, 2)], "anchor": [others, others]}.get(negatives, [others])
    assert kept(blocks) == [*(block.tolist() for block in expected), [[True] * 2] * 3]
    assert torch.equal(blocks[-1].rows.vectors, x) and torch.equal(blocks[-1].columns.vectors, extra)


@pytest.mark.parametrize(
    ("negatives", "pairs"),
    [
        ("within", [("x", "x")]),
        ("cross", [("x", "y")]),
        ("both", [("xy", "xy")]),
        ("anchor", [("x", "x"), ("x", "y")]),
    ],
)
def test_which_vectors_are_paired(negatives: str, pairs: list[tuple[str, str]]):
    x, y, _ = vectors(3)
    blocks = as_batch(x, y).negatives(negatives)
    sides = {"x": x, "y": y, "xy": torch.cat([x, y])}
    for block, (rows, columns) in zip(blocks, pairs, strict=True):
        assert torch.equal(block.rows.vectors, sides[rows]) and torch.equal(block.columns.vectors, sides[columns])


@pytest.mark.parametrize("region", [None, Region(0.6, 0.3)])
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_candidates_are_the_negative_pairs_by_row(negatives: str, region: Region | None):
    """The mean over all pairs weighs rows by their number of pairs."""
    x, y, extra = vectors(5, extra=4)
    batch = as_batch(x, y, extra, torch.tensor([[0], [1], [2], [3], [0]]), torch.tensor([1, 7, 8, 9]), region)
    sums = [row_log_sum_exp(blocks, CosineKernel(0.3)) for blocks in batch.candidates(negatives)]
    assert all(len(found.log) == 5 for found in sums)
    pairs = sum(found.pairs.sum() for found in sums)
    mean = sum(found.log.exp().sum() for found in sums) / pairs
    torch.testing.assert_close(pair_mean(batch.negatives(negatives), CosineKernel(0.3)), mean)


TEXT = st.integers(-2, 4)  # few, so that texts are often shared; negative ones are as good as any


@given(
    pairs=st.integers(1, 3).flatmap(lambda k: st.lists(st.tuples(*[TEXT] * k), min_size=1, max_size=5)),
    extras=st.integers(1, 2).flatmap(lambda k: st.lists(st.tuples(*[TEXT] * k), min_size=1, max_size=4)),
)
def test_rows_that_share_a_text_are_no_negatives(pairs: list[tuple[int, ...]], extras: list[tuple[int, ...]]):
    x, y, extra = vectors(len(pairs), extra=len(extras))
    batch = as_batch(x, y, extra, torch.tensor(pairs), torch.tensor(extras))
    apart = [[not set(a) & set(b) for b in pairs] for a in pairs]
    explicit = [[not set(a) & set(b) for b in extras] for a in pairs]
    assert kept(batch.negatives("within")) == [apart, explicit]
    assert kept(batch.negatives("cross")) == [apart, explicit]
    assert kept(batch.negatives("anchor")) == [apart, apart, explicit]
    assert kept(batch.negatives("both")) == [[row * 2 for row in apart] * 2, explicit]


def test_one_text_an_explicit_negative_may_be_given_without_the_second_axis():
    x, y, extra = vectors(2, extra=3)
    batch = as_batch(x, y, extra, torch.tensor([[0], [1]]), torch.tensor([1, 2, 0]))
    assert kept(batch.negatives("cross"))[1] == [[True, True, False], [False, True, True]]


@pytest.mark.parametrize("kernel", [CosineKernel(0.3), GaussianKernel(0.5)])
def test_positive_pairs(kernel):
    x, y, _ = vectors(3)
    torch.testing.assert_close(as_batch(x, y).own(kernel), torch.stack([kernel(x[i] @ y[i]) for i in range(3)]))


def test_swapped():
    x, y, extra = vectors(3, extra=2)
    texts = torch.tensor([[0, 1], [2, 3], [4, 0]])
    swapped = as_batch(x, y, extra, texts, torch.tensor([7, 8])).swapped()
    assert torch.equal(swapped.x.vectors, y) and torch.equal(swapped.y.vectors, x) and swapped.extra is None
    assert torch.equal(swapped.x.texts, texts)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"y": (2, 4)}, r"x and y must both be \(B, D\) with B > 0, got \(3, 4\) and \(2, 4\)"),
        ({"x": (4,), "y": (4,)}, r"x and y must both be \(B, D\)"),
        ({"x": (0, 4), "y": (0, 4)}, r"with B > 0, got \(0, 4\) and \(0, 4\)"),
        ({"extra": (2, 5)}, r"extra must be \(M, 4\) like x, got \(2, 5\)"),
        ({"extra": (4,)}, r"extra must be \(M, 4\) like x, got \(4,\)"),
        ({"texts": (2, 1)}, r"texts must be \(B, K\) with B = 3, got \(2, 1\)"),
        ({"texts": (3,)}, r"texts must be \(B, K\)"),
        ({"extra": (2, 4), "extra_texts": (3,)}, r"extra_texts must be \(M, K\) with M = 2, got \(3, 1\)"),
        ({"extra": (2, 4), "extra_texts": (2, 1, 1)}, r"extra_texts must be \(M, K\) with M = 2, got \(2, 1, 1\)"),
    ],
)
def test_shapes_that_do_not_fit(shapes: dict[str, tuple[int, ...]], message: str):
    shapes = {"x": (3, 4), "y": (3, 4)} | shapes
    given = {name: torch.full(shape, 0.5) for name, shape in shapes.items()}
    with pytest.raises(ValueError, match=message):
        as_batch(*(given.get(name) for name in ("x", "y", "extra", "texts", "extra_texts")))


@pytest.mark.parametrize("which", ["x", "y", "extra"])
@pytest.mark.parametrize(("length", "said"), [(1.1, "1.1"), (0.9, "0.9"), (0.01, "0.01"), (float("inf"), "inf")])
def test_rows_of_another_length(which: str, length: float, said: str):
    named = dict(zip(("x", "y", "extra"), vectors(3, extra=3), strict=True))
    named[which] = named[which].clone()
    named[which][1] = torch.tensor([length, 0.0, 0.0])
    with pytest.raises(ValueError, match=f"{which} must have rows of length 1, got {said} in row 1"):
        as_batch(**named)


@pytest.mark.parametrize("which", ["x", "y", "extra"])
def test_rows_of_zeros_pass_as_torch_normalises_them(which: str):
    named = dict(zip(("x", "y", "extra"), vectors(3, extra=3), strict=True))
    named[which] = named[which].clone()
    named[which][1] = 0.0
    rows = getattr(as_batch(**named), which)
    assert torch.equal(rows.vectors, named[which])


@pytest.mark.parametrize("dimension", [4, 768])
def test_rows_normalised_in_bfloat16_are_unit_vectors(dimension: int):
    """Even where rounding goes the same way in every coordinate."""
    random = torch.randn(200, dimension, generator=torch.Generator().manual_seed(0))
    for vectors in (torch.ones(2, dimension), random):
        x = normalize(vectors.bfloat16(), dim=1)
        assert as_batch(x, x).x.vectors.dtype == torch.float32


def test_unknown_negatives():
    x, y, _ = vectors(2)
    with pytest.raises(ValueError, match="negatives must be one of within, cross, both, anchor, got 'all'"):
        as_batch(x, y).negatives("all")
