"""Neyman chi squared: ``f(u) = (1 - u)^2 / u``; the paper's theory rules it out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fmicl_text.core.divergence import Divergence


def generator(u: Tensor) -> Tensor:
    """Return ``(1 - u)^2 / u``."""
    return (1 - u).square() / u


def critic(r: Tensor) -> Tensor:
    """Return ``f'(u) = 1 - u^(-2)``."""
    return 1 - torch.exp(-2 * r)


def penalty(r: Tensor) -> Tensor:
    """Return ``f*(f'(u)) = 2 - 2/u``."""
    return 2 - 2 * torch.exp(-r)


def inverse_critic(t: Tensor) -> Tensor:
    """Return ``r = -log(1 - t) / 2``."""
    return -torch.log1p(-t) / 2


DIVERGENCE = Divergence(
    name="neyman",
    title="Neyman chi squared",
    generator=generator,
    critic=critic,
    penalty=penalty,
    inverse_critic=inverse_critic,
    domain=(-math.inf, 1.0),
    ruled_out="its penalty is concave in the squared distance, so points gather in clusters",
)
