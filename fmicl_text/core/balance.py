r"""Width and balance of f-MICL without a shift, measured from the encoder's own cosines.

**Balance.** A pair at density ratio ``u`` is pushed ``alpha u`` times as hard as a positive at the same ``u`` is
pulled, see :mod:`fmicl_text.core.alpha`. All negatives together push as hard as the positives pull when

    alpha mean u = 1    (over negative pairs; exact for KL, whose pull is the same at every u).

With ``u = exp((s - 1)/tau)`` and ``alpha = 1/u(s*)`` this is a statement on the cosine of balance alone, in which a
constant factor of ``u`` cancels:

    s* = tau log mean exp(s / tau)

the soft maximum of the negatives' cosines. Where ``alpha mean u`` is far above 1, the first steps are push alone, and
positives move apart; far below, pull alone, and everything moves together.

**Width.** For cosines of mean m and standard deviation d that are about normal, ``exp(s/tau)`` weighs them as if their
mean were ``m + d^2/tau``: the push acts ``d/tau`` standard deviations above the mean, where of n pairs the share
``exp(-(d/tau)^2)`` counts in effect. A wide kernel pushes all pairs alike and learns nothing from hard ones; a narrow
one sees only the few hardest of a batch. At two standard deviations 1.8 percent count, some 70 pairs of a batch of 64:

    tau = d / 2,    sigma = sqrt(tau)

MiniLM's cosines of unrelated sentences have d = 0.1, whence SimCSE's tau of 0.05.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fmicl_text.core.batch import Batch
from fmicl_text.core.checks import require_positive
from fmicl_text.core.cosines import all_cosines
from fmicl_text.core.kernels import NARROWEST
from fmicl_text.core.tiles import left_out

_DEVIATIONS = 2.0
"""How many standard deviations above their mean the negatives' push acts."""
_WIDEST = 1.0


class Balance(NamedTuple):
    """A width and a balance, and what they were measured from.

    Attributes:
        temperature: ``tau``.
        sigma: ``sqrt(tau)``.
        balance_cosine: ``s*``.
        alpha: ``exp((1 - s*)/tau)``, the weight under a Gaussian kernel with ``mu = 1``.
        positive: Mean cosine of the positive pairs.
        negative: Mean cosine of the negative pairs.
        spread: Standard deviation of the cosines of the negative pairs.
        positives: How many positive pairs there were.
        negatives: How many negative pairs there were.
    """

    temperature: float
    sigma: float
    balance_cosine: float
    alpha: float
    positive: float
    negative: float
    spread: float
    positives: int
    negatives: int


@torch.no_grad()
def measure_balance(positive: Tensor, negative: Tensor, temperature: float | None = None) -> Balance:
    """Return the width and the balance for an encoder with these cosines.

    Args:
        positive: Cosines of positive pairs ``(P,)``, of a few batches.
        negative: Cosines of negative pairs ``(N,)``, of the kind that the objective will have.
        temperature: ``tau`` if the width is given, as ``sigma**2`` of a Gaussian kernel; default by the spread of the
            negatives, between 0.01 and 1.

    Raises:
        ValueError: If there are no positive, or fewer than two negative pairs; if a cosine is not a number, or beyond
            1 by more than rounding; if ``temperature`` is not positive.
    """
    if positive.numel() == 0 or negative.numel() < 2:
        raise ValueError(
            "the balance is measured from at least 1 positive and 2 negative pairs, "
            f"got {positive.numel()} and {negative.numel()}"
        )
    positive, negative = (cosines.detach().flatten().cpu().double() for cosines in (positive, negative))
    largest = torch.cat([positive, negative]).abs().max().item()
    if not largest <= 1.01:
        raise ValueError(f"cosines must be between -1 and 1, got {largest!r}")
    spread = negative.std().item()
    if temperature is None:
        temperature = min(max(spread / _DEVIATIONS, NARROWEST), _WIDEST)
    require_positive(temperature=temperature)
    mean = (negative / temperature).logsumexp(dim=0).item() - math.log(len(negative))  # log mean exp(s / tau)
    balance = min(max(temperature * mean, -1.0), 1.0)
    return Balance(
        temperature=temperature,
        sigma=math.sqrt(temperature),
        balance_cosine=balance,
        alpha=math.exp(min((1 - balance) / temperature, 700.0)),
        positive=positive.mean().item(),
        negative=negative.mean().item(),
        spread=spread,
        positives=len(positive),
        negatives=len(negative),
    )


@torch.no_grad()
def pair_cosines(batch: Batch, negatives: str) -> tuple[Tensor, Tensor]:
    """Return the cosines of a batch's positive pairs ``(B,)`` and of its negative pairs ``(N,)``, each ordered pair.

    For :func:`measure_balance`; all pairs of a set are held at once.

    Args:
        batch: The pairs, from :func:`fmicl_text.core.as_batch`.
        negatives: One of :data:`fmicl_text.core.NEGATIVES`.
    """
    own = torch.linalg.vecdot(batch.x.vectors, batch.y.vectors)  # (B,)
    kept = []
    for block in batch.negatives(negatives):
        cosines = all_cosines(block)  # (B, M)
        out = left_out(block, cosines)
        kept.append(cosines.flatten() if out is None else cosines[~out])
    return own, torch.cat(kept)
