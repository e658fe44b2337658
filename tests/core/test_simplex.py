"""The paper's uniformity theorem: what the negative term alone does to points on the sphere.

If ``h(d2) = f*(f'(u))`` is strictly convex in the squared distance and 2 <= N <= D + 1, every minimiser is the
regular simplex: all cosines are -1/(N-1).
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference.formulas import RECOMMENDED
from torch import Tensor
from torch.nn.functional import normalize

from fmicl_text.core import DIVERGENCES, Divergence, GaussianKernel, fmicl, tsallis

WIDTH = GaussianKernel(sigma=math.sqrt(1 / 2))  # c = 1


def minimise_negative_term(divergence: Divergence, points: int, dimension: int) -> tuple[Tensor, Tensor]:
    """Return the points and their cosines ``(points * (points - 1) / 2,)`` at a stationary point."""
    generator = torch.Generator().manual_seed(0)
    free = torch.randn(points, dimension, dtype=torch.float64, generator=generator).requires_grad_()
    optimiser = torch.optim.LBFGS(
        [free], max_iter=500, tolerance_grad=1e-10, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def step() -> Tensor:
        optimiser.zero_grad()
        x = normalize(free, dim=1)
        loss = fmicl(x, x, divergence=divergence, kernel=WIDTH)["negative"]
        loss.backward()
        return loss

    optimiser.step(step)
    x = normalize(free.detach(), dim=1)
    return x, (x @ x.T)[*torch.triu_indices(points, points, offset=1)]


@pytest.mark.parametrize(("points", "dimension"), [(5, 6), (7, 6), (2, 3)])
@pytest.mark.parametrize("name", RECOMMENDED)
def test_recommended_divergences_reach_the_simplex(name: str, points: int, dimension: int):
    _, cosines = minimise_negative_term(DIVERGENCES[name], points, dimension)
    torch.testing.assert_close(cosines, torch.full_like(cosines, -1 / (points - 1)), rtol=0, atol=1e-5)


def test_reverse_kl_stops_at_any_centred_points():
    x, cosines = minimise_negative_term(DIVERGENCES["rkl"], 5, 6)
    torch.testing.assert_close(x.mean(dim=0), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-5)
    assert cosines.max() - cosines.min() > 0.3


def test_neyman_gathers_points_in_opposite_clusters():
    _, cosines = minimise_negative_term(DIVERGENCES["neyman"], 5, 6)
    torch.testing.assert_close(cosines.abs(), torch.ones_like(cosines), rtol=0, atol=1e-4)
    assert cosines.max() > 0 > cosines.min()


def negative_term(divergence: Divergence, sigma: float, mu: float, *distances: float) -> Tensor:
    """``h`` at squared distances, in float64."""
    cosine = 1 - torch.tensor(distances, dtype=torch.float64) / 2
    return divergence.penalty(GaussianKernel(sigma, mu)(cosine))


DISTANCE = st.floats(0, 4)
SIGMA = st.floats(0.15, 2)
FINITE_ORDER = tsallis(1.2), tsallis(3.5)


@pytest.mark.parametrize("divergence", [*(DIVERGENCES[n] for n in RECOMMENDED), *FINITE_ORDER], ids=lambda d: d.title)
@given(near=DISTANCE, far=DISTANCE, sigma=SIGMA, mu=st.floats(0.1, 2))
@settings(max_examples=100)
def test_negative_term_is_strictly_convex_in_squared_distance(
    divergence: Divergence, near: float, far: float, sigma: float, mu: float
):
    """The midpoint lies below the chord: strictly, where float64 can tell, for every mu up to 2."""
    assume(abs(near - far) > 0.1)
    a, middle, b = negative_term(divergence, sigma, mu, near, (near + far) / 2, far)
    floor = negative_term(divergence, sigma, mu, 1e6)  # the limit of far pairs, -f(0)
    chord = (a + b) / 2
    assert middle <= chord + 1e-15
    if max(a, b) - floor > 1e-9:
        assert middle < chord


@given(near=DISTANCE, far=DISTANCE, sigma=st.floats(0.5, 2))
@settings(max_examples=50)
def test_negative_term_of_ruled_out_divergences_is_not_convex(near: float, far: float, sigma: float):
    """Reverse KL is linear, Neyman strictly concave."""
    assume(abs(near - far) > 0.1)
    a, middle, b = negative_term(DIVERGENCES["rkl"], sigma, 1.0, near, (near + far) / 2, far)
    torch.testing.assert_close(middle, (a + b) / 2)
    a, middle, b = negative_term(DIVERGENCES["neyman"], sigma, 1.0, near, (near + far) / 2, far)
    assert middle > (a + b) / 2
