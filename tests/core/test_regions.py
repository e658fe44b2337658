"""Balls and rings of similarity, against sorting; and their annealing."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from fmicl_text.core import SCHEDULES, Adaptation, Annealing, CosineKernel, Region, as_batch, infonce, tile_memory
from fmicl_text.core.pairs import Block
from fmicl_text.core.reduce import row_log_sum_exp


def unit(rows: int, dimension: int = 8, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(rows, dimension, generator=generator, dtype=dtype), dim=1)


def kept(block: Block) -> list[set[int]]:
    """Columns of each row that move its log-sum-exp; the rows must be linearly independent."""
    columns = block.columns._replace(vectors=block.columns.vectors.clone().requires_grad_())
    found = row_log_sum_exp([block._replace(columns=columns)], CosineKernel(1.0))
    logs = found.log[found.pairs > 0].sum()
    # A column's slope is the sum of the rows, each by its weight in its log-sum-exp: 0, or e^-2 / pairs and more.
    (slopes,) = torch.autograd.grad(logs, columns.vectors)  # (M, D)
    weights = slopes @ torch.linalg.pinv(block.rows.vectors)  # (M, B)
    sets = [set(weight.nonzero().flatten().tolist()) for weight in weights.T > 1e-4]
    assert [len(each) for each in sets] == found.pairs.tolist()
    return sets


def ranked(block: Block, outer: str, inner: str) -> list[set[int]]:
    """Candidates of each row of rank above ``inner ball`` and up to ``ball``, shares as decimals."""
    sets = []
    for row, texts in zip(block.rows.vectors, block.rows.texts.tolist(), strict=True):
        others = block.columns.texts.tolist()
        candidates = [j for j in range(len(others)) if not set(texts) & set(others[j])]
        candidates.sort(key=lambda j: -(row @ block.columns.vectors[j]).item())
        ball = max(1, math.floor(Fraction(outer) * len(candidates)))
        sets.append(set(candidates[math.floor(Fraction(inner) * ball) : ball]))
    return sets


@pytest.mark.parametrize("memory", [1, 1000, 2**20], ids=["one pair", "small tiles", "dense"])
@pytest.mark.parametrize("texts", [None, torch.tensor([[0], [1], [0], [2], [3], [3], [3], [4], [5]])])
@pytest.mark.parametrize("inner", ["0", "0.1", "0.5", "0.99"])
@pytest.mark.parametrize("outer", ["0.01", "0.3", "0.75", "1"])
@pytest.mark.parametrize("negatives", ["within", "cross"])
def test_exactly_the_ranks(negatives: str, outer: str, inner: str, texts: Tensor | None, memory: int):
    x, y, extra = unit(9, 16), unit(9, 16, seed=1), unit(5, 16, seed=2)
    ids = None if texts is None else torch.tensor([0, 7, 8, 9, 10])
    batch = as_batch(x, y, extra, texts, ids, Region(float(outer), float(inner)))
    with tile_memory(memory):
        for block in batch.negatives(negatives):
            sets = kept(block)
            assert sets == ranked(block, outer, inner)
            assert all(sets)


@given(percent=st.integers(1, 100), candidates=st.integers(1, 150))
@example(percent=53, candidates=100)
@example(percent=84, candidates=75)
@settings(max_examples=50)
def test_shares_are_decimals(percent: int, candidates: int):
    """0.53 of 100 candidates are 53, although 0.53 is a little less in binary."""
    x, columns = unit(1), unit(candidates, seed=1)
    (_, block) = as_batch(x, x, columns, region=Region(percent / 100)).negatives("within")
    expected = max(1, percent * candidates // 100)
    assert row_log_sum_exp([block], CosineKernel(1.0)).pairs.tolist() == [expected]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties_at_a_border_all_count(dtype: torch.dtype):
    """Ranks 3 to 6 tie, also where the sums of a tile are rounded otherwise than those the region was found by."""
    x = unit(1, 64, dtype=dtype)
    far = unit(12, 64, seed=1, dtype=dtype)
    order = (far @ x[0]).argsort(descending=True)
    columns = far[order]
    columns[2:6] = columns[2]
    for memory in (1, 500, 2**20):
        with tile_memory(memory):
            ((_, ball), (_, ring)) = (
                as_batch(x, x, columns, region=region).negatives("within")
                for region in (Region(4 / 12), Region(8 / 12, 0.5))
            )
            assert kept(ball) == [{0, 1, 2, 3, 4, 5}]
            assert kept(ring) == [{2, 3, 4, 5, 6, 7}]


@pytest.mark.parametrize("memory", [1, 4000, 2**20])
@pytest.mark.parametrize("dimension", [3, 64, 768])
def test_collapsed_rows_all_tie(dimension: int, memory: int):
    x = unit(1, dimension, dtype=torch.float32).repeat(20, 1)
    with tile_memory(memory):
        (block,) = as_batch(x, x, region=Region(0.3, 0.2)).negatives("within")
        assert row_log_sum_exp([block], CosineKernel(1.0)).pairs.tolist() == [19] * 20


def test_rows_without_candidates_have_none():
    x, y = unit(4), unit(4, seed=1)
    for texts in (torch.tensor([[0], [0], [0], [0]]), torch.tensor([[0, 1], [0, 2], [0, 3], [0, 0]])):
        (block,) = as_batch(x, y, texts=texts, region=Region(0.5, 0.5)).negatives("cross")
        assert kept(block) == [set()] * 4
    (block,) = as_batch(x, y, texts=torch.tensor([[0], [0], [0], [1]]), region=Region(0.5)).negatives("cross")
    assert [len(each) for each in kept(block)] == [1, 1, 1, 1]


def test_all_is_no_region():
    x, y = unit(9), unit(9, seed=1)
    torch.testing.assert_close(infonce(x, y, region=Region(1.0)), infonce(x, y))


def test_a_harder_region_raises_the_loss():
    """Each ball is inside the next, so its negatives weigh less in sum and more on average."""
    x, y = unit(30), unit(30, seed=1)
    counts, logs = [], []
    for outer in (0.1, 0.3, 1.0):
        found = row_log_sum_exp(as_batch(x, y, region=Region(outer)).negatives("cross"), CosineKernel(0.3))
        counts.append(found.pairs)
        logs.append(found.log - found.pairs.log())
    assert counts[0].tolist() == [2] * 30 and counts[1].tolist() == [8] * 30 and counts[2].tolist() == [29] * 30
    assert (logs[0] > logs[1]).all() and (logs[1] > logs[2]).all()


@pytest.mark.parametrize("region", [Region(0.1, 0.3), Region(0.37), Region(1.0, 0.2)])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_annealing_goes_from_all_candidates_to_the_region(schedule: str, region: Region):
    annealing = Annealing(region, steps=100, schedule=schedule)
    outers = [annealing.at(step).outer for step in range(101)]
    assert outers[0] == 1 and outers[-1] == region.outer == annealing.at(1000).outer
    assert outers == sorted(outers, reverse=True)
    assert {annealing.at(step).inner for step in range(101)} == {region.inner}


@given(
    losses=st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0]), max_size=60),
    delta=st.sampled_from([0.01, 0.1, 0.25]),
    window=st.integers(1, 5),
)
@example(losses=[3.0, *[2.0 - 0.01 * i for i in range(20)], *[3.0] * 20], delta=0.1, window=3)
def test_adaptation_follows_the_loss(losses: list[float], delta: float, window: int):
    """Against the rule with the threshold itself: down by delta below the mean of the window, up above, clamped."""
    adaptation = Adaptation(Region(0.5, 0.2), delta, window)
    level, threshold = 0, Fraction(1)
    for step, loss in enumerate(losses):
        before = losses[max(0, step - window) : step]
        if before:
            mean = Fraction(sum(before)) / len(before)
            threshold += Fraction(str(delta)) * ((loss > mean) - (loss < mean))
            threshold = min(max(threshold, Fraction(1, 2)), Fraction(1))
        level = adaptation.after(level, loss, before)
        assert adaptation.at(level).outer == pytest.approx(float(threshold))
        assert adaptation.at(level).inner == 0.2


def test_schedules():
    region = Region(0.1)
    linear, step, exponential = (Annealing(region, steps=100, schedule=name) for name in SCHEDULES)
    assert linear.at(50).outer == pytest.approx(0.55)
    assert [step.at(n).outer for n in (9, 10, 19, 89, 90)] == pytest.approx([1, 0.9, 0.9, 0.2, 0.1])
    assert len({step.at(n).outer for n in range(101)}) == 10
    assert exponential.at(50).outer < linear.at(50).outer
    remaining = [exponential.at(n).outer for n in (0, 25, 50, 75)]
    falls = [(a - b) for a, b in itertools.pairwise(remaining)]
    assert [a / b for a, b in itertools.pairwise(falls)] == pytest.approx([math.exp(2.5)] * 2)


def test_a_region_is_the_same_at_every_step():
    assert Region(0.3, 0.1).at(0) == Region(0.3, 0.1).at(1000) == Region(0.3, 0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Region(0.0), "outer must be above 0 and at most 1, or the region keeps nothing, got 0.0"),
        (lambda: Region(1.5), "outer must be above 0 and at most 1"),
        (lambda: Region(math.nan), "outer must be above 0"),
        (lambda: Region(0.5, 1.0), r"inner must be in \[0, 1\), or the ring keeps nothing, got 1.0"),
        (lambda: Region(0.5, -0.1), r"inner must be in \[0, 1\)"),
        (lambda: Annealing(Region(), 0), "steps must be at least 1, got 0"),
        (lambda: Annealing(Region(), 10, "cosine"), "schedule must be one of linear, step, exponential, got 'cosine'"),
    ],
)
def test_errors(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()
