"""What the objectives have to do with each other, and with batches of another size."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.formulas import RECOMMENDED, RULED_OUT, TABLE
from reference.objectives import CASES, total
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import normalize

from fmicl_text.core import (
    DIVERGENCES,
    KL,
    NEGATIVES,
    PEARSON,
    CosineKernel,
    ExponentialKernel,
    GaussianKernel,
    Kernel,
    Region,
    alignment_uniformity,
    as_batch,
    batch_shift,
    dcl,
    dhel,
    fmicl,
    fmicl_dv,
    focal_infonce,
    hcl,
    infonce,
    kcl,
    kernel_infonce,
    kernel_infonce_mixed,
    ntxent,
    spectral,
)


def unit(*sizes: int, dimension: int = 4, seed: int = 0, spread: float = 1.0) -> list[Tensor]:
    """Random unit rows; a small ``spread`` gathers them around one point."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(dimension, generator=generator, dtype=torch.float64)
    rows = torch.randn(sum(sizes), dimension, generator=generator, dtype=torch.float64)
    return list(normalize(centre + spread * rows if spread < 1 else rows, dim=1).split(sizes))


def loss(terms: dict[str, Tensor]) -> float:
    return sum(terms.values()).item()


SEEDS = st.integers(0, 2**31 - 1)
SPREADS = st.sampled_from([0.05, 0.3, 1.0])


class CosineAsRatio(Kernel):
    """``u = s``, the cosine itself in place of the density ratio; for positive cosines only."""

    def __init__(self) -> None:
        super().__init__(1.0, learn=False)

    def forward(self, cosine: Tensor) -> Tensor:
        return cosine.log()


@given(seed=SEEDS, t=st.floats(0.5, 20), weight=st.floats(0.1, 3), spread=SPREADS)
@settings(max_examples=25)
def test_alignment_uniformity_is_shifted_kl_of_both_views(seed: int, t: float, weight: float, spread: float):
    """With ``w_a = t w_u``, ``power = 2`` and c = t."""
    x, y = unit(6, 6, seed=seed, spread=spread)
    both = alignment_uniformity(x, y, t=t, align_weight=t * weight, uniform_weight=weight)
    kernel = GaussianKernel(math.sqrt(1 / (2 * t)))
    of_x, of_y = (loss(fmicl_dv(*views, divergence=KL, kernel=kernel)) for views in ((x, y), (y, x)))
    assert loss(both) == pytest.approx(weight * (of_x + of_y) / 2, rel=1e-6, abs=1e-6)


@given(seed=SEEDS)
@settings(max_examples=25)
def test_spectral_is_chi_squared_with_the_cosine_in_place_of_the_ratio(seed: int):
    x, y = (rows.abs() for rows in unit(6, 6, seed=seed))
    chi_squared = fmicl(x, y, divergence=PEARSON, kernel=CosineAsRatio(), negatives="cross")
    assert loss(spectral(x, y)) == pytest.approx(loss(chi_squared) - 1)


@given(seed=SEEDS, tau=st.floats(0.05, 2), spread=SPREADS)
@settings(max_examples=50)
def test_infonce_bounds_shifted_kl_from_above(seed: int, tau: float, spread: float):
    """What both estimate, ``E[s] - E log E e^s >= E[s] - log E E e^s``: the mean of logs is below the log of the mean.

    As losses it is the other way round, and the constant ``log B`` is between a mean and a sum. InfoNCE averages over
    all columns, the positive among them; shifted KL over the same pairs when the positives are given as negatives.
    """
    x, y = unit(6, 6, seed=seed, spread=spread)
    texts = {"texts": torch.zeros(6, 1).long(), "extra_texts": torch.arange(1, 7)}
    shifted = loss(fmicl_dv(x, y, y, divergence=KL, kernel=CosineKernel(tau), **texts))
    rows = loss(infonce(x, y, kernel=CosineKernel(tau))) - math.log(6)
    assert rows <= shifted + 1e-6
    assert -rows <= math.log(6) + 1e-9 and -shifted <= math.log(6) + 1e-6  # neither sees more than log B


