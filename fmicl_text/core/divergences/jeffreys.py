"""Jeffreys: ``f(u) = (u - 1) log u``; the paper lists it but does not use it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fmicl_text.core.divergence import Divergence


def generator(u: Tensor) -> Tensor:
    """Return ``(u - 1) log u``."""
    return (u - 1) * torch.log(u)


def critic(r: Tensor) -> Tensor:
    """Return ``f'(u) = 1 + log u - 1/u``."""
    return 1 + r - torch.exp(-r)


def penalty(r: Tensor) -> Tensor:
    """Return ``f*(f'(u)) = u - 1 + log u``."""
    return torch.exp(r) - 1 + r


def inverse_critic(t: Tensor) -> Tensor:
    """Solve ``1 + r - e^{-r} = t`` by Newton's method; the left side is increasing and concave in ``r``."""
    # Left of the root a concave function's Newton steps rise to it without overshooting.
    r = torch.where(t < 0, -torch.log1p(-t.clamp(max=0)), t - 1)  # unclamped, its slope at 1 would be NaN in both
    for _ in range(60):
        r = r - (1 + r - torch.exp(-r) - t) / (1 + torch.exp(-r))
    return r


DIVERGENCE = Divergence(
    name="jeffreys",
    title="Jeffreys",
    generator=generator,
    critic=critic,
    penalty=penalty,
    inverse_critic=inverse_critic,
    domain=(-math.inf, math.inf),
    ruled_out="its penalty is unbounded below and its attraction grows as 1/u; the paper lists it but does not use it",
)
