"""Bertram, Fuernkranz, Mueller, "Contrastive Learning of Preferences with a Contextual InfoNCE Loss".

2024, arXiv 2407.05898.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fmicl_text.core.batch import Batch, Terms, objective
from fmicl_text.core.devices import across_devices, row_mean
from fmicl_text.core.kernels import CosineKernel, Kernel
from fmicl_text.core.pairs import Block
from fmicl_text.core.reduce import log_sum_exp, row_log_sum_exp


@objective
def contextual_infonce(batch: Batch, *, offered: Tensor | None = None, kernel: Kernel | None = None) -> Terms:
    r"""InfoNCE in which a row's choice is compared with what that row was offered, and nothing else.

        loss = -mean_i log( exp r(x_i, y_i) / ( exp r(x_i, y_i) + sum_{k offered to i} exp r(x_i, n_k) ) )

    Other rows' positives are not negatives here: nobody asked whether row i would have chosen them.

    Args:
        batch: Contexts as anchors, the items chosen as positives, the items not chosen as explicit negatives. Its
            region does not apply, since the items offered are given.
        offered: Whether item k was offered to row i, bool ``(B, M)``; default all of them.
        kernel: ``r`` of a cosine; default :class:`CosineKernel` at tau = 0.05.

    Raises:
        ValueError: If there are no items beside the chosen ones, or ``offered`` has another shape or type.
    """
    if batch.extra is None:
        raise ValueError("extra must hold the items that were offered and not chosen, got None")
    shape = (len(batch.x.vectors), len(batch.extra.vectors))
    if offered is not None and (offered.shape != shape or offered.dtype != torch.bool):
        raise ValueError(f"offered must be bool {shape}, got {offered.dtype} {tuple(offered.shape)}")
    kernel = kernel or CosineKernel()
    own = batch.own(kernel)  # (B,)
    with across_devices(False):  # the items offered here are on no other process
        others = row_log_sum_exp([Block(batch.x, batch.extra, offered=offered)], kernel).log  # (B,)
    return {"positive": -row_mean(own), "negative": row_mean(log_sum_exp(own, others))}
