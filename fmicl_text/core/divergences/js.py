"""Jensen-Shannon: ``f(u) = u log u - (u + 1) log((u + 1) / 2)``."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from fmicl_text.core.conjugate import Conjugate
from fmicl_text.core.divergence import Divergence

_LOG2 = math.log(2.0)


def generator(u: Tensor) -> Tensor:
    """Return ``u log u - (u + 1) log((u + 1) / 2)``."""
    return torch.xlogy(u, u) - (u + 1) * torch.log((u + 1) / 2)


def critic(r: Tensor) -> Tensor:
    """Return ``f'(u) = log 2 + log(u / (1 + u))``."""
    return _LOG2 - softplus(-r)


def penalty(r: Tensor) -> Tensor:
    """Return ``f*(f'(u)) = log((1 + u) / 2)``."""
    return softplus(r) - _LOG2


def inverse_critic(t: Tensor) -> Tensor:
    """Return ``r = log(e^t / (2 - e^t))``."""
    return t - torch.log(2 - torch.exp(t))


def ratio(t: Tensor) -> Tensor:
    """Return ``u = e^t / (2 - e^t)``."""
    double = torch.exp(t)  # 2u / (1 + u)
    return double / (2 - double)


def value(u: Tensor) -> Tensor:
    """Return ``f*(f'(u)) + f(0) = log(1 + u)``."""
    return torch.log1p(u)


def curvature(u: Tensor) -> Tensor:
    """Return ``1/f''(u) = u (1 + u)``."""
    return u * (1 + u)


DIVERGENCE = Divergence(
    name="js",
    title="Jensen-Shannon",
    generator=generator,
    critic=critic,
    penalty=penalty,
    inverse_critic=inverse_critic,
    domain=(-math.inf, _LOG2),
    closed_conjugate=Conjugate(ratio, value, curvature),
)
