"""Reverse Kullback-Leibler: ``f(u) = -log u``; the paper's theory rules it out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fmicl_text.core.divergence import Divergence


def generator(u: Tensor) -> Tensor:
    """Return ``-log u``."""
    return -torch.log(u)


def critic(r: Tensor) -> Tensor:
    """Return ``f'(u) = -1/u``."""
    return -torch.exp(-r)


def penalty(r: Tensor) -> Tensor:
    """Return ``f*(f'(u)) = log u - 1``."""
    return r - 1


def inverse_critic(t: Tensor) -> Tensor:
    """Return ``r = -log(-t)``."""
    return -torch.log(-t)


DIVERGENCE = Divergence(
    name="rkl",
    title="reverse Kullback-Leibler",
    generator=generator,
    critic=critic,
    penalty=penalty,
    inverse_critic=inverse_critic,
    domain=(-math.inf, 0.0),
    ruled_out="its penalty is linear in the squared distance, so any centred set of points minimises it",
)
