"""The shift of each row: InfoNCE, entmax, distributions, and what minus the loss bounds."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import formulas
from reference.formulas import RECOMMENDED, RULED_OUT, TABLE
from scipy.optimize import brentq
from torch import Tensor
from torch.nn.functional import normalize

from fmicl_text.core import (
    DIVERGENCES,
    JS,
    KL,
    NEGATIVES,
    CosineKernel,
    Divergence,
    ExponentialKernel,
    GaussianKernel,
    Kernel,
    Region,
    as_batch,
    fmicl,
    infonce,
    ntxent,
    row_shift,
    shift_search,
    tile_memory,
    tsallis,
)
from fmicl_text.core.batch_shift import batch_bound, best_shift
from fmicl_text.core.kernels import Kernel as KernelBase
from fmicl_text.core.pairs import Block, Rows
from fmicl_text.core.reduce import identity
from fmicl_text.core.row_shift import row_bound

ALL = [*RECOMMENDED, *RULED_OUT]
TEXTS = {"texts": torch.tensor([[0, 1], [2, 3], [1, 4], [5, 6], [7, 8], [9, 9]]), "extra_texts": torch.tensor([3, 20])}


def unit(*sizes: int, dimension: int = 4, seed: int = 0, spread: float = 1.0) -> list[Tensor]:
    """Random unit rows; a small ``spread`` gathers them around one point."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(dimension, generator=generator, dtype=torch.float64)
    rows = torch.randn(sum(sizes), dimension, generator=generator, dtype=torch.float64)
    rows = normalize(centre + spread * rows if spread < 1 else rows, dim=1)
    return [part.clone().requires_grad_() for part in rows.split(sizes)]


def loss(terms: dict[str, Tensor]) -> Tensor:
    return sum(terms.values())  # type: ignore[return-value]


class Cosine(KernelBase):
    """``r`` is the cosine itself."""

    def __init__(self) -> None:
        super().__init__(1.0, learn=False)

    def forward(self, cosine: Tensor) -> Tensor:
        return cosine


def bound_and_weights(
    critics: list[float], divergence: Divergence, alpha: float | None = None, dtype: torch.dtype = torch.float64
) -> tuple[float, list[float]]:
    """``F`` of one row with these critics, the first its positive's, and its gradient by them.

    A row of D = 1 "unit vector" 1 against columns of D = 1 has the columns as its cosines.
    """
    own, others = torch.tensor(critics, dtype=dtype).requires_grad_().split([1, len(critics) - 1])
    columns = others.unsqueeze(1)
    row = Rows(torch.ones(1, 1, dtype=dtype), torch.zeros(1, 1).long())
    blocks = [Block(row, Rows(columns, torch.ones(len(columns), 1).long()))]
    bound = row_bound(blocks, own, Cosine(), identity, divergence, alpha)
    gradients = torch.autograd.grad(bound.sum(), [own, others])
    return bound.item(), torch.cat(gradients).tolist()


def kl_by_search(blocks: list[Block], own: Tensor, kernel: Kernel) -> Tensor:
    """KL by the search that the other divergences take, not in closed form."""
    return row_bound(blocks, own, kernel, identity, KL)


# KL is InfoNCE.


