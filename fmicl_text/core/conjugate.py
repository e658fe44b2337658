r"""The convex conjugate of a divergence and its first two derivatives, which the search for a shift needs.

Of ``f*(t) = max over u >= 0 of u t - f(u)`` the maximiser is ``u = f*'(t) = (f')^{-1}(t)``, and ``f*''(t) = 1/f''(u)``.
Value and curvature are functions of ``u`` here, so that the costly step, from ``t`` to ``u``, is taken once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from fmicl_text.core.divergence import Divergence

    Scalar = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Conjugate:
    """``f*`` and its derivatives; every function is elementwise and keeps shape and dtype.

    Attributes:
        ratio: ``t -> u = f*'(t)``, increasing; 0 at the lower end of the domain, which may be minus infinity.
        value: ``u -> f*(f'(u)) + f(0)``, so much above its least, ``-f(0)``; where that is infinite, without it.
        curvature: ``u -> f*''(f'(u)) = 1/f''(u)``; 0 at 0, where ``f*`` is constant.
    """

    ratio: Scalar
    value: Scalar
    curvature: Scalar


def at_zero(generator: Scalar, like: Tensor) -> Tensor:
    """Return ``f(0)``, a scalar; 0 where it is infinite."""
    return generator(like.new_zeros(())).nan_to_num(0, 0, 0)


def derived(divergence: Divergence) -> Conjugate:
    """Return the conjugate of any divergence from its functions of ``log u``; several times slower."""

    def ratio(t: Tensor) -> Tensor:
        return torch.exp(divergence.inverse_critic(t)).where(t > divergence.domain[0], 0)

    def value(u: Tensor) -> Tensor:
        return (divergence.penalty(torch.log(u)) + at_zero(divergence.generator, u)).where(u > 0, 0)

    def curvature(u: Tensor) -> Tensor:
        return (u / derivative(divergence.critic, torch.log(u))).where(u > 0, 0)

    return Conjugate(ratio, value, curvature)


def derivative(function: Scalar, at: Tensor) -> Tensor:
    """Return the derivative of an elementwise function."""
    if torch.compiler.is_compiling():  # cannot take the other way, which is the faster one where nothing is compiled
        return torch.func.jvp(function, (at,), (torch.ones_like(at),))[1]
    with torch.enable_grad():
        at = at.detach().requires_grad_()
        return torch.autograd.grad(function(at).sum(), at)[0]
