"""f-MICL: Lu, Zhang, Sun, Guo, Yu, "f-MICL: Understanding and Generalizing InfoNCE-based Contrastive Learning".

TMLR 2023, arXiv 2402.10150.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fmicl_text.core.alpha import Alpha, require_weight
from fmicl_text.core.batch import Batch, Terms, objective
from fmicl_text.core.devices import row_mean
from fmicl_text.core.divergence import Divergence
from fmicl_text.core.divergences.kl import DIVERGENCE as KL
from fmicl_text.core.kernels import GaussianKernel, Kernel
from fmicl_text.core.reduce import pair_mean

_LARGEST = 1e30
"""Scores beyond this leave no room in float32 for a sum over a batch and its gradient."""


@objective
def fmicl(
    batch: Batch,
    *,
    divergence: Divergence = KL,
    kernel: Kernel | None = None,
    alpha: float | Alpha = 1.0,
    negatives: str = "within",
) -> Terms:
    r"""The f-MICL objective of one batch (the paper's batch estimate, negated to be minimised).

        loss = -1/B sum_i f'(u(x_i, y_i)) + alpha * mean over negative pairs of (f* o f')(u)

    ``negatives="within"`` is the paper's choice: pairs (x_i, x_j), i != j, of anchors. Explicit negatives add the
    pairs (x_i, n_j). A batch in which no two texts differ has a negative term of 0.

    Args:
        batch: The pairs.
        divergence: The divergence ``f``.
        kernel: The density ratio ``u`` of a pair; default :class:`GaussianKernel`.
        alpha: Weight of the negative term, a number or an :class:`Alpha`.
        negatives: ``within``, ``cross`` or ``both``, see :data:`fmicl_text.core.batch.NEGATIVES`.
    """
    kernel = kernel or GaussianKernel()
    blocks = batch.negatives(negatives)
    if isinstance(alpha, Alpha):
        weight: float | Tensor = alpha(kernel, blocks)
    else:
        require_weight(alpha)
        weight = alpha
    positive = row_mean(divergence.critic(batch.own(kernel)))
    return {"positive": -positive, "negative": weight * pair_mean(blocks, kernel, divergence.penalty)}


@torch.no_grad()
def check_float32_range(divergence: Divergence, kernel: Kernel) -> None:
    """Refuse a divergence and a kernel whose scores overflow float32 somewhere between cosine -1 and 1.

    Critics with ``1/u`` in them explode for a positive pair that is far apart, penalties for a coincident
    negative pair under a cosine kernel of low temperature; both are increasing, so the ends tell.

    Raises:
        ValueError: Naming the score and the cosine at which it is too large.
    """
    for score in ("critic", "penalty"):
        for cosine in (-1.0, 1.0):
            value = getattr(divergence, score)(kernel(torch.tensor(cosine))).item()
            if not abs(value) < _LARGEST:
                tau = kernel.initial_temperature
                width = f"sigma = {tau**0.5:.3g} (temperature {tau:.3g})"
                raise ValueError(
                    f"the {score} of divergence {divergence.name!r} is {value:.1e} at cosine {cosine:g}, "
                    f"too large for float32; take a wider kernel than {width}"
                )
