r"""f-divergences: the critic and the penalty of a pair, as functions of its density ratio.

With the density ratio ``u`` of a pair and ``r = log u``, f-MICL (Lu et al., TMLR 2023, arXiv 2402.10150)
needs two scalar functions of each divergence ``f`` (convex, ``f(1) = 0``):

    critic(r)  = f'(u)                        pulls a positive pair together
    penalty(r) = f*(f'(u)) = u f'(u) - f(u)   pushes a negative pair apart

The second equality is Fenchel's, with ``f*`` the convex conjugate; every ``penalty`` in
:mod:`fmicl_text.core.divergences` is derived from it. The paper prints another one for Vincze-Le Cam,
``3 - 4/(u+1)``, which is not ``f* o f'`` (it is 1 at ``u = 1`` where the conjugate pair gives 0); this package uses the
conjugate pair.

Both are written in ``r`` so that their *slopes* are accurate in float32 from coincident to antipodal pairs: the
slope is what trains. Hence ``exp(r) - 1`` and not ``expm1(r)``, whose automatic derivative, ``expm1(r) + 1``, is
rounded to 0 for a dissimilar pair.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmicl_text.core.registry import Registry

if TYPE_CHECKING:
    from fmicl_text.core.conjugate import Conjugate, Scalar


@dataclass(frozen=True)
class Divergence:
    r"""One f-divergence; every function is elementwise and keeps shape and dtype.

    Functions of a module, and :func:`functools.partial` of them, can be pickled; lambdas cannot.

    Attributes:
        name: The name in recipes and arguments, for example ``"js"``.
        title: The name in prose.
        generator: ``f(u)`` for ``u > 0``; it defines the divergence and gives the constants of bounds.
        critic: ``r -> f'(e^r)``, increasing.
        penalty: ``r -> f*(f'(e^r))``, increasing.
        inverse_critic: ``t -> log (f')^{-1}(t)``, the log ratio at which the critic is ``t``.
        domain: The open interval of ``t`` on which ``inverse_critic`` is finite: ``f'((0, inf))``.
        closed_conjugate: ``f*`` and its derivatives as functions of ``u``, where a shift is to be found fast, in
            float32 too; default ``None``: they are derived from the three above, in float64.
        ruled_out: Why the paper's theory excludes the divergence, or ``None``.
        with_order: For a family of divergences, the function from the order to its member; else ``None``.
    """

    name: str
    title: str
    generator: Scalar
    critic: Scalar
    penalty: Scalar
    inverse_critic: Scalar
    domain: tuple[float, float]
    closed_conjugate: Conjugate | None = None
    ruled_out: str | None = None
    with_order: Callable[[float], Divergence] | None = None

    @property
    def conjugate(self) -> Conjugate:
        """``f*`` and its derivatives."""
        from fmicl_text.core.conjugate import derived  # needs torch, which listing the names does not

        return self.closed_conjugate or derived(self)


DIVERGENCES: Registry[Divergence] = Registry.of_files("divergence", "fmicl_text.core.divergences", "DIVERGENCE")
"""Every divergence by name: one file each in ``core/divergences``, and those that were registered."""


def register_divergence(divergence: Divergence) -> None:
    """Make a divergence available under its name, as those of the package are.

    Raises:
        ValueError: If another divergence has the name.
    """
    DIVERGENCES.register(divergence.name, divergence)


def divergence_named(name: str, order: float | None = None) -> Divergence:
    """Return the divergence called ``name``.

    Args:
        name: A key of :data:`DIVERGENCES`.
        order: The order of a family such as ``"tsallis"``; default the family's own.

    Raises:
        ValueError: If the name is unknown, or an order is given to a divergence without one.

    Warns:
        UserWarning: If the paper rules the divergence out (``rkl``, ``neyman``, ``jeffreys``).
    """
    divergence = DIVERGENCES.named(name)
    if order is not None:
        if divergence.with_order is None:
            families = [repr(key) for key, each in DIVERGENCES.items() if each.with_order is not None]
            raise ValueError(
                f"order belongs to the divergence {' or '.join(families)} only, got order={order!r} with {name!r}"
            )
        return divergence.with_order(order)
    if divergence.ruled_out:
        warnings.warn(
            f"the f-MICL paper rules out {divergence.title} ({name}): {divergence.ruled_out}", UserWarning, stacklevel=2
        )
    return divergence