@pytest.mark.parametrize("region", [None, Region(0.8, 0.3)], ids=["", "ring"])
@pytest.mark.parametrize("texts", [{}, TEXTS], ids=["", "duplicates"])
@pytest.mark.parametrize("critic", ["ratio", "paper"])
@pytest.mark.parametrize("kernel", [CosineKernel(0.05), GaussianKernel(0.3), ExponentialKernel(1, 0.2)])
@pytest.mark.parametrize("tiled", [False, True], ids=["dense", "tiled"])
def test_kl_is_infonce_less_the_log_of_the_candidates(kernel, critic: str, texts: dict, region, tiled: bool):
    """Both terms and the gradient of the vectors; by closed form, and by the search."""
    x, y, extra = unit(6, 6, 2)
    with tile_memory(8 * 8 * 10 if tiled else 2**23):
        same = {"kernel": kernel, "region": region, **texts}
        mine = fmicl(x, y, extra, shift="row", critic=critic, negatives="cross", **same)
        theirs = infonce(x, y, extra, **same)
        batch = as_batch(x, y, extra, region=region, **texts)
        blocks = batch.candidates("cross")[0]
        searched = kl_by_search(blocks, batch.own(kernel), kernel)
        counts = torch.tensor([1 + int(n) for n in negatives_of(batch)]).double()
        torch.testing.assert_close(mine["positive"], theirs["positive"], rtol=1e-12, atol=1e-12)
        expected = theirs["negative"] - counts.log().mean()
        torch.testing.assert_close(mine["negative"], expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(searched.mean(), expected, rtol=1e-10, atol=1e-10)
        gradients = [
            torch.autograd.grad(value, [x, y, extra], retain_graph=True)
            for value in (loss(mine), loss(theirs), searched.mean() + mine["positive"])
        ]
    for found in (gradients[0], gradients[2]):
        torch.testing.assert_close(found, gradients[1], rtol=1e-10, atol=1e-10)


def negatives_of(batch) -> list[int]:
    """How many pairs each row has, one at a time."""
    from fmicl_text.core.reduce import row_log_sum_exp

    return row_log_sum_exp(batch.candidates("cross")[0], CosineKernel()).pairs.tolist()


def test_kl_with_both_views_is_ntxent():
    x, y = unit(6, 6)
    kernel = CosineKernel(0.1)
    mine = loss(fmicl(x, y, kernel=kernel, negatives="both", shift="row"))
    theirs = loss(ntxent(x, y, kernel=kernel))
    torch.testing.assert_close(mine, theirs - math.log(11))
    torch.testing.assert_close(torch.autograd.grad(mine, [x, y]), torch.autograd.grad(theirs, [x, y]))


# Entmax and f-softargmax.


def entmax(scores: np.ndarray, order: float) -> np.ndarray:
    """``p_j = [(a-1) s_j - tau]_+^{1/(a-1)}`` with tau by bisection (Peters, Niculae, Martins, ACL 2019, alg. 1)."""
    scaled = (order - 1) * scores
    low, high = scaled.max() - 1, scaled.max()
    for _ in range(200):
        tau = (low + high) / 2
        p = np.maximum(scaled - tau, 0) ** (1 / (order - 1))
        low, high = (tau, high) if p.sum() > 1 else (low, tau)
    return p / p.sum()


CRITICS = st.lists(st.floats(-100, 100), min_size=2, max_size=12)


@given(critics=CRITICS, order=st.sampled_from([1.25, 1.5, 2.0, 3.0]), scale=st.sampled_from([0.01, 0.1, 1.0]))
@settings(max_examples=100)
def test_tsallis_is_entmax_of_the_critic_over_the_order(critics: list[float], order: float, scale: float):
    critics = [scale * t for t in critics]
    _, weights = bound_and_weights(critics, tsallis(order))
    np.testing.assert_allclose(weights, entmax(np.array(critics) / order, order), atol=1e-8)


def test_pearson_is_sparsemax():
    """Martins, Astudillo, ICML 2016: the projection of T/2 on the simplex, by sorting."""
    critics = np.array([1.0, 0.3, -0.7, 0.9, 0.2])
    ordered = np.sort(critics / 2)[::-1]
    sums = np.cumsum(ordered)
    k = max(n for n in range(1, 6) if 1 + n * ordered[n - 1] > sums[n - 1])
    expected = np.maximum(critics / 2 - (sums[k - 1] - 1) / k, 0)
    np.testing.assert_allclose(bound_and_weights(critics.tolist(), DIVERGENCES["pearson"])[1], expected, atol=1e-12)


@pytest.mark.parametrize("alpha", [None, 1.0, 2.5])
@pytest.mark.parametrize("name", ALL)
def test_weights_are_those_of_a_bisection_on_the_critic_alone(name: str, alpha: float | None):
    critics = [2.0, 0.5, 0.4, -1.0, -3.0]
    total = 1.0 if alpha is None else len(critics) / alpha
    _, expected = formulas.f_softargmax(TABLE[name], critics, total)
    _, weights = bound_and_weights(critics, DIVERGENCES[name], alpha)
    np.testing.assert_allclose(weights, np.array(expected) / total, atol=1e-9)


# Properties of every divergence.


@pytest.mark.parametrize("name", ALL)
@given(critics=CRITICS, shift=st.floats(-50, 50), alpha=st.sampled_from([None, 1.0]))
@settings(max_examples=30)
def test_weights_are_a_distribution_whatever_is_added_to_the_critic(
    name: str, critics: list[float], shift: float, alpha: float | None
):
    """Pull ``1 - p_ii`` and push are equal; the larger critic weighs more; F moves by what is added."""
    bound, weights = bound_and_weights(critics, DIVERGENCES[name], alpha)
    moved, moved_weights = bound_and_weights([t + shift for t in critics], DIVERGENCES[name], alpha)
    assert min(weights) >= 0 and sum(weights) == pytest.approx(1, abs=1e-12)
    assert 1 - weights[0] == pytest.approx(sum(weights[1:]), abs=1e-12)
    order = np.argsort(critics)
    assert (np.diff(np.array(weights)[order]) >= -1e-9).all()
    assert moved == pytest.approx(bound + shift, abs=1e-8)
    np.testing.assert_allclose(moved_weights, weights, atol=1e-6)


@pytest.mark.parametrize("shift", ["batch", "row"])
@pytest.mark.parametrize("critic", ["paper", "ratio"])
@pytest.mark.parametrize("name", RECOMMENDED)
def test_a_factor_of_the_ratio_does_not_matter(name: str, critic: str, shift: str):
    """``mu`` adds a constant to ``r``: nothing changes with the critic ``r``, or an ``f'(u)`` linear in it, as KL's."""
    x, y = unit(6, 6)
    values = [
        loss(fmicl(x, y, divergence=DIVERGENCES[name], kernel=kernel, shift=shift, critic=critic))
        for kernel in (GaussianKernel(0.5), GaussianKernel(0.5, mu=1.5))
    ]
    same = abs(values[0] - values[1]).item() < 1e-6
    linear = TABLE[name].curvature(2.0) / 2.0 == TABLE[name].curvature(1.0)
    assert same is (critic == "ratio" or linear)


@pytest.mark.parametrize("alpha", [None, 1.0])
@pytest.mark.parametrize("name", ALL)
def test_no_information_in_equal_critics(name: str, alpha: float | None):
    bound, weights = bound_and_weights([0.7] * 5, DIVERGENCES[name], alpha)
    assert bound - 0.7 == pytest.approx(0, abs=1e-9)
    assert weights == pytest.approx([0.2] * 5)


@pytest.mark.parametrize("alpha", [None, 1.0])
@pytest.mark.parametrize("name", RECOMMENDED)
@given(critics=CRITICS)
@settings(max_examples=40)
def test_minus_the_loss_is_below_the_information_of_knowing_the_positive(
    name: str, alpha: float | None, critics: list[float]
):
    """At most the divergence of one candidate from all, ``f_n(n)/n + (1 - 1/n) f_n(0)``; reached far apart."""
    n = len(critics)
    row, weight = TABLE[name], n if alpha is None else alpha
    f_at_zero = 0.0 if name == "kl" else -row.conjugate(row.domain[0]) if math.isfinite(row.domain[0]) else 1.0
    if name == "js":
        f_at_zero = math.log(2)
    most = weight * (row.f(n / weight) + (n - 1) * f_at_zero) / n - weight * row.f(1 / weight)
    bound, _ = bound_and_weights(critics, DIVERGENCES[name], alpha)
    assert critics[0] - bound <= most + 1e-9
    apart, _ = bound_and_weights([1e7, *[-1e7] * (n - 1)], DIVERGENCES[name], alpha)
    assert 1e7 - apart == pytest.approx(most, abs=1e-2 * n)


@pytest.mark.parametrize("alpha", [None, 1.0, 4.0])
@pytest.mark.parametrize("critic", ["paper", "ratio"])
@pytest.mark.parametrize("name", RECOMMENDED)
def test_positives_like_negatives_have_no_information(name: str, critic: str, alpha: float | None):
    """On average over which candidate is the positive, minus the loss is at most 0: there is nothing to know."""
    (x,) = unit(6)
    losses = []
    for shift in range(1, 6):  # every other row is once the positive, while all rows stay candidates
        rows = x.roll(shift, 0)
        texts = torch.arange(6).unsqueeze(1)
        terms = fmicl(
            x,
            rows,
            x,
            divergence=DIVERGENCES[name],
            kernel=GaussianKernel(0.5),
            shift="row",
            critic=critic,
            alpha=alpha,
            texts=torch.stack([torch.arange(6), (torch.arange(6) - shift) % 6], dim=1),
            extra_texts=texts,
            negatives="within",
            region=None,
        )
        losses.append(loss(terms).item())
    assert sum(losses) >= -1e-9


@pytest.mark.parametrize("name", [n for n in RECOMMENDED if n != "kl"])
@pytest.mark.parametrize("alpha", [1.0, 6.0])
def test_one_row_is_the_batch(name: str, alpha: float):
    """A batch of one row, its positive among the negatives: one shift for the batch is the row's own."""
    x, y = unit(1, 1)
    (others,) = unit(5, seed=1)
    given = {"divergence": DIVERGENCES[name], "kernel": GaussianKernel(0.6), "critic": "paper", "alpha": alpha}
    row = loss(fmicl(x, y, others, shift="row", **given))
    batch = loss(fmicl(x, y, torch.cat([y, others]), shift="batch", **given))
    assert row.item() == pytest.approx(batch.item(), abs=1e-6)


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("name", RECOMMENDED)
def test_the_shift_of_a_row_is_tighter_than_none(name: str, negatives: str):
    """For every row, ``v = 0`` with the positive among the candidates is a bound too."""
    x, y = unit(6, 6)
    divergence, kernel = DIVERGENCES[name], GaussianKernel(0.5)
    tightest = loss(
        fmicl(x, y, divergence=divergence, kernel=kernel, negatives=negatives, shift="row", critic="paper", alpha=1.0)
    )
    batch = as_batch(x, y)
    own = batch.own(kernel)
    unshifted = []
    for blocks in batch.candidates(negatives):
        for i in range(6):
            r = [own[i]]
            for block in blocks:
                cosines = block.rows.vectors[i] @ block.columns.vectors.T
                r += [kernel(c) for c, t in zip(cosines, block.columns.texts, strict=True) if t != block.rows.texts[i]]
            unshifted.append(divergence.penalty(torch.stack(r)).mean() - divergence.critic(own[i]))
    assert tightest <= torch.stack(unshifted).mean() + 1e-9


# Precision and safety.

PAIRS_AT = torch.linspace(-1, 1, 41)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [0.01, 0.05, 1.0])
@pytest.mark.parametrize("name", ALL)
def test_finite_at_any_cosine(name: str, temperature: float, dtype: torch.dtype):
    """Anchors and positives at every angle, in float32 as in training; and the gradient is balanced in each row."""
    angle = PAIRS_AT.acos()
    y = torch.stack([angle.cos(), angle.sin()], dim=1).to(dtype).requires_grad_()
    x = torch.tensor([[1.0, 0.0]]).repeat(len(angle), 1).to(dtype).requires_grad_()
    for negatives, alpha in itertools.product(NEGATIVES, (None, 1.0)):
        terms = fmicl(
            x,
            y,
            divergence=DIVERGENCES[name],
            kernel=CosineKernel(temperature),
            negatives=negatives,
            shift="row",
            alpha=alpha,
        )
        gradients = torch.autograd.grad(loss(terms), [x, y])
        assert all(value.isfinite() and value.dtype == dtype for value in terms.values())
        assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("temperature", [0.01, 0.05])
