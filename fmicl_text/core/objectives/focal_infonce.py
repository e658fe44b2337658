"""Focal-InfoNCE: Hou, Li, "Improving Contrastive Learning of Sentence Embeddings with Focal-InfoNCE".

Findings of EMNLP 2023, arXiv 2310.06918.
"""

from __future__ import annotations

from fmicl_text.core.batch import Batch, Terms, objective
from fmicl_text.core.devices import row_mean
from fmicl_text.core.kernels import FocalKernel
from fmicl_text.core.reduce import log_sum_exp, row_log_sum_exp


@objective
def focal_infonce(batch: Batch, *, temperature: float = 0.05, margin: float = 0.3) -> Terms:
    r"""InfoNCE on modulated cosines: hard negatives weigh more, and so do easy positives.

        loss = -mean_i log( exp(s_ii^2 / tau) / ( exp(s_ii^2 / tau) + sum_{j != i} exp(s_ij (s_ij + m) / tau) ) )

    Not monotone: a negative with a cosine below ``-m/2`` is pulled closer, a positive with one below 0 pushed away.

    Args:
        batch: The pairs; explicit negatives join the sum.
        temperature: ``tau``; SimCSE's 0.05.
        margin: ``m``; the paper's 0.3.

    Raises:
        ValueError: If ``temperature`` is not positive.
    """
    own = batch.own(FocalKernel(temperature, margin=0.0))  # (B,)
    others = row_log_sum_exp(batch.negatives("cross"), FocalKernel(temperature, margin)).log  # (B,)
    return {"positive": -row_mean(own), "negative": row_mean(log_sum_exp(own, others))}
