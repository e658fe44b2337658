"""Pearson chi squared: ``f(u) = (u - 1)^2``."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fmicl_text.core.conjugate import Conjugate
from fmicl_text.core.divergence import Divergence


def generator(u: Tensor) -> Tensor:
    """Return ``(u - 1)^2``."""
    return (u - 1).square()


def critic(r: Tensor) -> Tensor:
    """Return ``f'(u) = 2 (u - 1)``."""
    return 2 * (torch.exp(r) - 1)


def penalty(r: Tensor) -> Tensor:
    """Return ``f*(f'(u)) = u^2 - 1``."""
    return torch.exp(2 * r) - 1


def inverse_critic(t: Tensor) -> Tensor:
    """Return ``r = log(1 + t / 2)``."""
    return torch.log1p(t / 2)


def ratio(t: Tensor) -> Tensor:
    """Return ``u = 1 + t/2``."""
    return 1 + t / 2


def value(u: Tensor) -> Tensor:
    """Return ``f*(f'(u)) + f(0) = u^2``."""
    return u.square()


def curvature(u: Tensor) -> Tensor:
    """Return ``1/f''(u) = 1/2``, 0 at 0."""
    return (u > 0) / u.new_tensor(2)


DIVERGENCE = Divergence(
    name="pearson",
    title="Pearson chi squared",
    generator=generator,
    critic=critic,
    penalty=penalty,
    inverse_critic=inverse_critic,
    domain=(-2.0, math.inf),
    closed_conjugate=Conjugate(ratio, value, curvature),
)
