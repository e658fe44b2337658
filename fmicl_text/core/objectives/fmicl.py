"""f-MICL: Lu, Zhang, Sun, Guo, Yu, "f-MICL: Understanding and Generalizing InfoNCE-based Contrastive Learning".

TMLR 2023, arXiv 2402.10150.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fmicl_text.core.divergences import KL, Divergence
from fmicl_text.core.kernels import GaussianKernel, Kernel
from fmicl_text.core.objectives.alpha import Alpha
from fmicl_text.core.pairs import as_rows, negative_blocks
from fmicl_text.core.reduce import in_full_precision, pair_mean, row_cosines

_LARGEST = 1e30
"""Scores beyond this leave no room in float32 for a sum over a batch and its gradient."""


@in_full_precision
def fmicl(
    x: Tensor,
    y: Tensor,
    extra: Tensor | None = None,
    *,
    divergence: Divergence = KL,
    kernel: Kernel | None = None,
    alpha: float | Alpha = 1.0,
    negatives: str = "within",
    texts: Tensor | None = None,
    extra_texts: Tensor | None = None,
) -> dict[str, Tensor]:
    r"""The f-MICL objective of one batch (the paper's batch estimate, negated to be minimised).

        loss = -1/B sum_i f'(u(x_i, y_i)) + alpha * mean over negative pairs of (f* o f')(u)

    ``negatives="within"`` is the paper's choice: pairs (x_i, x_j), i != j, of anchors.

    Args:
        x: Anchors, unit vectors ``(B, D)``.
        y: Positives, unit vectors ``(B, D)``.
        extra: Explicit negatives, unit vectors ``(M, D)``; they add the pairs (x_i, n_j) to the negative mean.
        divergence: The divergence ``f``.
        kernel: The density ratio ``u`` of a pair; default :class:`GaussianKernel`.
        alpha: Weight of the negative term, a number or an :class:`Alpha`.
        negatives: ``within``, ``cross`` or ``both``, see :data:`fmicl_text.core.pairs.NEGATIVES`.
        texts: Text identities of the pairs ``(B, K)``; default all differ.
        extra_texts: Text identities of the explicit negatives ``(M,)``; default all differ.

    Returns:
        ``positive`` and ``negative``, the two scalar terms above; their sum is the loss. A batch without
        negative pairs has a negative term of 0.

    Raises:
        ValueError: If shapes do not fit together, or ``negatives`` is unknown.
    """
    kernel = kernel or GaussianKernel()
    blocks = negative_blocks(*as_rows(x, y, extra, texts, extra_texts), negatives)
    weight = alpha(kernel, blocks) if isinstance(alpha, Alpha) else alpha
    positive = divergence.critic(kernel(row_cosines(x, y))).mean()
    negative = pair_mean(blocks, lambda cosine: divergence.penalty(kernel(cosine)))
    return {"positive": -positive, "negative": weight * negative}


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