def test_infonce_is_shifted_kl_when_all_rows_have_one_sum():
    """A circle of points against itself: every row of cosines is the same up to its order."""
    angles = torch.arange(6, dtype=torch.float64) * math.pi / 3
    x = torch.stack([angles.cos(), angles.sin()], dim=1)
    y = x.roll(1, dims=0)
    texts = {"texts": torch.zeros(6, 1).long(), "extra_texts": torch.arange(1, 7)}
    shifted = loss(fmicl_dv(x, y, y, divergence=KL, kernel=CosineKernel(0.3), **texts))
    assert loss(infonce(x, y, kernel=CosineKernel(0.3))) - math.log(6) == pytest.approx(shifted)


@given(seed=SEEDS, tau=st.floats(0.05, 2))
@settings(max_examples=25)
def test_kernel_infonce_at_gamma_two_is_ntxent_at_half_the_temperature(seed: int, tau: float):
    x, y, extra = unit(5, 5, 3, seed=seed)
    gaussian = loss(kernel_infonce(x, y, extra, kernel=ExponentialKernel(gamma=2, temperature=tau)))
    assert gaussian == pytest.approx(loss(ntxent(x, y, extra, kernel=CosineKernel(tau / 2))))
    one = ExponentialKernel(gamma=2, temperature=tau)
    mixed = kernel_infonce_mixed(x, y, extra, first=one, second=one, weight=0.3)
    assert loss(mixed) == pytest.approx(gaussian)


@given(seed=SEEDS)
@settings(max_examples=25)
def test_hcl_without_reweighting_and_correction_is_ntxent(seed: int):
    x, y, extra = unit(5, 5, 3, seed=seed)
    assert loss(hcl(x, y, extra, tau_plus=0.0, beta=0.0)) == pytest.approx(loss(ntxent(x, y, extra)))
    losses = [loss(hcl(x, y, extra, tau_plus=0.0, beta=beta)) for beta in (0.0, 0.5, 1.0, 2.0, 4.0)]
    assert losses == sorted(losses)  # harder negatives weigh more


def test_focal_infonce_is_infonce_of_squared_cosines_at_margin_zero():
    x, y = unit(5, 5)
    squares = (x @ y.T).square() / 0.05
    expected = torch.nn.functional.cross_entropy(squares, torch.arange(5))
    assert loss(focal_infonce(x, y, margin=0.0)) == pytest.approx(expected.item())


def test_focal_infonce_pulls_negatives_below_minus_half_the_margin_closer():
    positive = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    for cosine, pushes in ((-0.5, False), (-0.2, False), (-0.1, True), (0.5, True)):
        extra = torch.tensor([[cosine, math.sqrt(1 - cosine**2)]], dtype=torch.float64)
        nearer = torch.tensor([[cosine + 0.01, math.sqrt(1 - (cosine + 0.01) ** 2)]], dtype=torch.float64)
        only_first = {"texts": torch.tensor([[0, 2], [1, 2]]), "extra_texts": torch.tensor([1])}
        change = loss(focal_infonce(positive, positive, nearer, **only_first)) - loss(
            focal_infonce(positive, positive, extra, **only_first)
        )
        assert (change > 0) is pushes


@given(seed=SEEDS, spread=SPREADS)
@settings(max_examples=25)
def test_gaussian_kcl_has_the_negative_term_of_kl(seed: int, spread: float):
    x, y = unit(6, 6, seed=seed, spread=spread)
    kernel = GaussianKernel(0.5)
    views = [fmicl(a, b, divergence=KL, kernel=kernel, alpha=16.0)["negative"] for a, b in ((x, y), (y, x))]
    torch.testing.assert_close(kcl(x, y)["negative"], sum(views))


