r"""f-divergences: what a pair's density ratio is worth to the objective.

With the density ratio ``u`` of a pair and ``r = log u``, f-MICL (Lu et al., TMLR 2023, arXiv 2402.10150)
needs two scalar functions of each divergence ``f`` (convex, ``f(1) = 0``):

    critic(r)  = f'(u)                        pulls a positive pair together
    penalty(r) = f*(f'(u)) = u f'(u) - f(u)   pushes a negative pair apart

The second equality is Fenchel's, with ``f*`` the convex conjugate; it is how every ``penalty`` below was
derived. The paper prints another one for Vincze-Le Cam, ``3 - 4/(u+1)``, which is not ``f* o f'`` (it is 1
at ``u = 1`` where the conjugate pair gives 0); this module has the conjugate pair.

Both are written in ``r`` so that their *slopes* are accurate in float32 from coincident to antipodal pairs: the
slope is what trains. Hence ``exp(r) - 1`` and not ``expm1(r)``, whose automatic derivative, ``expm1(r) + 1``, is
rounded to 0 for a dissimilar pair.
"""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

Scalar = Callable[[Tensor], Tensor]

_LOG2 = math.log(2.0)


@dataclass(frozen=True)
class Divergence:
    r"""One f-divergence; every function is elementwise and keeps shape and dtype.

    Attributes:
        name: The name in recipes and arguments, for example ``"js"``.
        title: The name in prose.
        generator: ``f(u)`` for ``u > 0``; not used in training, it defines the divergence.
        critic: ``r -> f'(e^r)``, increasing.
        penalty: ``r -> f*(f'(e^r))``, increasing.
        inverse_critic: ``t -> log (f')^{-1}(t)``, the log ratio at which the critic is ``t``.
        domain: The open interval of ``t`` on which ``inverse_critic`` is finite: ``f'((0, inf))``.
        ruled_out: Why the paper's theory excludes the divergence, or ``None``.
    """

    name: str
    title: str
    generator: Scalar
    critic: Scalar
    penalty: Scalar
    inverse_critic: Scalar
    domain: tuple[float, float]
    ruled_out: str | None = None


KL = Divergence(
    name="kl",
    title="Kullback-Leibler",
    generator=lambda u: torch.xlogy(u, u),
    critic=lambda r: r + 1,
    penalty=torch.exp,
    inverse_critic=lambda t: t - 1,
    domain=(-math.inf, math.inf),
)

JS = Divergence(
    name="js",
    title="Jensen-Shannon",
    generator=lambda u: torch.xlogy(u, u) - (u + 1) * torch.log((u + 1) / 2),
    critic=lambda r: _LOG2 - softplus(-r),
    penalty=lambda r: softplus(r) - _LOG2,
    inverse_critic=lambda t: t - torch.log(2 - torch.exp(t)),
    domain=(-math.inf, _LOG2),
)

PEARSON = Divergence(
    name="pearson",
    title="Pearson chi squared",
    generator=lambda u: (u - 1).square(),
    critic=lambda r: 2 * (torch.exp(r) - 1),
    penalty=lambda r: torch.exp(2 * r) - 1,
    inverse_critic=lambda t: torch.log1p(t / 2),
    domain=(-2.0, math.inf),
)

SH = Divergence(
    name="sh",
    title="squared Hellinger",
    generator=lambda u: (u.sqrt() - 1).square(),
    critic=lambda r: 1 - torch.exp(-r / 2),
    penalty=lambda r: torch.exp(r / 2) - 1,
    inverse_critic=lambda t: -2 * torch.log1p(-t),
    domain=(-math.inf, 1.0),
)

# With p = u/(1+u) = sigmoid(r): 1 - 4/(u+1)^2 = 1 - 4(1-p)^2 = 4p(2-p) - 3 and (3u+1)(u-1)/(u+1)^2 = (2p+1)(2p-1).
VLC = Divergence(
    name="vlc",
    title="Vincze-Le Cam",
    generator=lambda u: (u - 1).square() / (u + 1),
    critic=lambda r: 4 * torch.sigmoid(r) * (2 - torch.sigmoid(r)) - 3,
    penalty=lambda r: 4 * torch.sigmoid(r).square() - 1,
    inverse_critic=lambda t: torch.log(2 / torch.sqrt(1 - t) - 1),
    domain=(-3.0, 1.0),
)


