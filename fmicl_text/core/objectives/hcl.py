"""HCL: Robinson, Chuang, Sra, Jegelka, "Contrastive Learning with Hard Negative Samples".

ICLR 2021, arXiv 2010.04592.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fmicl_text.core.batch import Batch, Terms, objective
from fmicl_text.core.devices import row_mean
from fmicl_text.core.kernels import CosineKernel, Kernel
from fmicl_text.core.pairs import together
from fmicl_text.core.reduce import log_sum_exp, row_log_sum_exp


@objective
def hcl(batch: Batch, *, kernel: Kernel | None = None, tau_plus: float = 0.1, beta: float = 1.0) -> Terms:
    r"""NT-Xent with negatives weighed by their hardness, and corrected for those that are really positives.

        loss = -mean_i log( u_i / (u_i + N_i) ),    u_ij = exp r(z_i, z_j),    z = (x, y)
        N_i = M max( ( sum_j u_ij^(1+beta) / sum_j u_ij^beta - tau_plus u_i ) / (1 - tau_plus),  u(-1) )

    over the ``M`` negatives of row i, with ``u_i`` of its positive and ``u(-1)`` of an antipodal pair, the smallest
    possible.

    Args:
        batch: The pairs; explicit negatives are offered to all 2B rows.
        kernel: ``r`` of a cosine; default :class:`CosineKernel` at the paper's tau = 0.5.
        tau_plus: Share of the negatives that are really positives, in [0, 1).
        beta: Concentration on hard negatives, at least 0, which is plain debiasing.

    Raises:
        ValueError: If ``tau_plus`` or ``beta`` is out of range.
    """
    if not 0 <= tau_plus < 1:
        raise ValueError(f"tau_plus must be in [0, 1), got {tau_plus!r}")
    if not 0 <= beta < math.inf:
        raise ValueError(f"beta must be a finite number of at least 0, got {beta!r}")
    kernel = kernel or CosineKernel(0.5)
    rows = together(batch.x, batch.y)
    blocks = batch.against(rows, rows, batch.extra)
    own = batch.own(kernel).repeat(2)  # (2B,)
    hard, count, _ = row_log_sum_exp(blocks, kernel, lambda r: (1 + beta) * r)  # (2B,) each
    weight = row_log_sum_exp(blocks, kernel, lambda r: beta * r).log  # (2B,)
    alone = count == 0
    mean = hard.masked_fill(alone, 0) - weight.masked_fill(alone, 0)  # (2B,), the log of the weighted mean of u
    corrected = _log_difference(mean, own, tau_plus, least=kernel(torch.full_like(own[:1], -1.0)))
    negative = (corrected + count.clamp(min=1).to(own.dtype).log()).masked_fill(alone, -torch.inf)  # (2B,), log N_i
    return {"positive": -row_mean(own), "negative": row_mean(log_sum_exp(own, negative))}


def _log_difference(mean: Tensor, own: Tensor, tau_plus: float, least: Tensor) -> Tensor:
    """Return ``log max((e^mean - tau_plus e^own) / (1 - tau_plus), e^least)`` without overflow."""
    top = torch.maximum(mean, own).detach()
    difference = ((mean - top).exp() - tau_plus * (own - top).exp()) / (1 - tau_plus)
    return top + torch.maximum(difference, (least - top).exp().clamp(min=torch.finfo(top.dtype).tiny)).log()
