"""Tan, Zhang, Yang, Yuan, "Contrastive Learning Is Spectral Clustering On Similarity Graph" (Kernel-InfoNCE).

ICLR 2024, arXiv 2303.15103. The paper mixes two kernels inside one logarithm.
"""

from __future__ import annotations

from fmicl_text.core.batch import Batch, Terms, objective
from fmicl_text.core.devices import row_mean
from fmicl_text.core.kernels import ExponentialKernel, Kernel
from fmicl_text.core.objectives.ntxent import own_and_others
from fmicl_text.core.reduce import log_sum_exp


@objective
def kernel_infonce(batch: Batch, *, kernel: Kernel | None = None) -> Terms:
    r"""NT-Xent with any kernel ``k``; :class:`SumKernel` is the paper's *simple sum*.

        loss = -1/2B sum_i log( k(z_i, z_p(i)) / sum_{j != i} k(z_i, z_j) ),    z = (x, y)

    Args:
        batch: The pairs; explicit negatives are offered to all 2B rows.
        kernel: ``r = log k`` of a cosine; default the Laplacian, :class:`ExponentialKernel` at gamma 1 and tau 0.1.
    """
    own, others = own_and_others(batch, kernel or ExponentialKernel())  # (2B,) each
    return {"positive": -row_mean(own), "negative": row_mean(log_sum_exp(own, others))}
