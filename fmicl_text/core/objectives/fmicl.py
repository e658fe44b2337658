"""f-MICL: Lu, Zhang, Sun, Guo, Yu, "f-MICL: Understanding and Generalizing InfoNCE-based Contrastive Learning".

TMLR 2023, arXiv 2402.10150.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor

from fmicl_text.core.alpha import Alpha, require_weight
from fmicl_text.core.balance import of_known_width
from fmicl_text.core.batch import Batch, Terms, objective
from fmicl_text.core.batch_shift import batch_bound
from fmicl_text.core.checks import not_one_of, require_positive
from fmicl_text.core.devices import row_mean
from fmicl_text.core.divergence import Divergence
from fmicl_text.core.divergences.kl import DIVERGENCE as KL
from fmicl_text.core.kernels import GaussianKernel, Kernel
from fmicl_text.core.overlap import of_batch_width
from fmicl_text.core.reduce import RowSums, identity, log_sum_exp, pair_mean, row_log_sum_exp
from fmicl_text.core.row_shift import row_bound

Default = TypeVar("Default", float, None)

SHIFTS = ("none", "batch", "row")
"""``none``: the critic as it is. ``batch``: minus one constant for the batch. ``row``: minus one for each anchor."""
CRITICS = ("paper", "ratio")
"""What a pair's critic ``T`` is. ``paper``: ``f'(u)``. ``ratio``: ``r = log u``, for a cosine kernel ``s / tau``."""
_LARGEST = 1e30
"""Scores beyond this leave no room in float32 for a sum over a batch and its gradient."""


@objective
def fmicl(
    batch: Batch,
    *,
    divergence: Divergence = KL,
    kernel: Kernel | None = None,
    alpha: float | Alpha | None = None,
    negatives: str = "within",
    shift: str = "none",
    critic: str | None = None,
) -> Terms:
    r"""The f-MICL objective of one batch (the paper's batch estimate, negated to be minimised).

        loss = -1/B sum_i T_ii + alpha mean over negative pairs of f*(T_ij),    T = f'(u)

    That is ``shift="none"``. A shift is the constant ``v`` that, subtracted from the critic, gives the tightest bound,
    see :mod:`fmicl_text.core.shift`; minus the loss is then that bound, in the divergence's own unit. With ``c = alpha
    f(1/alpha)``:

        batch:  loss = min over v of  v - 1/B sum_i T_ii + alpha mean over negative pairs of f*(T_ij - v) + c
        row:    loss = 1/B sum_i  min over v_i of  v_i - T_ii + alpha/n sum_j f*(T_ij - v_i) + c

    The candidates j of a row are its own positive and its negatives, ``n`` together. For KL by ``row`` it is InfoNCE
    less ``log n``. The positive term is ``-1/B sum_i T_ii`` and the negative term is the rest. Without a shift, minus
    the loss is also a bound, once ``c`` is added to the loss.

    ``negatives="within"`` is the paper's choice: pairs (x_i, x_j), i != j, of anchors. Explicit negatives add the
    pairs (x_i, n_j). A batch in which no two texts differ has a negative term of 0; by ``row``, where the positive is
    a candidate, a loss of 0.

    Args:
        batch: The pairs.
        divergence: The divergence ``f``.
        kernel: The density ratio ``u`` of a pair; default :class:`GaussianKernel`. A width that is to be measured is
            set from the negative pairs of the first training batch that has any; an adaptive one, with a shift by
            ``row`` and the critic ``ratio``, is that of the batch, see :mod:`fmicl_text.core.overlap`.
        alpha: Weight of the negative term: a number, or without a shift an :class:`Alpha`. Default 1; by ``row`` the
            number of the row's candidates, so that a temperature means the same for any number of them.
        negatives: One of :data:`fmicl_text.core.NEGATIVES`.
        shift: One of :data:`SHIFTS`.
        critic: One of :data:`CRITICS`; default ``ratio`` by ``row``, else ``paper``. Without a shift it must be
            ``paper``: ``r`` need not lie in the domain of ``f*``.

    Raises:
        ValueError: If a setting is out of range, or two do not go together.
    """
    critic = _check(alpha, shift, critic)
    kernel = kernel or GaussianKernel()
    score = divergence.critic if critic == "paper" else identity
    if kernel.is_adaptive:
        if shift != "row" or critic != "ratio":
            raise ValueError(f"an adaptive width needs shift 'row' and critic 'ratio', got {shift!r} and {critic!r}")
        kernel = of_batch_width(kernel, batch, negatives)
    elif not kernel.has_width:
        kernel = of_known_width(kernel, batch.negatives(negatives))
        check_float32_range(divergence, kernel)
    own = batch.own(kernel)  # (B,)
    if shift == "none":
        blocks = batch.negatives(negatives)
        weight: float | Tensor = alpha(kernel, blocks) if isinstance(alpha, Alpha) else _number(alpha, 1.0)
        negative = weight * pair_mean(blocks, kernel, divergence.penalty)
    elif shift == "batch":
        negative = batch_bound(batch.negatives(negatives), kernel, score, divergence, _number(alpha, 1.0))
    else:
        rows = batch.candidates(negatives)
        if divergence == KL:  # in closed form; the shift takes the 1 of f'(u) = r + 1 away again
            score = identity
            bounds = [_log_mean_exp(own, row_log_sum_exp(blocks, kernel)) for blocks in rows]  # (B,) each
        else:
            bounds = [row_bound(blocks, own, kernel, score, divergence, _number(alpha, None)) for blocks in rows]
        negative = row_mean(torch.stack(bounds).mean(dim=0))
    return {"positive": -row_mean(score(own)), "negative": negative}


def _number(alpha: float | Alpha | None, default: Default) -> float | Default:
    assert not isinstance(alpha, Alpha)  # refused by _check
    return default if alpha is None else alpha


def _log_mean_exp(own: Tensor, others: RowSums) -> Tensor:
    return log_sum_exp(own, others.log) - (1 + others.pairs).to(own.dtype).log()


def _check(alpha: float | Alpha | None, shift: str, critic: str | None) -> str:
    """Refuse settings that do not go together; return the critic."""
    if shift not in SHIFTS:
        raise not_one_of("shift", shift, SHIFTS)
    if critic not in (None, *CRITICS):
        raise not_one_of("critic", critic, CRITICS)
    if shift == "none" and critic == "ratio":
        raise ValueError("critic 'ratio' needs shift 'batch' or 'row', to keep it in the domain of the conjugate")
    if shift != "none" and isinstance(alpha, Alpha):
        raise ValueError(f"alpha must be a number with shift {shift!r}, which balances the terms by itself")
    if isinstance(alpha, (int, float)):
        require_weight(alpha)
        if shift != "none":
            require_positive(alpha=alpha)
    return critic or ("ratio" if shift == "row" else "paper")


@torch.no_grad()
def check_float32_range(divergence: Divergence, kernel: Kernel, alpha: Alpha | float | None = None) -> None:
    """Refuse a divergence, a kernel and a weight whose terms overflow float32 somewhere between cosine -1 and 1.

    Critics with ``1/u`` in them explode for a positive pair that is far apart, penalties for a coincident
    negative pair under a cosine kernel of low temperature; both are increasing, so only the ends are checked. A narrow
    kernel makes the weight explode: ``alpha = 1/u`` at the cosine of balance. One that the data gives is judged by
    negatives at cosine 0.

    Raises:
        ValueError: Naming what is too large, the cosine, the width, and alpha if that is the cause.
    """
    tau = kernel.initial_temperature
    width = f"sigma = {tau**0.5:.3g} (temperature {tau:.3g})"
    largest = 0.0
    for score in ("critic", "penalty"):
        for cosine in (-1.0, 1.0):
            value = getattr(divergence, score)(kernel(torch.tensor(cosine))).item()
            if not abs(value) < _LARGEST:
                raise ValueError(
                    f"the {score} of divergence {divergence.name!r} is {value:.1e} at cosine {cosine:g}, "
                    f"too large for float32; take a wider kernel than {width}"
                )
            largest = max(largest, abs(value) if score == "penalty" else 0.0)
    if alpha is None:
        return
    weight, origin = _largest_weight(alpha, kernel)
    if not weight * largest < _LARGEST:
        raise ValueError(
            f"alpha = {weight:.1e}{origin} makes the negative term as large as {weight * largest:.1e}, "
            f"too large for float32; take a wider kernel than {width}, or a smaller alpha"
        )


def _largest_weight(alpha: Alpha | float, kernel: Kernel) -> tuple[float, str]:
    """Return the weight, and the setting that it comes from."""
    if not isinstance(alpha, Alpha):
        return float(alpha), ""
    if isinstance(alpha.alpha, (int, float)):
        return float(alpha.alpha), ""
    cosine = 0.0 if isinstance(alpha.balance_cosine, str | None) else alpha.balance_cosine
    exponent = -kernel(torch.tensor(cosine, dtype=torch.float64)).item()
    setting = alpha.alpha if alpha.balance_cosine is None else f"balance_cosine {alpha.balance_cosine}"
    return math.exp(min(exponent, 700.0)), f" (of {setting}, where log u is {-exponent:.3g} at cosine {cosine:g})"
