"""Pearson chi squared: ``f(u) = (u - 1)^2``."""

from __future__ import annotations

import math

import torch
from torch import Tensor

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


DIVERGENCE = Divergence(
    name="pearson",
    title="Pearson chi squared",
    generator=generator,
    critic=critic,
    penalty=penalty,
    inverse_critic=inverse_critic,
    domain=(-2.0, math.inf),
)
