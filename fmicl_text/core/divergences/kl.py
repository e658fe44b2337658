"""Kullback-Leibler: ``f(u) = u log u``."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fmicl_text.core.conjugate import Conjugate
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


def ratio(t: Tensor) -> Tensor:
    """Return ``u = e^(t - 1)``."""
    return torch.exp(t - 1)


def identity(u: Tensor) -> Tensor:
    """Return ``u``, which is ``f*(f'(u))``, ``f(0)`` being 0, and ``1/f''(u)``."""
    return u


DIVERGENCE = Divergence(
    name="kl",
    title="Kullback-Leibler",
    generator=generator,
    critic=critic,
    penalty=torch.exp,  # f*(f'(u)) = u
    inverse_critic=inverse_critic,
    domain=(-math.inf, math.inf),
    closed_conjugate=Conjugate(ratio, identity, identity),
)
