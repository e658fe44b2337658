"""InfoNCE: van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding".

arXiv 1807.03748.
"""

from __future__ import annotations

from torch import Tensor

from fmicl_text.core.kernels import CosineKernel, Kernel
from fmicl_text.core.pairs import as_rows, negative_blocks
from fmicl_text.core.reduce import in_full_precision, row_cosines, row_log_sum_exp


@in_full_precision
def infonce(
    x: Tensor,
    y: Tensor,
    extra: Tensor | None = None,
    *,
    kernel: Kernel | None = None,
    texts: Tensor | None = None,
    extra_texts: Tensor | None = None,
) -> dict[str, Tensor]:
    r"""InfoNCE with in-batch negatives, one direction, the positive in the denominator (as SimCSE uses it).

        loss = -1/B sum_i r(x_i, y_i) + 1/B sum_i log( exp r(x_i, y_i) + sum_j exp r(x_i, y_j) + sum_k exp r(x_i, n_k) )

    ``j`` and ``k`` run over the candidates that share no text with row i, see :mod:`fmicl_text.core.pairs`.

    Args:
        x: Anchors, unit vectors ``(B, D)``.
        y: Positives, unit vectors ``(B, D)``.
        extra: Explicit negatives, unit vectors ``(M, D)``, offered to every anchor.
        kernel: ``r`` of a cosine; default :class:`CosineKernel` at SimCSE's tau = 0.05.
        texts: Text identities of the pairs ``(B, K)``; default all differ.
        extra_texts: Text identities of the explicit negatives ``(M,)``; default all differ.

    Returns:
        ``positive`` and ``negative``, the two scalar terms above; their sum is the loss.

    Raises:
        ValueError: If shapes do not fit together.
    """
    kernel = kernel or CosineKernel()
    anchors, positives, negatives = as_rows(x, y, extra, texts, extra_texts)
    own = kernel(row_cosines(x, y))  # (B,)
    blocks = negative_blocks(anchors, positives, negatives, "cross")
    return {"positive": -own.mean(), "negative": row_log_sum_exp(own, blocks, kernel).mean()}
