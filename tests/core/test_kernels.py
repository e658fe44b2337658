"""Kernels against ``||a - b||^2``, the cosine as a critic and its domain, and the range check."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from reference import formulas
from reference.formulas import RECOMMENDED, TABLE
from torch.nn.functional import normalize

from fmicl_text.core import (
    DIVERGENCES,
    JS,
    KL,
    PEARSON,
    SH,
    Alpha,
    CosineCritic,
    CosineKernel,
    ExponentialKernel,
    FocalKernel,
    GaussianKernel,
    InverseMultiquadricKernel,
    RieszKernel,
    SumKernel,
    dcl,
    dhel,
    divergence_named,
    fmicl,
    infonce,
    kernel_named,
)
from fmicl_text.core.objectives.fmicl import check_float32_range

COSINES = torch.linspace(-1, 1, 201, dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.158, 0.5, 1.0])
@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0])
def test_gaussian_is_a_function_of_distance(sigma: float, mu: float):
    a, b = formulas.unit(np.random.default_rng(0).normal(size=(2, 4)))
    expected = math.log(formulas.gaussian(sigma, mu)(a, b))
    assert GaussianKernel(sigma, mu)(torch.tensor(a @ b)).item() == pytest.approx(expected)


def test_cosine_kernel():
    torch.testing.assert_close(CosineKernel(0.05)(COSINES), COSINES / 0.05)


LAPLACIAN, WIDE = ExponentialKernel(1, 0.4), ExponentialKernel(2, 0.7)
OF_DISTANCE = {  # r of a squared distance
    "gaussian": (GaussianKernel(0.5, mu=1.5), lambda d2: math.log(1.5) - 2 * d2),
    "laplacian": (LAPLACIAN, lambda d2: -math.sqrt(d2) / 0.4),
    "exponential": (ExponentialKernel(0.5, 0.6), lambda d2: -math.sqrt(math.sqrt(d2)) / 0.6),
    "gamma 2": (WIDE, lambda d2: -d2 / 0.7),
    "sum": (SumKernel(LAPLACIAN, WIDE), lambda d2: math.log(math.exp(-math.sqrt(d2) / 0.4) + math.exp(-d2 / 0.7))),
    "inverse multiquadric": (InverseMultiquadricKernel(0.8), lambda d2: math.log(0.8 / math.sqrt(0.8**2 + d2))),
    "power 1": (InverseMultiquadricKernel(2**-0.5, power=1), lambda d2: -math.log(1 + 2 * d2)),
    "riesz": (RieszKernel(1.5), lambda d2: math.log(math.sqrt(d2) ** -1.5)),
    "focal": (FocalKernel(0.2, margin=0.4), lambda d2: (1 - d2 / 2) * (1 - d2 / 2 + 0.4) / 0.2),
}


@pytest.mark.parametrize("name", OF_DISTANCE)
def test_kernels_of_distance(name: str):
    kernel, expected = OF_DISTANCE[name]
    rows = formulas.unit(np.random.default_rng(0).normal(size=(20, 4)))
    for a, b in zip(rows[:10], rows[10:], strict=True):
        assert kernel(torch.tensor(a @ b)).item() == pytest.approx(expected(formulas.squared(a, b)))


@pytest.mark.parametrize("name", OF_DISTANCE)
def test_kernels_are_finite_where_rows_coincide(name: str):
    """Also where rounding takes a cosine past 1; the kink and the pole end 0.001 before."""
    kernel, expected = OF_DISTANCE[name]
    s = torch.tensor([1.0, 1.0000002, 1 - 1e-7, -1.0, -1.0000002], requires_grad=True)
    r = kernel(s)
    (slope,) = torch.autograd.grad(r.sum(), s)
    assert r.isfinite().all() and slope.isfinite().all()
    assert r[0].item() == pytest.approx(expected(1e-6), abs=1e-4)
    assert r[3].item() == pytest.approx(expected(4.0), rel=1e-5)


@pytest.mark.parametrize("make", [ExponentialKernel, FocalKernel])
def test_learned_width(make):
    kernel = make(temperature=0.3, learn=True)
    (parameter,) = kernel.parameters()
    kernel(torch.tensor(0.5)).backward()
    assert kernel.temperature.item() == pytest.approx(0.3)
    assert parameter.grad.item() == pytest.approx(-kernel(torch.tensor(0.5)).item())


def test_a_sum_learns_both_widths():
    kernel = SumKernel(ExponentialKernel(1, 0.4, learn=True), GaussianKernel(0.5, learn=True))
    kernel(torch.tensor(0.5)).backward()
    assert [bool(p.grad != 0) for p in kernel.parameters()] == [True, True]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ExponentialKernel(gamma=0.0), "gamma must be above 0 and at most 2, got 0.0"),
        (lambda: ExponentialKernel(gamma=2.5), "gamma must be above 0 and at most 2, got 2.5"),
        (lambda: ExponentialKernel(temperature=-0.1), "temperature must be a positive finite number, got -0.1"),
        (lambda: InverseMultiquadricKernel(c=0.0), "c must be a positive finite number, got 0.0"),
        (lambda: InverseMultiquadricKernel(power=-1.0), "power must be a positive finite number, got -1.0"),
        (lambda: RieszKernel(s=0.0), "s must be a positive finite number, got 0.0"),
        (lambda: FocalKernel(temperature=math.nan), "temperature must be a positive finite number, got nan"),
        (lambda: CosineKernel(temperature=0.0), "temperature must be a positive finite number, got 0.0"),
    ],
)
def test_bad_widths(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_one_knob_with_three_names():
    """c = 20 in the paper is sigma^2 = 1/40 = tau."""
    kernel = GaussianKernel(sigma=math.sqrt(1 / 40))
    assert kernel.temperature == pytest.approx(0.025)
    assert CosineKernel(0.025).sigma == pytest.approx(kernel.sigma)
    torch.testing.assert_close(kernel(COSINES), -20 * (2 - 2 * COSINES))


@pytest.mark.parametrize("kernel", [GaussianKernel(0.3, learn=True), CosineKernel(0.09, learn=True)])
def test_learned_width_starts_where_told_and_has_a_gradient(kernel):
    (parameter,) = kernel.parameters()
    assert kernel.temperature.item() == pytest.approx(0.09)
    assert kernel.sigma.item() == pytest.approx(0.3)
    kernel(torch.tensor(0.5)).backward()
    # r = (s - [1]) / tau, so dr / d log tau = -r
    assert parameter.grad.item() == pytest.approx(-kernel(torch.tensor(0.5)).item(), rel=1e-5)


@pytest.mark.parametrize("kernel", [GaussianKernel(), CosineKernel(), CosineCritic(JS)])
def test_fixed_width_is_no_parameter(kernel):
    assert not list(kernel.parameters()) and not kernel.state_dict()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_cosine_critic_is_the_cosine_inside_the_domain(name: str, temperature: float):
    divergence = DIVERGENCES[name]
    low, high = divergence.domain
    critic = COSINES / temperature
    inside = critic[(critic > low + 0.02) & (critic < high - 0.02)]
    r = CosineCritic(divergence, temperature)(inside * temperature)
    torch.testing.assert_close(divergence.critic(r), inside)
    penalties = torch.tensor([TABLE[name].conjugate(t) for t in inside.tolist()], dtype=torch.float64)
    torch.testing.assert_close(divergence.penalty(r), penalties)


@pytest.mark.parametrize("name", ["js", "sh", "vlc", "tsallis", "rkl", "neyman"])
def test_cosine_critic_is_clamped_outside_the_domain(name: str):
    """The cosine can leave these domains; there the pair keeps the value at the border and has no gradient."""
    divergence = DIVERGENCES[name]
    low, high = divergence.domain
    outside = COSINES[COSINES.clamp(low + 0.02, high - 0.02) != COSINES].requires_grad_()
    critic = divergence.critic(CosineCritic(divergence)(outside))
    torch.testing.assert_close(critic.detach(), outside.detach().clamp(low + 0.02, high - 0.02))
    (gradient,) = torch.autograd.grad(critic.sum(), outside)
    assert len(gradient) and (gradient == 0).all()


@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", RECOMMENDED)
def test_cosine_critic_is_finite_everywhere(name: str, dtype: torch.dtype, temperature: float):
    divergence = DIVERGENCES[name]
    s = torch.linspace(-1.000001, 1.000001, 401, dtype=dtype).requires_grad_()  # rounding can pass 1
    r = CosineCritic(divergence, temperature)(s)
    for value in (divergence.critic(r), divergence.penalty(r)):
        (gradient,) = torch.autograd.grad(value.sum(), s, retain_graph=True)
        assert value.isfinite().all() and gradient.isfinite().all()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_range_check_accepts_exactly_what_float32_holds(name: str):
    """From wide to narrow: accepted kernels give finite values and gradients at every cosine."""
    divergence = DIVERGENCES[name]
    for sigma in (1.0, 0.3, 0.2, 0.15, 0.1, 0.05):
        kernel = GaussianKernel(sigma)
        s = torch.linspace(-1, 1, 101).requires_grad_()
        values = torch.cat([divergence.critic(kernel(s)), divergence.penalty(kernel(s))])
        (gradient,) = torch.autograd.grad(values.sum(), s)
        if values.isfinite().all() and gradient.isfinite().all() and values.abs().max() < 1e30:
            check_float32_range(divergence, kernel)
        else:
            with pytest.raises(ValueError, match="too large for float32"):
                check_float32_range(divergence, kernel)


@pytest.mark.parametrize(
    ("divergence", "kernel", "score", "cosine"),
    [(SH, GaussianKernel(sigma=0.1), "critic", "-1"), (PEARSON, CosineKernel(0.01), "critic", "1")],
)
def test_range_error_names_the_score_and_what_to_do(divergence, kernel, score: str, cosine: str):
    with pytest.raises(ValueError) as error:
        check_float32_range(divergence, kernel)
    width = f"{float(kernel.sigma):.3g}"
    pattern = rf"{score} of divergence '{divergence.name}' .* at cosine {cosine}, .* wider kernel than sigma = {width}"
    assert re.search(pattern, str(error.value))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("rbf", {}, "kernel must be one of gaussian, cosine, cosine-critic, got 'rbf'"),
        ("gaussian", {"temperature": 0.05}, "gaussian kernel takes sigma and mu, not temperature"),
        ("cosine", {"sigma": 0.2, "mu": 1.0}, "cosine kernel takes temperature, not sigma or mu"),
        ("gaussian", {"sigma": 0.0}, "sigma must be a positive finite number, got 0.0"),
        ("gaussian", {"sigma": -1.0}, "sigma must be a positive"),
        ("gaussian", {"sigma": math.nan}, "sigma must be a positive"),
        ("gaussian", {"mu": 2.5}, "mu must be above 0 and at most 2"),
        ("gaussian", {"mu": 0.0}, "mu must be above 0"),
        ("cosine", {"temperature": 0.0}, "temperature must be a positive finite number"),
        ("cosine-critic", {"temperature": -1.0}, "temperature must be a positive finite number"),
        ("cosine-critic", {"learn": True}, "learn_kernel does not go with .*cosine-critic"),
    ],
)
def test_errors(name: str, settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        kernel_named(name, **settings, divergence=JS)


def test_cosine_critic_of_jeffreys_has_a_slope_at_a_critic_of_one():
    cosine = torch.ones((), dtype=torch.float64, requires_grad=True)
    with pytest.warns(UserWarning, match="rules out Jeffreys"):
        kernel = CosineCritic(divergence_named("jeffreys"))
    r = kernel(cosine)
    r.backward()
    assert cosine.grad.item() == pytest.approx(1 / (1 + math.exp(-r.item())))  # of the inverse of 1 + r - e^-r


@pytest.mark.parametrize("kernel", [GaussianKernel("measured"), CosineKernel("measured")], ids=["sigma", "tau"])
def test_a_width_that_nothing_has_measured_is_no_number(kernel):
    x = torch.eye(3)
    with pytest.raises(ValueError, match=r"'measured'.*no batch"):
        infonce(x, x, kernel=kernel)


def test_cosine_critic_needs_a_divergence():
    with pytest.raises(ValueError, match="one of gaussian, cosine, got 'cosine-critic'"):
        kernel_named("cosine-critic")


def test_kernel_named_passes_every_setting():
    kernel = kernel_named("gaussian", sigma=0.4, mu=0.5, learn=True)
    assert kernel.sigma.item() == pytest.approx(0.4) and kernel.mu == 0.5
    assert kernel_named("cosine", temperature=0.3).temperature == pytest.approx(0.3)
    assert kernel_named("cosine-critic", temperature=0.3, divergence=JS).temperature == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("objective", "settings", "start"),
    [
        *((*case, start) for case in [(dcl, {}), (dhel, {}), (fmicl, {"shift": "batch"})] for start in (0.2, 0.008)),
        (fmicl, {"alpha": Alpha("auto", decay=0.0)}, 0.2),  # at 0.008 the ratio of a coincident pair is not in float32
    ],
)
def test_a_learned_width_does_not_shrink_without_end(objective, settings: dict, start: float):
    """Positives coincide and negatives do not: with vectors at rest, each step of the width lowers the loss."""
    x = torch.eye(6)
    kernel = CosineKernel(start, learn=True)
    optimiser = torch.optim.SGD(kernel.parameters(), lr=0.1)
    for _ in range(100):
        loss = sum(objective(x, x, kernel=kernel, **settings).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    floor = min(0.01, start / 2)
    assert kernel.temperature.item() == pytest.approx(floor, rel=1e-5) and loss.isfinite()


def test_where_the_positive_is_in_the_denominator_the_width_stays_away_from_the_floor():
    x, y = (normalize(v, dim=1) for v in torch.randn(2, 20, 8, generator=torch.Generator().manual_seed(0)))
    y = normalize(x + 0.9 * y, dim=1)
    for settings in ({"divergence": KL}, {"divergence": JS}):
        kernel = CosineKernel(0.05, learn=True)
        optimiser = torch.optim.Adam(kernel.parameters(), lr=0.05)
        for _ in range(200):
            loss = sum(fmicl(x, y, kernel=kernel, negatives="cross", shift="row", **settings).values())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert kernel.temperature.item() > 0.05


@pytest.mark.parametrize(
    ("alpha", "message"),
    [
        (
            Alpha(balance_cosine=0.1),
            r"alpha = 1\.2e\+39 \(of balance_cosine 0\.1, .* than sigma = 0\.1 \(temperature 0\.01\)",
        ),
        (Alpha("auto"), r"alpha = 2\.7e\+43 \(of auto, where log u is -100 at cosine 0\).* sigma = 0\.1"),
        (Alpha(1e31), r"alpha = 1\.0e\+31 makes the negative term as large as 1\.0e\+31, too large for float32"),
        (1e31, r"alpha = 1\.0e\+31 makes .* or a smaller alpha"),
    ],
)
def test_a_weight_that_overflows_float32(alpha, message: str):
    """Refused by name, also where it is only the product that overflows; the recipes' own are not."""
    with pytest.raises(ValueError, match=message):
        check_float32_range(KL, GaussianKernel(0.1), alpha)
    for fine in (Alpha(balance_cosine=0.1), Alpha("auto"), Alpha(409600), 409600, None):
        check_float32_range(KL, GaussianKernel(0.158), fine)


def test_what_is_not_refused_is_finite():
    """The narrowest kernels that are let through, with a negative pair that coincides."""
    x = torch.eye(4)[[0, 0, 1, 2]].requires_grad_()
    for sigma in torch.linspace(0.05, 0.3, 26).tolist():
        for alpha in (Alpha(balance_cosine=0.1), Alpha(balance_cosine=-0.5), Alpha("auto"), Alpha(1e25)):
            for divergence in (KL, PEARSON, JS):
                try:
                    check_float32_range(divergence, GaussianKernel(sigma), alpha)
                except ValueError:
                    continue
                loss = sum(fmicl(x, x, divergence=divergence, kernel=GaussianKernel(sigma), alpha=alpha).values())
                (gradient,) = torch.autograd.grad(loss, x)
                assert loss.isfinite() and gradient.isfinite().all()
