"""Koromilas et al., "Bridging Mini-Batch and Asymptotic Analysis in Contrastive Learning".

ICML 2024, arXiv 2405.18045: DHEL, the decoupled hyperspherical energy loss.
"""

from __future__ import annotations

from fmicl_text.core.batch import Batch, Terms, objective
from fmicl_text.core.devices import row_mean
from fmicl_text.core.kernels import CosineKernel, Kernel
from fmicl_text.core.reduce import finite, row_log_sum_exp


@objective
def dhel(batch: Batch, *, kernel: Kernel | None = None, both_views: bool = True) -> Terms:
    r"""Decoupled hyperspherical energy: negatives within a view only, without the positive.

        loss = mean_i( -r(x_i, y_i) + log sum_{j != i} exp r(x_i, x_j) + log sum_{j != i} exp r(y_i, y_j) )

    There are two logarithms against one positive, as published, so the loss can be negative.

    Args:
        batch: The pairs; explicit negatives join the first sum.
        kernel: ``r`` of a cosine; default :class:`CosineKernel` at the paper's tau = 0.3.
        both_views: Whether there is the second logarithm.
    """
    kernel = kernel or CosineKernel(0.3)
    negative = row_mean(finite(row_log_sum_exp(batch.against(batch.x, batch.x, batch.extra), kernel).log))
    if both_views:
        negative = negative + row_mean(finite(row_log_sum_exp(batch.against(batch.y, batch.y), kernel).log))
    return {"positive": -row_mean(batch.own(kernel)), "negative": negative}