def test_dhel_is_dcl_of_separate_views():
    """The denominators of DCL hold those of DHEL's first logarithm and the other view's."""
    x, y = unit(6, 6)
    kernel = CosineKernel(0.3)
    one_view = dhel(x, y, kernel=kernel, both_views=False)
    same = dcl(x, y, kernel=kernel, symmetric=False)
    torch.testing.assert_close(one_view["positive"], same["positive"])
    assert one_view["negative"] < same["negative"]


def test_dclw_weighs_evenly_when_all_pairs_are_equally_hard_or_sigma_is_large():
    x, y = unit(6, 6)
    assert loss(dcl(x, x, weight_sigma=0.5)) == pytest.approx(loss(dcl(x, x)))
    assert loss(dcl(x, y, weight_sigma=1e9)) == pytest.approx(loss(dcl(x, y)))


def best_shift_by_search(critics: np.ndarray, positive: float, name: str) -> float:
    """The least of the shifted loss, by scipy; the conjugate is infinite above its domain, constant below it."""
    low, high = TABLE[name].domain

    def shifted(v: float) -> float:
        return -positive + v + float(np.mean([TABLE[name].conjugate(max(critic - v, low)) for critic in critics]))

    at_one = TABLE[name].slope(1.0)
    ends = max(critics.min() - at_one, critics.max() - high), critics.max() - at_one
    return minimize_scalar(shifted, bounds=ends, method="bounded", options={"xatol": 1e-12}).fun


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize(
    ("name", "sigma"),  # narrower, the critics ruled out span ten orders of magnitude, which no search resolves
    [*itertools.product(RECOMMENDED, (0.3, 1.0)), *itertools.product(RULED_OUT, (1.0,))],
)
def test_shifted_fmicl_is_the_best_over_shifts(name: str, sigma: float, negatives: str):
    divergence, kernel = DIVERGENCES[name], GaussianKernel(sigma)
    x, y = unit(7, 7)
    z = torch.cat([x, y])
    blocks = {"within": (x, x), "cross": (x, y), "both": (z, z), "anchor": (x, z)}[negatives]
    rows, columns = (torch.arange(len(side)) % 7 for side in blocks)
    apart = rows[:, None] != columns
    ratios = kernel(blocks[0] @ blocks[1].T)[apart]
    positive = divergence.critic(kernel((x * y).sum(dim=1))).mean().item()
    value = loss(fmicl_dv(x, y, divergence=divergence, kernel=kernel, negatives=negatives))
    assert value == pytest.approx(best_shift_by_search(divergence.critic(ratios).numpy(), positive, name), rel=1e-6)
    assert value <= loss(fmicl(x, y, divergence=divergence, kernel=kernel, negatives=negatives)) + 1e-9  # v = 0


