"""Koromilas et al., "Bridging Mini-Batch and Asymptotic Analysis in Contrastive Learning".

ICML 2024, arXiv 2405.18045: KCL, kernel contrastive learning.
"""

from __future__ import annotations

import torch

from fmicl_text.core.batch import Batch, Terms, objective
from fmicl_text.core.checks import require_positive
from fmicl_text.core.devices import row_mean
from fmicl_text.core.kernels import ExponentialKernel, Kernel
from fmicl_text.core.reduce import pair_mean
from fmicl_text.core.tiles import Score


@objective
def kcl(batch: Batch, *, kernel: Kernel | None = None, gamma: float = 16.0, score: Score = torch.exp) -> Terms:
    r"""Kernel contrastive learning: a mean of kernels over positives against means over the pairs of each view.

        loss = -2 mean_i K(x_i, y_i) + gamma ( mean_{i != j} K(x_i, x_j) + mean_{i != j} K(y_i, y_j) )

    Like f-MICL its expectation does not depend on the batch size. With the Gaussian, the negative term is KL-MICL's.

    Args:
        batch: The pairs; explicit negatives join the mean of the anchors.
        kernel: ``r`` of a cosine; default the paper's Gaussian ``K = exp(-2 ||a-b||^2)``.
        gamma: Weight of the negative term; the paper's 16.
        score: ``K`` by ``r``; default ``K = exp(r)``.

    Raises:
        ValueError: If ``gamma`` is not positive.
    """
    require_positive(gamma=gamma)
    kernel = kernel or ExponentialKernel(gamma=2.0, temperature=0.5)
    of_x = pair_mean(batch.against(batch.x, batch.x, batch.extra), kernel, score)
    of_y = pair_mean(batch.against(batch.y, batch.y), kernel, score)
    return {"positive": -2 * row_mean(score(batch.own(kernel))), "negative": gamma * (of_x + of_y)}
