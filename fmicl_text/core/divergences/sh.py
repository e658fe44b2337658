"""Squared Hellinger: ``f(u) = (sqrt(u) - 1)^2``."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fmicl_text.core.conjugate import Conjugate
from fmicl_text.core.divergence import Divergence


def generator(u: Tensor) -> Tensor:
    """Return ``(sqrt(u) - 1)^2``."""
    return (u.sqrt() - 1).square()


def critic(r: Tensor) -> Tensor:
    """Return ``f'(u) = 1 - u^(-1/2)``."""
    return 1 - torch.exp(-r / 2)


def penalty(r: Tensor) -> Tensor:
    """Return ``f*(f'(u)) = sqrt(u) - 1``."""
    return torch.exp(r / 2) - 1


def inverse_critic(t: Tensor) -> Tensor:
    """Return ``r = -2 log(1 - t)``."""
    return -2 * torch.log1p(-t)


def ratio(t: Tensor) -> Tensor:
    """Return ``u = 1 / (1 - t)^2``."""
    return (1 - t) ** -2


def value(u: Tensor) -> Tensor:
    """Return ``f*(f'(u)) + f(0) = sqrt(u)``."""
    return u.sqrt()


def curvature(u: Tensor) -> Tensor:
    """Return ``1/f''(u) = 2 u^(3/2)``."""
    return 2 * u * u.sqrt()


DIVERGENCE = Divergence(
    name="sh",
    title="squared Hellinger",
    generator=generator,
    critic=critic,
    penalty=penalty,
    inverse_critic=inverse_critic,
    domain=(-math.inf, 1.0),
    closed_conjugate=Conjugate(ratio, value, curvature),
)
