"""A-InfoNCE: Yu, Lou, Zhan, Li, Zuo, Liu, Liu, "Adversarial Contrastive Learning via Asymmetric InfoNCE".

ECCV 2022, arXiv 2207.08374.
"""

from __future__ import annotations

from torch import Tensor

from fmicl_text.core.batch import Batch, Terms, objective
from fmicl_text.core.devices import row_mean
from fmicl_text.core.kernels import CosineKernel, Kernel
from fmicl_text.core.pairs import Rows
from fmicl_text.core.reduce import log_sum_exp, row_log_sum_exp


@objective
def asymmetric_infonce(batch: Batch, *, kernel: Kernel | None = None, degree: float = 0.2) -> Terms:
    r"""InfoNCE between a clean and a noisy view, whose gradients are split unevenly between the two.

        s_a(x, y) = a <x, sg(y)> + (1 - a) <sg(x), y>,    sg the stop-gradient

    in the place of the cosine: the value is InfoNCE's, the clean view moves by ``a`` of its gradient and the noisy
    one, an inferior positive, by ``1 - a``.

    Args:
        batch: Clean views as anchors, noisy ones as positives; explicit negatives count as noisy.
        kernel: ``r`` of a cosine; default :class:`CosineKernel` at the paper's tau = 0.5.
        degree: ``a`` in [0, 1]; the paper's 0.2.

    Raises:
        ValueError: If ``degree`` is not in [0, 1].
    """
    if not 0 <= degree <= 1:
        raise ValueError(f"degree must be in [0, 1], got {degree!r}")
    kernel = kernel or CosineKernel(0.5)
    split = batch._replace(
        x=_slowed(batch.x, degree),
        y=_slowed(batch.y, 1 - degree),
        extra=_slowed(batch.extra, 1 - degree) if batch.extra else None,
    )
    own = split.own(kernel)  # (B,)
    others = row_log_sum_exp(split.negatives("cross"), kernel).log  # (B,)
    return {"positive": -row_mean(own), "negative": row_mean(log_sum_exp(own, others))}


def _slowed(rows: Rows, share: float) -> Rows:
    """Return the same rows with ``share`` of their gradient; as a cosine is bilinear, this gives ``s_a``."""
    vectors: Tensor = share * rows.vectors + (1 - share) * rows.vectors.detach()
    return Rows(vectors, rows.texts)