@pytest.mark.parametrize("name", RECOMMENDED)
@pytest.mark.parametrize("tiled", [False, True], ids=["dense", "tiled"])
def test_float32_is_near_float64(name: str, temperature: float, tiled: bool):
    x, y = unit(300, 300, dimension=32)
    given = {"divergence": DIVERGENCES[name], "negatives": "cross", "shift": "row"}
    results = {}
    for dtype in (torch.float32, torch.float64):
        a, b = (normalize(v.detach().to(dtype), dim=1).requires_grad_() for v in (x, y))
        with tile_memory(8 * 8 * 64 * 64 if tiled else 2**23):
            value = loss(fmicl(a, b, kernel=CosineKernel(temperature), **given))
            results[dtype] = [value.double(), *(g.double() for g in torch.autograd.grad(value, [a, b]))]
    for mine, exact in zip(results[torch.float32], results[torch.float64], strict=True):
        torch.testing.assert_close(mine, exact, rtol=1e-5, atol=1e-5 * exact.abs().max().item())


@pytest.mark.parametrize("name", ["pearson", "tsallis", "vlc"])
def test_the_shift_is_not_rounded_to_float32(name: str):
    """Its error would be that of every candidate, thousands of which have a weight above 0."""
    critics = (1000 + torch.rand(100_000, generator=torch.Generator().manual_seed(0))).tolist()
    bound, weights = bound_and_weights(critics, DIVERGENCES[name], dtype=torch.float32)
    exact, expected = bound_and_weights(torch.tensor(critics).double().tolist(), DIVERGENCES[name])
    assert sum(weights) == pytest.approx(1, abs=1e-4) and bound == pytest.approx(exact, rel=1e-6)
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("candidates", [2, 1000, 100_000])
@pytest.mark.parametrize("alpha", [None, 1.0])
@pytest.mark.parametrize("name", RECOMMENDED)
def test_a_positive_that_outweighs_any_number_of_candidates(name: str, alpha: float | None, candidates: int):
    """With alpha = 1 its ratio is their number, where critics end at an open end of the domain."""
    bound, weights = bound_and_weights([100.0, *[-100.0] * (candidates - 1)], DIVERGENCES[name], alpha)
    assert math.isfinite(bound) and sum(weights) == pytest.approx(1, abs=1e-9)
    assert weights[0] > 0.5 or name in ("sh", "pearson", "tsallis", "vlc")  # the former has heavy tails


