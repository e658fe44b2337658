"""Critics and penalties against the table of f-divergences, and the identities that make them a conjugate pair."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.formulas import RECOMMENDED, RULED_OUT, TABLE, Row
from reference.formulas import tsallis as tsallis_row

from fmicl_text.core import DIVERGENCES, Divergence, divergence_named, tsallis
from fmicl_text.core.conjugate import derived

ORDERS = (1.1, 1.5, 2.0, 3.0)
PAIRS = [pytest.param(DIVERGENCES[name], TABLE[name], id=name) for name in TABLE]
PAIRS += [pytest.param(tsallis(a), tsallis_row(a), id=f"tsallis-{a}") for a in ORDERS]
LOG_RATIOS = torch.linspace(-8, math.log(2), 201, dtype=torch.float64)


def scalars(function, values) -> list[float]:
    return [function(float(value)) for value in values]


def test_every_divergence_has_a_reference():
    assert set(DIVERGENCES) == set(TABLE)
    assert {name for name, divergence in DIVERGENCES.items() if divergence.ruled_out} == set(RULED_OUT)


@pytest.mark.parametrize(("divergence", "row"), PAIRS)
def test_functions_are_those_of_the_table(divergence: Divergence, row: Row):
    u = LOG_RATIOS.exp()
    for mine, theirs in (
        (divergence.generator(u), scalars(row.f, u)),
        (divergence.critic(LOG_RATIOS), scalars(row.slope, u)),
        (divergence.penalty(LOG_RATIOS), scalars(row.penalty, u)),
    ):
        torch.testing.assert_close(mine, torch.tensor(theirs, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.at_half])
def test_golden_values_at_half(name: str):
    r = torch.tensor(0.5, dtype=torch.float64).log()
    values = DIVERGENCES[name].critic(r).item(), DIVERGENCES[name].penalty(r).item()
    assert values == pytest.approx(TABLE[name].at_half, abs=1e-6)


def test_golden_tsallis_is_the_papers_up_to_its_constant():
    r = torch.tensor(0.5, dtype=torch.float64).log()
    assert tsallis(1.5).critic(r).item() == pytest.approx(2.121320, abs=1e-6)
    assert tsallis(1.5).penalty(r).item() == pytest.approx(0.353553 + 1 / (1.5 - 1), abs=1e-6)


@pytest.mark.parametrize(("divergence", "row"), PAIRS)
def test_generator_and_penalty_at_one(divergence: Divergence, row: Row):
    """``f(1) = 0``, hence ``f*(f'(1)) = f'(1)``; the paper's printed Vincze-Le Cam column fails this."""
    one, zero = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    assert divergence.generator(one).item() == pytest.approx(0, abs=1e-12)
    assert divergence.penalty(zero).item() == pytest.approx(divergence.critic(zero).item(), abs=1e-12)


@pytest.mark.parametrize(("divergence", "row"), PAIRS)
@given(r=st.floats(-10, 0.69), other=st.floats(-10, 0.69))
@settings(max_examples=50)
def test_fenchel(divergence: Divergence, row: Row, r: float, other: float):
    """``f*(f'(u)) = u f'(u) - f(u)``, and no other v does better: ``v f'(u) - f(v) <= f*(f'(u))``."""
    r_u, r_v = torch.tensor([r, other], dtype=torch.float64)
    slope, penalty = divergence.critic(r_u), divergence.penalty(r_u)
    scale = 1 + abs(slope.item()) + abs(penalty.item())
    assert (r_u.exp() * slope - divergence.generator(r_u.exp()) - penalty).abs() <= 1e-9 * scale
    assert r_v.exp() * slope - divergence.generator(r_v.exp()) <= penalty + 1e-9 * scale


@pytest.mark.parametrize(("divergence", "row"), PAIRS)
def test_slopes_are_pull_and_push(divergence: Divergence, row: Row):
    """In ``r = log u`` the critic's slope is ``u f''(u)`` and the penalty's is u times that."""
    r = LOG_RATIOS.clone().requires_grad_()
    (pull,) = torch.autograd.grad(divergence.critic(r).sum(), r)
    (push,) = torch.autograd.grad(divergence.penalty(r).sum(), r)
    curvature = torch.tensor(scalars(row.curvature, LOG_RATIOS.exp()), dtype=torch.float64)
    torch.testing.assert_close(pull, curvature / LOG_RATIOS.exp(), rtol=1e-9, atol=0)
    torch.testing.assert_close(push, curvature, rtol=1e-9, atol=0)
    assert (pull > 0).all()


@pytest.mark.parametrize("function", ["critic", "penalty"])
@pytest.mark.parametrize(("divergence", "row"), [p for p in PAIRS if p.id not in RULED_OUT])
def test_float32_is_accurate_from_coincident_to_antipodal_pairs(divergence: Divergence, row: Row, function: str):
    """The value, and to relative precision its slope: alpha multiplies a small slope by up to a million.

    ``log u`` goes down to -32 at the default width, -80 at the paper's.
    """
    r = torch.linspace(-32, math.log(2), 400).requires_grad_()
    u = r.detach().double().exp()
    value = getattr(divergence, function)(r)
    (slope,) = torch.autograd.grad(value.sum(), r)
    curvature = torch.tensor(scalars(row.curvature, u)).double()
    expected_slope = curvature / u if function == "critic" else curvature
    expected_value = scalars(row.slope if function == "critic" else row.penalty, u)
    torch.testing.assert_close(value.double(), torch.tensor(expected_value).double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(slope.double(), expected_slope, rtol=1e-4, atol=1e-37)


@pytest.mark.parametrize(("divergence", "row"), PAIRS)
def test_inverse_critic_and_its_domain(divergence: Divergence, row: Row):
    r = torch.linspace(-8, 8, 101, dtype=torch.float64)
    critic = divergence.critic(r)
    low, high = divergence.domain
    assert ((low < critic) & (critic < high)).all()
    inside = (critic - low > 1e-4) & (high - critic > 1e-4)  # nearer the end the inverse has no digits
    torch.testing.assert_close(divergence.inverse_critic(critic[inside]), r[inside], rtol=1e-8, atol=1e-8)
    far = divergence.critic(torch.tensor([-700.0, 700.0], dtype=torch.float64))  # the domain's ends are the critic's
    for end, limit in zip(far.tolist(), divergence.domain, strict=True):
        assert end == pytest.approx(limit) if math.isfinite(limit) else abs(end) > 600


@pytest.mark.parametrize("how", ["closed", "derived"])
@pytest.mark.parametrize(("divergence", "row"), PAIRS)
def test_conjugate_and_its_derivatives(divergence: Divergence, row: Row, how: str):
    """``f*'(f'(u)) = u`` and ``f*''(f'(u)) = 1/f''(u)``; below the domain ``f*`` is constant, at ``-f(0)``."""
    conjugate = divergence.closed_conjugate if how == "closed" else derived(divergence)
    if conjugate is None:
        assert divergence.ruled_out or divergence.name == "kl", "whose shift is found without a search"
        conjugate = divergence.conjugate
    r = torch.linspace(-6, 3, 101, dtype=torch.float64)
    u, nothing = r.exp(), torch.zeros((), dtype=torch.float64)
    torch.testing.assert_close(conjugate.ratio(divergence.critic(r)), u, rtol=1e-8, atol=0)
    f_0 = divergence.generator(nothing).item()
    penalty, curvature = (torch.tensor(scalars(f, u), dtype=torch.float64) for f in (row.penalty, row.curvature))
    expected = penalty + (f_0 if math.isfinite(f_0) else 0)
    torch.testing.assert_close(conjugate.value(u), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(conjugate.curvature(u), u.square() / curvature, rtol=1e-9, atol=0)
    low = torch.tensor(divergence.domain[0], dtype=torch.float64)
    assert [conjugate.ratio(low), conjugate.value(nothing), conjugate.curvature(nothing)] == [0, 0, 0]


@pytest.mark.parametrize("name", RULED_OUT)
def test_ruled_out_divergences_warn(name: str):
    with pytest.warns(UserWarning, match=rf"paper rules out .*\({name}\)"):
        assert divergence_named(name) is DIVERGENCES[name]


@pytest.mark.parametrize("name", RECOMMENDED)
def test_recommended_divergences_do_not_warn(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert divergence_named(name) is DIVERGENCES[name]


def test_order_of_tsallis():
    assert "1.5" in divergence_named("tsallis", order=1.5).title
    r = torch.tensor(-1.0)
    torch.testing.assert_close(divergence_named("tsallis").critic(r), tsallis(2.0).critic(r))


@pytest.mark.parametrize(
    ("name", "order", "message"),
    [
        ("jss", None, "one of .*js, kl, .* got 'jss'; did you mean 'js'"),
        ("total-variation", None, "got 'total-variation'"),
        ("kl", 2.0, "order belongs to the divergence 'tsallis' only"),
        ("tsallis", 1.0, "above 1, got 1.0"),
        ("tsallis", math.inf, "finite number above 1"),
        ("tsallis", math.nan, "finite number above 1"),
    ],
)
def test_errors(name: str, order: float | None, message: str):
    with pytest.raises(ValueError, match=message):
        divergence_named(name, order)
