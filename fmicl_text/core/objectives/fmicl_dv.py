r"""f-MICL in the form of Donsker and Varadhan: the critic shifted by the constant that makes the bound tightest.

Lu et al., TMLR 2023, arXiv 2402.10150, section on InfoNCE and alignment-uniformity; for the shift: Ruderman, Reid,
Garcia-Garcia, Petterson, "Tighter Variational Representations of f-Divergences", ICML 2012, arXiv 1206.4664.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fmicl_text.core.batch import Batch, Terms, objective
from fmicl_text.core.devices import row_mean
from fmicl_text.core.divergence import Divergence
from fmicl_text.core.divergences.kl import DIVERGENCE as KL
from fmicl_text.core.kernels import GaussianKernel, Kernel
from fmicl_text.core.pairs import Block
from fmicl_text.core.reduce import log_pair_mean, pair_mean

_MARGIN = 1e-14
"""How far the shifted critic stays inside an open conjugate domain."""
_EXACT = 1e-6
"""How near 0 the log of the mean ratio must come; the loss is off by the square of it."""
_STEPS, _FARTHEST = 100, 1e40


@objective
def fmicl_dv(
    batch: Batch, *, divergence: Divergence = KL, kernel: Kernel | None = None, negatives: str = "within"
) -> Terms:
    r"""DV-shifted f-MICL: no ``alpha``, the shift sets the balance of the two terms in each batch.

        loss = min over v of  -mean_i( f'(u(x_i, y_i)) - v ) + mean over negative pairs of f*( f'(u) - v )

    The best ``v`` makes the shifted density ratio ``(f')^{-1}(f'(u) - v)`` 1 on average over the negative pairs, as a
    density ratio is. For KL it is ``log mean u``, and

        loss = -mean_i log u(x_i, y_i) + log mean over negative pairs of u

    Minus the loss is a lower bound of the f-mutual information, the tightest that shifts of this critic give.

    Args:
        batch: The pairs.
        divergence: The divergence ``f``.
        kernel: The density ratio ``u`` of a pair; default :class:`GaussianKernel`.
        negatives: ``within``, ``cross`` or ``both``, see :data:`fmicl_text.core.batch.NEGATIVES`.
    """
    kernel = kernel or GaussianKernel()
    blocks = batch.negatives(negatives)
    shift = _best_shift(blocks, kernel, divergence)
    own = divergence.critic(batch.own(kernel))  # (B,)
    positive = row_mean(own) - shift.to(own.dtype)
    return {"positive": -positive, "negative": pair_mean(blocks, kernel, _shifted(divergence, shift))}


def _shifted(divergence: Divergence, shift: Tensor) -> Callable[[Tensor], Tensor]:
    """Return ``r -> f*(f'(u) - v)``, below its domain the constant of the monotone conjugate."""
    return lambda r: divergence.penalty(_shifted_ratio(divergence, shift, r)).to(r.dtype)


def _shifted_ratio(divergence: Divergence, shift: Tensor, r: Tensor) -> Tensor:
    """Return ``r -> log (f')^{-1}(f'(u) - v)``, taken just inside the ends of the critic's domain beyond them.

    In float64: the ratio of a pair that outweighs a million others is that near to the end.
    """
    low, high = divergence.domain
    critic = divergence.critic(r.double()) - shift
    return divergence.inverse_critic(critic.clamp(low + _MARGIN, high - _MARGIN))


@torch.no_grad()
def _best_shift(blocks: Sequence[Block], kernel: Kernel, divergence: Divergence) -> Tensor:
    """Solve ``mean over pairs of the shifted density ratio = 1``; the mean falls as the shift rises."""
    end = divergence.domain[1] - _MARGIN

    def excess(shift: Tensor) -> Tensor:
        def ratio(r: Tensor) -> Tensor:  # infinite beyond the end, so that no shift takes a pair there
            beyond = divergence.critic(r.double()) - shift > end
            return _shifted_ratio(divergence, shift, r).exp().masked_fill(beyond, torch.inf)

        return log_pair_mean(blocks, kernel, ratio)

    coincident = kernel(torch.ones_like(blocks[0].rows.vectors[0, 0])).double()
    high = divergence.critic(coincident) - divergence.critic(torch.zeros_like(coincident))  # no ratio is above 1 there
    at_high, step = excess(high), 1.0
    low, at_low = high, at_high
    while at_low < -_EXACT and step < _FARTHEST:
        high, at_high = low, at_low
        low = high - step
        at_low, step = excess(low), 2 * step
    # Regula falsi, halving the value at an end that stays (Illinois); exact at once for KL, where it is a line.
    shift, value = low, at_low
    for _ in range(_STEPS):
        if abs(value) < _EXACT or not low < high:
            return shift
        shift = (low + high) / 2 if at_low.isinf() else (low * at_high - high * at_low) / (at_high - at_low)
        value = excess(shift)
        if value > 0:
            low, at_low, at_high = shift, value, at_high / 2
        else:
            high, at_high, at_low = shift, value, at_low / 2
    return high
