"""HaoChen, Wei, Gaidon, Ma, "Provable Guarantees for Self-Supervised Deep Learning with Spectral Contrastive Loss".

NeurIPS 2021, arXiv 2106.04156.
"""

from __future__ import annotations

import torch

from fmicl_text.core.batch import Batch, Terms, objective
from fmicl_text.core.checks import require_positive
from fmicl_text.core.devices import row_mean
from fmicl_text.core.kernels import CosineKernel
from fmicl_text.core.reduce import pair_mean


@objective
def spectral(batch: Batch, *, mu: float = 1.0) -> Terms:
    r"""Spectral contrastive loss.

        loss = -2 mean_i <x_i, y_i> + mu mean_{i != j} <x_i, y_j>^2

    The authors clip embeddings to the norm ``sqrt(mu)`` and divide the loss by ``mu``; on unit vectors scaled to that
    norm, it is this. With ``mu = 1`` it is f-MICL with Pearson's chi squared and the cosine in place of the density
    ratio, minus 1.

    Args:
        batch: The pairs; explicit negatives join the mean.
        mu: Squared norm of the features; 1 for the authors' CIFAR-10, 10 for their ImageNet.

    Raises:
        ValueError: If ``mu`` is not positive.
    """
    require_positive(mu=mu)
    cosine = CosineKernel(temperature=1.0)
    negative = pair_mean(batch.negatives("cross"), cosine, torch.square)
    return {"positive": -2 * row_mean(batch.own(cosine)), "negative": mu * negative}
