"""Wang, Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere".

ICML 2020, arXiv 2005.10242.
"""

from __future__ import annotations

from fmicl_text.core.batch import Batch, Terms, objective
from fmicl_text.core.checks import require_positive
from fmicl_text.core.devices import row_mean
from fmicl_text.core.kernels import ExponentialKernel
from fmicl_text.core.reduce import log_pair_mean


@objective
def alignment_uniformity(
    batch: Batch, *, power: float = 2.0, t: float = 2.0, align_weight: float = 1.0, uniform_weight: float = 1.0
) -> Terms:
    r"""Alignment of the pairs, and uniformity of each view on the sphere.

        loss = w_a mean_i ||x_i - y_i||^power + w_u (U(x) + U(y)) / 2
        U(x) = log mean_{i != j} exp(-t ||x_i - x_j||^2)

    With ``power = 2`` and ``w_a = t w_u`` it is ``w_u`` times KL-MICL in Donsker and Varadhan's form, see
    :func:`fmicl_text.core.objectives.fmicl_dv.fmicl_dv`, on both views.

    Args:
        batch: The pairs; explicit negatives join the mean of ``U(x)``.
        power: Exponent of the alignment's distance, in (0, 2]; the paper's ``alpha``.
        t: Inverse width of the uniformity's Gaussian; 10 matches SimCSE's temperature of 0.05.
        align_weight: ``w_a``.
        uniform_weight: ``w_u``.

    Raises:
        ValueError: If ``power`` is not in (0, 2], or ``t`` or a weight is not positive.
    """
    if not 0 < power <= 2:
        raise ValueError(f"power must be above 0 and at most 2, got {power!r}")
    require_positive(t=t, align_weight=align_weight, uniform_weight=uniform_weight)
    distance = -batch.own(ExponentialKernel(gamma=power, temperature=1.0))  # (B,)
    gaussian = ExponentialKernel(gamma=2.0, temperature=1 / t)
    of_x = log_pair_mean(batch.against(batch.x, batch.x, batch.extra), gaussian)
    of_y = log_pair_mean(batch.against(batch.y, batch.y), gaussian)
    return {"positive": align_weight * row_mean(distance), "negative": uniform_weight * (of_x + of_y) / 2}
