"""Tan, Zhang, Yang, Yuan, "Contrastive Learning Is Spectral Clustering On Similarity Graph" (Kernel-InfoNCE).

ICLR 2024, arXiv 2303.15103. The authors' code mixes two losses where the paper has two kernels inside one
logarithm.
"""

from __future__ import annotations

from fmicl_text.core.batch import Batch, Terms, objective
from fmicl_text.core.devices import row_mean
from fmicl_text.core.kernels import Kernel
from fmicl_text.core.objectives.ntxent import own_and_others
from fmicl_text.core.reduce import log_sum_exp


@objective
def kernel_infonce_mixed(batch: Batch, *, first: Kernel, second: Kernel, weight: float = 0.5) -> Terms:
    r"""Mix of two losses, as in the authors' code: ``weight * loss(first) + (1 - weight) * loss(second)``.

    Args:
        batch: The pairs; explicit negatives are offered to all 2B rows.
        first: One kernel.
        second: The other.
        weight: Share of the first, in [0, 1].

    Raises:
        ValueError: If ``weight`` is not in [0, 1].
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"weight must be in [0, 1], got {weight!r}")
    of_first, others_first = own_and_others(batch, first)  # (2B,) each
    of_second, others_second = own_and_others(batch, second)
    negatives = log_sum_exp(of_first, others_first), log_sum_exp(of_second, others_second)
    return {
        "positive": -row_mean(weight * of_first + (1 - weight) * of_second),
        "negative": row_mean(weight * negatives[0] + (1 - weight) * negatives[1]),
    }