def tsallis(order: float = 2.0) -> Divergence:
    r"""Tsallis divergence of ``order`` a: ``f(u) = (u^a - 1)/(a - 1)``.

    The paper prints ``u^a/(a - 1)``, which is not zero at ``u = 1``; the difference is a constant in the
    penalty and changes no gradient.

    Raises:
        ValueError: If ``order`` is not a finite number above 1.
    """
    if not 1 < order < math.inf:
        raise ValueError(f"order must be a finite number above 1, got {order!r}")
    ratio = order / (order - 1)
    return Divergence(
        name="tsallis",
        title=f"Tsallis of order {order:g}",
        generator=lambda u: (u**order - 1) / (order - 1),
        critic=lambda r: ratio * torch.exp((order - 1) * r),
        penalty=lambda r: torch.exp(order * r) + 1 / (order - 1),
        inverse_critic=lambda t: torch.log(t / ratio) / (order - 1),
        domain=(0.0, math.inf),
    )


RKL = Divergence(
    name="rkl",
    title="reverse Kullback-Leibler",
    generator=lambda u: -torch.log(u),
    critic=lambda r: -torch.exp(-r),
    penalty=lambda r: r - 1,
    inverse_critic=lambda t: -torch.log(-t),
    domain=(-math.inf, 0.0),
    ruled_out="its penalty is linear in the squared distance, so any centred set of points minimises it",
)

NEYMAN = Divergence(
    name="neyman",
    title="Neyman chi squared",
    generator=lambda u: (1 - u).square() / u,
    critic=lambda r: 1 - torch.exp(-2 * r),
    penalty=lambda r: 2 - 2 * torch.exp(-r),
    inverse_critic=lambda t: -torch.log1p(-t) / 2,
    domain=(-math.inf, 1.0),
    ruled_out="its penalty is concave in the squared distance, so points gather in clusters",
)


def _jeffreys_inverse(t: Tensor) -> Tensor:
    """Solve ``1 + r - e^{-r} = t`` by Newton's method; the left side is increasing and concave in ``r``."""
    # Left of the root a concave function's Newton steps rise to it without overshooting.
    r = torch.where(t < 0, -torch.log1p(-t), t - 1)
    for _ in range(60):
        r = r - (1 + r - torch.exp(-r) - t) / (1 + torch.exp(-r))
    return r


JEFFREYS = Divergence(
    name="jeffreys",
    title="Jeffreys",
    generator=lambda u: (u - 1) * torch.log(u),
    critic=lambda r: 1 + r - torch.exp(-r),
    penalty=lambda r: torch.exp(r) - 1 + r,
    inverse_critic=_jeffreys_inverse,
    domain=(-math.inf, math.inf),
    ruled_out="its penalty is unbounded below and its attraction grows as 1/u; the paper lists it but does not use it",
)

DIVERGENCES: dict[str, Divergence] = {d.name: d for d in (KL, JS, PEARSON, SH, tsallis(), VLC, RKL, NEYMAN, JEFFREYS)}
"""Every divergence by name; ``"tsallis"`` at its default order 2."""


def divergence_named(name: str, order: float | None = None) -> Divergence:
    """Return the divergence called ``name``.

    Args:
        name: A key of :data:`DIVERGENCES`.
        order: The order of ``"tsallis"``, default 2; no other divergence takes one.

    Raises:
        ValueError: If the name is unknown, or an order is given to a divergence without one.

    Warns:
        UserWarning: If the paper rules the divergence out (``rkl``, ``neyman``, ``jeffreys``).
    """
    if name not in DIVERGENCES:
        near = difflib.get_close_matches(name, DIVERGENCES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"divergence must be one of {', '.join(DIVERGENCES)}, got {name!r}{hint}")
    if order is not None:
        if name != "tsallis":
            raise ValueError(f"order belongs to the divergence 'tsallis' only, got order={order!r} with {name!r}")
        return tsallis(order)
    divergence = DIVERGENCES[name]
    if divergence.ruled_out:
        warnings.warn(
            f"the f-MICL paper rules out {divergence.title} ({name}): {divergence.ruled_out}", UserWarning, stacklevel=2
        )
    return divergence
