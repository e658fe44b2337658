"""Kullback-Leibler: ``f(u) = u log u``."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fmicl_text.core.divergence import Divergence


def generator(u: Tensor) -> Tensor:
    """Return ``u log u``."""
    return torch.xlogy(u, u)


def critic(r: Tensor) -> Tensor:
    """Return ``f'(u) = log u + 1``."""
    return r + 1


def inverse_critic(t: Tensor) -> Tensor:
    """Return ``r = t - 1``."""
    return t - 1


DIVERGENCE = Divergence(
    name="kl",
    title="Kullback-Leibler",
    generator=generator,
    critic=critic,
    penalty=torch.exp,  # f*(f'(u)) = u
    inverse_critic=inverse_critic,
    domain=(-math.inf, math.inf),
)
