"""InfoNCE: van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding".

arXiv 1807.03748.
"""

from __future__ import annotations

import torch

from fmicl_text.core.batch import Batch, Terms, objective
from fmicl_text.core.devices import row_mean
from fmicl_text.core.kernels import CosineKernel, Kernel
from fmicl_text.core.reduce import log_sum_exp, row_log_sum_exp


@objective
def infonce(batch: Batch, *, kernel: Kernel | None = None, symmetric: bool = False) -> Terms:
    r"""InfoNCE with in-batch negatives, the positive in the denominator (as SimCSE uses it).

        loss = mean_i( -r(x_i, y_i) + log( exp r(x_i, y_i) + sum_{j != i} exp r(x_i, y_j) + sum_k exp r(x_i, n_k) ) )

    Args:
        batch: The pairs.
        kernel: ``r`` of a cosine; default :class:`CosineKernel` at SimCSE's tau = 0.05.
        symmetric: Average this with the other direction, from positive to anchor, which has no explicit negatives.
    """
    kernel = kernel or CosineKernel()
    positives, negatives = [], []
    for direction in [batch, batch.swapped()] if symmetric else [batch]:
        blocks = direction.against(direction.x, direction.y, direction.extra)
        others, _, cosines = row_log_sum_exp(blocks, kernel, paired=True)  # (B,) each
        own = kernel(cosines)  # (B,)
        positives.append(-row_mean(own))
        negatives.append(row_mean(log_sum_exp(own, others)))
    return {"positive": torch.stack(positives).mean(), "negative": torch.stack(negatives).mean()}
