r"""Width and balance of f-MICL without a shift, measured from the encoder's own cosines.

**Balance.** A pair at density ratio ``u`` is pushed ``alpha u`` times as hard as a positive at the same ``u`` is
pulled, see :mod:`fmicl_text.core.alpha`. All negatives together push as hard as the positives pull when

    alpha mean u = 1    (over negative pairs; exact for KL, whose pull is the same at every u).

Where ``alpha mean u`` is far above 1, the first steps are push alone, and positives move apart; far below, pull alone,
and everything moves together. With ``u = exp((s - 1)/tau)`` and ``alpha = 1/u(s*)`` this is a statement on the cosine
of balance alone, in which a constant factor of ``u`` cancels:

    s* = tau log mean exp(s / tau)

the soft maximum of the negatives' cosines. :class:`fmicl_text.core.Alpha` measures ``mean u`` on the first batches.

**Width.** For cosines of mean m and standard deviation d that are about normal, ``exp(s/tau)`` weighs them as if their
mean were ``m + d^2/tau``: the push acts ``d/tau`` standard deviations above the mean, where of n pairs the share
``exp(-(d/tau)^2)`` counts in effect. A wide kernel pushes all pairs alike and learns nothing from hard ones; a narrow
one sees only the few hardest of a batch. At two standard deviations 1.8 percent count, some 70 pairs of a batch of 64:

    tau = d / 2,    sigma = sqrt(tau)

MiniLM's cosines of unrelated sentences have d = 0.1, whence SimCSE's tau of 0.05. One batch tells d well enough: a
batch of 16 has 240 pairs. It is the first of training that has negatives: one of an evaluation before training, or one
row left over, counts for itself alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch

from fmicl_text.core.devices import average
from fmicl_text.core.kernels import NARROWEST, CosineKernel, GaussianKernel, Kernel
from fmicl_text.core.pairs import Block
from fmicl_text.core.reduce import identity, pair_mean, sum_and_count
from fmicl_text.core.shift import precise

_DEVIATIONS = 2.0
"""How many standard deviations above their mean the negatives' push acts."""
_WIDEST = 1.0
_UNMEASURED = 0.0625  # of a batch without negatives; its positives alone are scored by it
EVEN = (0.1, 10.0)
"""Where ``alpha mean u`` should be."""


@torch.no_grad()
def of_known_width(kernel: Kernel, blocks: Sequence[Block]) -> Kernel:
    """Return the kernel with the width that is to be measured, or a copy with one for this batch alone.

    In training, the first batch that has negative pairs sets it, for good. Before, a batch has the width of its own
    pairs, and one without any has 0.0625 as its temperature.

    Args:
        kernel: The density ratio of a pair; one whose width is known is returned as it is.
        blocks: The negative pairs of the batch; those of all processes are taken together.
    """
    if kernel.has_width:
        return kernel
    has_pairs = average(precise(sum_and_count(blocks, CosineKernel(1.0), identity)[1])) > 0
    if not (kernel.training and has_pairs):
        kernel = copy.deepcopy(kernel)
    kernel.set_width(measured_temperature(blocks) if has_pairs else _UNMEASURED)
    return kernel


@torch.no_grad()
def measured_temperature(blocks: Sequence[Block]) -> float:
    """Return half the standard deviation of the cosines of negative pairs, between 0.01 and 1.

    Args:
        blocks: The pairs of one batch; those of all processes are taken together.
    """
    cosine = CosineKernel(1.0)
    mean = average(pair_mean(blocks, cosine, identity))
    variance = average(pair_mean(blocks, cosine, lambda s: (s - mean).square()))
    return min(max(variance.sqrt().item() / _DEVIATIONS, NARROWEST), _WIDEST)


def balance_cosine_of(kernel: Kernel, mean_ratio: float) -> float | None:
    """Return the cosine ``s*`` at which ``u`` is the mean density ratio; None unless ``log u`` is linear in it.

    Args:
        kernel: The density ratio of a pair.
        mean_ratio: ``mean u`` over negative pairs, positive.
    """
    if not isinstance(kernel, GaussianKernel | CosineKernel):
        return None
    at_zero, at_one = kernel.at_start(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    return (math.log(mean_ratio) - at_zero) / (at_one - at_zero)