@pytest.mark.parametrize("name", ALL)
def test_the_search_takes_few_sweeps(name: str):
    """Also where the solution of some rows is the very end of what brackets it, one candidate having all the weight."""
    assert sweeps(name, *unit(512, 512, dimension=32)) <= 8


def test_a_sample_of_the_columns_saves_most_of_a_sweep(monkeypatch: pytest.MonkeyPatch):
    """Of pairs that are not alike, so that the positive alone says little of a row's sum."""
    x, y = (rows.float() for rows in unit(1024, 1024, dimension=64))
    with_sample = sweeps("js", x, y)
    monkeypatch.setattr(row_shift, "_EVERY", 1024)
    assert with_sample < sweeps("js", x, y) - 0.5


@pytest.mark.parametrize("name", ["js", "vlc"])
def test_rows_that_are_found_are_left_out(name: str, monkeypatch: pytest.MonkeyPatch):
    """In tiles fewer rows are swept at the end, and the result is that of sweeps of all, as many as a GPU makes."""
    x, y = unit(64, 64, dimension=16)
    swept = []
    improved, best_shifts = row_shift.improved, row_shift.best_shifts
    monkeypatch.setattr(row_shift, "improved", lambda *given: swept.append(len(given[0].shift)) or improved(*given))

    def result() -> list[Tensor]:
        with tile_memory(64 * 16 * 16):
            value = loss(fmicl(x, y, divergence=DIVERGENCES[name], kernel=CosineKernel(0.05), shift="row"))
            return [value, *torch.autograd.grad(value, [x, y])]

    found = result()
    assert swept[0] == 64 and 0 < swept[-1] < 32
    monkeypatch.setattr(row_shift, "best_shifts", lambda *given, **_: best_shifts(*given, looks=False))
    for mine, all_swept in zip(found, result(), strict=True):
        torch.testing.assert_close(mine, all_swept, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["js", "vlc"])