@pytest.mark.parametrize("alpha", [1.0, 3.0])
@pytest.mark.parametrize("name", [*RECOMMENDED, *RULED_OUT])
def test_the_shifted_density_ratio_is_one_over_alpha_on_average(name: str, alpha: float):
    divergence, kernel = DIVERGENCES[name], GaussianKernel(0.5)
    (x,) = unit(7)
    blocks = as_batch(x, x).negatives("within")
    shift = batch_shift.best_shift(blocks, kernel, divergence.critic, divergence, alpha)
    critics = divergence.critic(kernel(x @ x.T))[~torch.eye(7).bool()] - shift
    inside = critics > divergence.domain[0]  # below its domain the ratio is 0
    ratios = divergence.inverse_critic(critics.where(inside, torch.ones(()).double() * divergence.critic(shift * 0)))
    assert ratios.exp().where(inside, 0).mean().item() == pytest.approx(1 / alpha, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", RECOMMENDED)
def test_one_pair_that_outweighs_all_others(name: str, dtype: torch.dtype):
    """Near duplicates in a large batch: their shifted ratio is as large as the number of pairs."""
    (x,) = unit(300, dimension=32)
    x[1] = normalize(x[0] + 0.01 * x[2], dim=0)
    divergence, kernel = DIVERGENCES[name], GaussianKernel(0.158)
    critics = divergence.critic(kernel(x @ x.T))[*torch.triu_indices(300, 300, offset=1)]
    low, high = divergence.domain
    positive = divergence.critic(kernel(torch.ones((), dtype=torch.float64))).item()

    def shifted(log_distance: float) -> float:
        v = start + math.exp(log_distance)
        conjugates = [TABLE[name].conjugate(max(critic - v, low)) for critic in critics.tolist()]
        return -positive + v + sum(conjugates) / len(conjugates)

    # From the least shift the domain allows, or one that is surely too small, on a scale that sees what is near it.
    start = (
        critics.max().item() - high
        if math.isfinite(high)
        else critics.min().item() - divergence.critic(torch.zeros(1)).item()
    )
    fewest = minimize_scalar(shifted, bounds=(-30, 5), method="bounded", options={"xatol": 1e-9})
    value = loss(fmicl_dv(x.to(dtype), x.to(dtype), divergence=divergence, kernel=kernel))
    assert value == pytest.approx(fewest.fun, abs=1e-4 if dtype == torch.float32 else 1e-6)


@pytest.mark.parametrize("name", ["js", "sh", "vlc"])
def test_no_shift_takes_a_pair_out_of_the_domain(name: str, monkeypatch: pytest.MonkeyPatch):
    """There the conjugate is infinite; where the best ratio of a pair is beyond what floats resolve, too.

    A coarser end of the domain stands for more pairs than a test can have.
    """
    (x,) = unit(100, dimension=32)
    x[1] = normalize(x[0] + 0.01 * x[2], dim=0)
    settings = {"divergence": DIVERGENCES[name], "kernel": GaussianKernel(0.158)}
    exact = loss(fmicl_dv(x, x, **settings))
    for margin in (0.1, 1e-3):
        monkeypatch.setattr(batch_shift, "MARGIN", margin)
        assert exact - 1e-9 <= loss(fmicl_dv(x, x, **settings)) <= exact + margin


@given(seed=SEEDS, spread=SPREADS)
@settings(max_examples=10)
@pytest.mark.parametrize("name", RECOMMENDED)
def test_there_is_no_information_where_positives_are_like_negatives(name: str, seed: int, spread: float):
    """Minus the loss bounds the divergence of the two kinds of pairs from below: 0 if they are the same pairs."""
    (x,) = unit(6, seed=seed, spread=spread)
    rows = torch.tensor([(i, j) for i in range(6) for j in range(6) if i != j])
    firsts, seconds = x[rows[:, 0]], x[rows[:, 1]]  # the positives are the ordered pairs of different rows
    same = {"texts": rows[:, :1], "negatives": "within", "kernel": GaussianKernel(0.5)}
    bound = -loss(fmicl_dv(firsts, seconds, divergence=DIVERGENCES[name], **same))
    assert bound <= 1e-6


@pytest.mark.parametrize("name", RECOMMENDED)
def test_collapsed_embeddings_have_no_information(name: str):
    x = torch.ones(5, 4, dtype=torch.float64) / 2
    for kernel in (GaussianKernel(0.25), GaussianKernel(0.5, mu=1.5), CosineKernel(0.3)):
        assert loss(fmicl_dv(x, x, divergence=DIVERGENCES[name], kernel=kernel)) == pytest.approx(0, abs=1e-6)


def batches(rows: int, size: int) -> list[list[int]]:
    return [list(batch) for batch in itertools.combinations(range(rows), size)]


def mean_over_batches(objective, x: Tensor, y: Tensor, size: int) -> tuple[float, Tensor]:
    """Mean of the loss over every way to draw a batch of ``size`` of the pairs, and its gradient by ``x``."""
    x = x.detach().requires_grad_()
    mean = torch.stack([sum(objective(x[b], y[b]).values()) for b in batches(len(x), size)]).mean()
    return mean.item(), torch.autograd.grad(mean, x)[0]


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("name", RECOMMENDED)
def test_fmicl_does_not_depend_on_batch_size(name: str, negatives: str):
    """Exactly: averaged over all batches of two or three of six pairs, it is the loss of the six."""
    x, y = unit(6, 6)

    def objective(x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return fmicl(x, y, divergence=DIVERGENCES[name], kernel=GaussianKernel(0.5), alpha=3.0, negatives=negatives)

    value, gradient = mean_over_batches(objective, x, y, 6)
    for size in (2, 3):
        mean, mean_gradient = mean_over_batches(objective, x, y, size)
        assert mean == pytest.approx(value)
        torch.testing.assert_close(mean_gradient, gradient)


def accumulated(objective, x: Tensor, y: Tensor) -> Tensor:
    """Gradient accumulated over two micro-batches of three, on average over all ways to split six pairs so."""
    gradients = []
    for first in batches(6, 3)[:10]:  # the other ten are the same splits with the halves in each other's place
        x = x.detach().requires_grad_()
        for half in (first, [i for i in range(6) if i not in first]):
            (sum(objective(x[half], y[half]).values()) / 2).backward()
        gradients.append(x.grad)
    return torch.stack(gradients).mean(dim=0)


@pytest.mark.parametrize("name", ["fmicl-kl", "fmicl-js-cross", "fmicl-pearson-both", "spectral", "kcl", "kcl-log"])
def test_accumulation_has_the_expected_gradient_of_the_large_batch(name: str):
    """Exact for means over pairs."""
    case = CASES[name]
    x, y = unit(6, 6)
    gradient = mean_over_batches(lambda a, b: case.objective(a, b, **case.settings(False)), x, y, 6)[1]
    mean = accumulated(lambda a, b: case.objective(a, b, **case.settings(False)), x, y)
    torch.testing.assert_close(mean, gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["infonce", "ntxent", "dhel", "dcl", "hcl", "fmicl-dv-kl", "alignment-uniformity"])
def test_accumulation_has_another_expected_gradient_where_there_is_a_logarithm(name: str):
    case = CASES[name]
    x, y = unit(6, 6)
    gradient = mean_over_batches(lambda a, b: case.objective(a, b, **case.settings(False)), x, y, 6)[1]
    mean = accumulated(lambda a, b: case.objective(a, b, **case.settings(False)), x, y)
    assert (mean - gradient).norm() > 0.02 * gradient.norm()


def test_infonce_depends_on_batch_size():
    x, y = unit(6, 6)
    assert mean_over_batches(infonce, x, y, 2)[0] < 0.9 * loss(infonce(x, y))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.needs_extra])
