"""Vincze-Le Cam: ``f(u) = (u - 1)^2 / (u + 1)``.

With ``p = u/(1+u)``, the sigmoid of ``r``: ``f'(u) = 1 - 4/(u+1)^2 = 1 - 4(1-p)^2 = 4p(2-p) - 3`` and
``f*(f'(u)) = (3u+1)(u-1)/(u+1)^2 = (2p+1)(2p-1)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fmicl_text.core.conjugate import Conjugate
from fmicl_text.core.divergence import Divergence


def generator(u: Tensor) -> Tensor:
    """Return ``(u - 1)^2 / (u + 1)``."""
    return (u - 1).square() / (u + 1)


def critic(r: Tensor) -> Tensor:
    """Return ``f'(u) = 4p (2 - p) - 3``."""
    return 4 * torch.sigmoid(r) * (2 - torch.sigmoid(r)) - 3


def penalty(r: Tensor) -> Tensor:
    """Return ``f*(f'(u)) = 4p^2 - 1``."""
    return 4 * torch.sigmoid(r).square() - 1


def inverse_critic(t: Tensor) -> Tensor:
    """Return ``r = log(2 / sqrt(1 - t) - 1)``."""
    return torch.log(2 / torch.sqrt(1 - t) - 1)


def ratio(t: Tensor) -> Tensor:
    """Return ``u = 2 / sqrt(1 - t) - 1``."""
    return 2 * torch.rsqrt(1 - t) - 1


def value(u: Tensor) -> Tensor:
    """Return ``f*(f'(u)) + f(0) = 4p^2``."""
    return 4 * (u / (1 + u)).square()


def curvature(u: Tensor) -> Tensor:
    """Return ``1/f''(u) = (1 + u)^3 / 8``, 0 at 0."""
    return (1 + u) ** 3 / 8 * (u > 0)


DIVERGENCE = Divergence(
    name="vlc",
    title="Vincze-Le Cam",
    generator=generator,
    critic=critic,
    penalty=penalty,
    inverse_critic=inverse_critic,
    domain=(-3.0, 1.0),
    closed_conjugate=Conjugate(ratio, value, curvature),
)
