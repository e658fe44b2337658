"""Tsallis of order a > 1: ``f(u) = (u^a - 1) / (a - 1)``."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from fmicl_text.core.conjugate import Conjugate
from fmicl_text.core.divergence import Divergence


def generator(u: Tensor, order: float) -> Tensor:
    """Return ``(u^a - 1) / (a - 1)``."""
    return (u**order - 1) / (order - 1)


def critic(r: Tensor, order: float) -> Tensor:
    """Return ``f'(u) = a/(a - 1) u^(a - 1)``."""
    return order / (order - 1) * torch.exp((order - 1) * r)


def penalty(r: Tensor, order: float) -> Tensor:
    """Return ``f*(f'(u)) = u^a + 1/(a - 1)``."""
    return torch.exp(order * r) + 1 / (order - 1)


def inverse_critic(t: Tensor, order: float) -> Tensor:
    """Return ``r = log((a - 1) t / a) / (a - 1)``."""
    return torch.log(t / (order / (order - 1))) / (order - 1)


def ratio(t: Tensor, order: float) -> Tensor:
    """Return ``u = ((a - 1) t / a)^(1/(a - 1))``."""
    return (t / (order / (order - 1))) ** (1 / (order - 1))


def value(u: Tensor, order: float) -> Tensor:
    """Return ``f*(f'(u)) + f(0) = u^a``."""
    return u**order


def curvature(u: Tensor, order: float) -> Tensor:
    """Return ``1/f''(u) = u^(2 - a) / a``, 0 at 0."""
    return (u ** (2 - order) / order).where(u > 0, 0)


def tsallis(order: float = 2.0) -> Divergence:
    r"""Tsallis divergence of ``order`` a: ``f(u) = (u^a - 1)/(a - 1)``.

    The paper prints ``u^a/(a - 1)``, which is not zero at ``u = 1``; the difference is a constant in the
    penalty and changes no gradient.

    Raises:
        ValueError: If ``order`` is not a finite number above 1.
    """
    if not 1 < order < math.inf:
        raise ValueError(f"order must be a finite number above 1, got {order!r}")
    return Divergence(
        name="tsallis",
        title=f"Tsallis of order {order:g}",
        generator=partial(generator, order=order),
        critic=partial(critic, order=order),
        penalty=partial(penalty, order=order),
        inverse_critic=partial(inverse_critic, order=order),
        domain=(0.0, math.inf),
        closed_conjugate=Conjugate(*(partial(function, order=order) for function in (ratio, value, curvature))),
        with_order=tsallis,
    )


DIVERGENCE = tsallis()