def test_a_candidate_above_all_of_the_sample_costs_no_sweeps(name: str):
    """An anchor's double, which the sample of columns lacks, is far beyond the domain's end at the sample's shift."""
    x, y = unit(256, 256, dimension=32)
    with torch.no_grad():
        y[1::2] = x.roll(1, dims=0)[1::2]  # the sampled columns are of even number
    assert sweeps(name, x, y) < 6


def sweeps(name: str, x: Tensor, y: Tensor) -> float:
    """Return how often each pair is visited, at the temperature of training."""
    pairs = 0

    class Counting(CosineKernel):
        def forward(self, cosine: Tensor) -> Tensor:
            nonlocal pairs
            pairs += cosine.numel()
            return super().forward(cosine)

    with tile_memory(64 * len(x) * 16), torch.no_grad():
        fmicl(x, y, divergence=DIVERGENCES[name], kernel=Counting(0.05), negatives="cross", shift="row")
    return pairs / len(x) ** 2


@pytest.mark.parametrize("name", ALL)
def test_a_gpu_is_given_enough_sweeps(name: str, monkeypatch: pytest.MonkeyPatch):
    """There nobody looks whether the search has ended, so it must have, for vectors that are alike and that are not."""
    sweeps = 0
    sums = row_shift.sums_of

    def counted(*arguments: Any, **settings: Any) -> Any:
        nonlocal sweeps
        sweeps += 1
        return sums(*arguments, **settings)

    monkeypatch.setattr(row_shift, "sums_of", counted)
    for alike, noise, sigma in itertools.product((0.0, 0.9), (0.3, 30.0), (0.15, 0.2646, 0.6)):
        torch.manual_seed(0)
        x = normalize((1 - alike) * torch.randn(64, 32) + alike * torch.randn(1, 32), dim=1)
        y = normalize(x + noise * torch.randn(64, 32) / 32**0.5, dim=1)
        sweeps = 0
        kernel = GaussianKernel(sigma)
        fmicl(x, y, divergence=DIVERGENCES[name], kernel=kernel, negatives="cross", shift="row")
        assert sweeps <= shift_search.UNSEEN