def test_order_of_rows_does_not_matter(name: str):
    """Nor the place of texts in a row, nor what identifies them."""
    case, order = CASES[name], torch.randperm(6, generator=torch.Generator().manual_seed(0))
    x, y, extra = unit(6, 6, 3)
    texts = torch.tensor([[0, 1], [2, 3], [1, 4], [5, 5], [6, 7], [8, 2]])
    settings, region = case.settings(False), Region(0.7, 0.3)
    one = case.objective(x, y, extra, texts=texts, extra_texts=torch.tensor([3, 9, 0]), region=region, **settings)
    names = -7 * texts[order].flip(1) + 10**12
    other = case.objective(
        x[order],
        y[order],
        extra,
        texts=names,
        extra_texts=-7 * torch.tensor([3, 9, 0]) + 10**12,
        region=region,
        **settings,
    )
    assert loss(one) == pytest.approx(loss(other), rel=1e-6)


@given(seed=SEEDS)
@settings(max_examples=5)
@pytest.mark.parametrize("name", [name for name in CASES if "concatenated" not in name])  # it knows two halves
def test_rotations_do_not_matter(name: str, seed: int):
    case = CASES[name]
    tensors = unit(5, 5, 3)
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).Q
    settings = case.settings(False)
    turned = total(case.objective, [t @ turn for t in tensors], **settings)
    torch.testing.assert_close(turned, total(case.objective, tensors, **settings), rtol=1e-6, atol=1e-6)
