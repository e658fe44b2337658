"""DCL: Yeh, Hong, Hsu, Liu, Chen, LeCun, "Decoupled Contrastive Learning".

ECCV 2022, arXiv 2110.06848.
"""

from __future__ import annotations

import torch

from fmicl_text.core.batch import Batch, Terms, objective
from fmicl_text.core.checks import require_positive
from fmicl_text.core.devices import largest, row_mean
from fmicl_text.core.kernels import CosineKernel, Kernel
from fmicl_text.core.reduce import finite, row_log_sum_exp


@objective
def dcl(
    batch: Batch, *, kernel: Kernel | None = None, weight_sigma: float | None = None, symmetric: bool = True
) -> Terms:
    r"""Decoupled contrastive loss: InfoNCE without the positive in the denominator, negatives from both views.

        loss = mean_i( -w_i r(x_i, y_i) + log( sum_{j != i} exp r(x_i, x_j) + sum_{j != i} exp r(x_i, y_j) ) )

    Args:
        batch: The pairs; explicit negatives join the sum.
        kernel: ``r`` of a cosine; default :class:`CosineKernel` at the paper's tau = 0.1.
        weight_sigma: Makes it DCLW: ``w_i = 2 - exp(s_i / sigma) / mean_j exp(s_j / sigma)`` with the cosine ``s_i`` of
            pair i; the paper's is 0.5. Default ``w_i = 1``.
        symmetric: Average this with the other direction, from positive to anchor, which has no explicit negatives.

    Raises:
        ValueError: If ``weight_sigma`` is not positive.
    """
    kernel = kernel or CosineKernel(0.1)
    own = batch.own(kernel)  # (B,)
    if weight_sigma is not None:
        require_positive(weight_sigma=weight_sigma)
        scaled = batch.own(CosineKernel(weight_sigma))  # (B,)
        hardness = (scaled - largest(scaled)).exp()  # (B,), of which a common factor cancels: none overflows
        own = (2 - hardness / row_mean(hardness)) * own
    directions = [batch, batch.swapped()] if symmetric else [batch]
    logs = [finite(row_log_sum_exp(b.against(b.x, b.x, b.y, b.extra), kernel).log) for b in directions]  # (B,) each
    return {"positive": -row_mean(own), "negative": torch.stack([row_mean(log) for log in logs]).mean()}