def test_a_search_that_does_not_end_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(shift_search, "SWEEPS", 1)
    fmicl(unit(8)[0], unit(8)[0].flip(0), divergence=DIVERGENCES["js"], negatives="cross", shift="row")
    assert "not found exactly" in caplog.text


def test_no_second_derivative():
    x, y = unit(5, 5)
    for memory in (8 * 8 * 10, 2**23):
        with tile_memory(memory), pytest.raises(NotImplementedError, match="row has no second derivative"):
            torch.autograd.grad(loss(fmicl(x, y, divergence=JS, shift="row")), x, create_graph=True)


def test_a_row_without_negatives_has_a_loss_of_zero():
    x, y = unit(3, 3)
    alone = torch.tensor([[0, 1], [0, 2], [0, 3]])
    for name in ALL:
        terms = fmicl(x, y, divergence=DIVERGENCES[name], texts=alone, shift="row", kernel=CosineKernel(0.05))
        assert loss(terms).item() == pytest.approx(0, abs=1e-9)
        assert all((g.abs() < 1e-12).all() for g in torch.autograd.grad(loss(terms), [x, y]))


@pytest.mark.parametrize("name", RECOMMENDED)
def test_the_batchs_critic_is_taken_in_float64(name: str):
    """Near duplicates outweigh a million others: float32 does not tell their critic from the end of the domain.

    The shift, and the push of the near duplicates.
    """
    cosines = torch.cat([torch.tensor([0.9999]), torch.full((99_999,), 0.1)])
    columns = torch.stack([cosines, (1 - cosines.square()).sqrt()], dim=1).requires_grad_()
    kernel, divergence = GaussianKernel(0.158), DIVERGENCES[name]
    rows = Rows(torch.tensor([[1.0, 0.0]]), torch.tensor([[0]]))
    block = Block(rows, Rows(columns, torch.ones(100_000, 1).long()))
    shift = best_shift([block], kernel, divergence.critic, divergence)
    r = kernel(cosines).double().requires_grad_()  # of the cosines as float32 has them
    critics = divergence.critic(r)
    ratios = shifted_ratios(name, critics - shift)
    assert ratios.mean().item() == pytest.approx(1, rel=1e-4)
    bound = batch_bound([block], kernel, divergence.critic, divergence)
    push = torch.autograd.grad(bound, columns)[0][0, 0] * 0.158**2  # by r
    (slope,) = torch.autograd.grad(critics[0], r)
    assert push.item() == pytest.approx((ratios[0] / 100_000 * slope[0]).item(), rel=1e-4)


def shifted_ratios(name: str, critics: Tensor) -> Tensor:
    """``(f')^{-1}`` in float64, 0 below the domain; by bisection of the table's ``f'``."""
    row = TABLE[name]
    distinct, place = critics.detach().unique(return_inverse=True)
    ratios = [
        math.exp(brentq(lambda r, t=t: row.slope(math.exp(r)) - t, -40, 40, xtol=1e-13)) if t > row.domain[0] else 0.0
        for t in distinct.tolist()
    ]
    return torch.tensor(ratios, dtype=torch.float64)[place]


def test_a_critic_beyond_float32_is_still_a_candidate():
    """``f'(u) = 1 - u^(-1/2)`` of an opposite pair at sigma 0.1 is -e^100; float64 has that."""
    x, y = torch.eye(4)[:3], torch.eye(4)[:3]
    values = [
        loss(fmicl(a, b, -a, divergence=DIVERGENCES["sh"], kernel=GaussianKernel(0.1), shift="row", critic="paper"))
        for a, b in ((x, y), (x.double(), y.double()))
    ]
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-5)
