"""NT-Xent: Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations".

ICML 2020, arXiv 2002.05709 (SimCLR).
"""

from __future__ import annotations

from torch import Tensor

from fmicl_text.core.batch import Batch, Terms, objective
from fmicl_text.core.devices import row_mean
from fmicl_text.core.kernels import CosineKernel, Kernel
from fmicl_text.core.pairs import together
from fmicl_text.core.reduce import log_sum_exp, row_log_sum_exp


@objective
def ntxent(batch: Batch, *, kernel: Kernel | None = None) -> Terms:
    r"""NT-Xent: the 2B rows of both views, each with the other view as its positive and all others as negatives.

        loss = -1/2B sum_i r(z_i, z_p(i)) + 1/2B sum_i log sum_{j != i} exp r(z_i, z_j),    z = (x, y)

    Args:
        batch: The pairs; explicit negatives are offered to all 2B rows.
        kernel: ``r`` of a cosine; default :class:`CosineKernel` at SimCLR's tau = 0.5.
    """
    own, others = own_and_others(batch, kernel or CosineKernel(0.5))  # (2B,) each
    return {"positive": -row_mean(own), "negative": row_mean(log_sum_exp(own, others))}


def own_and_others(batch: Batch, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """Return, for the 2B rows of both views, ``r`` of the positive and the log-sum-exp of the negatives: ``(2B,)``."""
    rows = together(batch.x, batch.y)
    return batch.own(kernel).repeat(2), row_log_sum_exp(batch.against(rows, rows, batch.extra), kernel).log
