"""Tan, Zhang, Yang, Yuan, "Contrastive Learning Is Spectral Clustering On Similarity Graph" (Kernel-InfoNCE).

ICLR 2024, arXiv 2303.15103. The paper mixes two kernels inside one logarithm; its authors' code mixes two losses.
Both are here.
"""

from __future__ import annotations

from torch.nn.functional import normalize

from fmicl_text.core.batch import Batch, Terms, objective
from fmicl_text.core.devices import row_mean
from fmicl_text.core.kernels import ExponentialKernel, Kernel
from fmicl_text.core.objectives.ntxent import own_and_others
from fmicl_text.core.pairs import Rows
from fmicl_text.core.reduce import log_sum_exp


@objective
def kernel_infonce(batch: Batch, *, kernel: Kernel | None = None) -> Terms:
    r"""NT-Xent with any kernel ``k``; :class:`SumKernel` is the paper's *simple sum*.

        loss = -1/2B sum_i log( k(z_i, z_p(i)) / sum_{j != i} k(z_i, z_j) ),    z = (x, y)

    Args:
        batch: The pairs; explicit negatives are offered to all 2B rows.
        kernel: ``r = log k`` of a cosine; default the Laplacian, :class:`ExponentialKernel` at gamma 1 and tau 0.1.
    """
    own, others = own_and_others(batch, kernel or ExponentialKernel())  # (2B,) each
    return {"positive": -row_mean(own), "negative": row_mean(log_sum_exp(own, others))}


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


@objective
def kernel_infonce_concatenated(batch: Batch, *, first: Kernel, second: Kernel) -> Terms:
    r"""The paper's *concatenation sum*: ``k(a, b) = first(a', b') + second(a'', b'')`` of the halves ``a = (a', a'')``.

    Each half is normalised, so that both kernels see unit vectors. A region is one of similar halves, in each half.

    Args:
        batch: The pairs, of an even number of dimensions; explicit negatives are offered to all 2B rows.
        first: Kernel of the first half of the dimensions.
        second: Kernel of the second half.

    Raises:
        ValueError: If the number of dimensions is odd.
    """
    dimensions = batch.x.vectors.shape[1]
    if dimensions % 2:
        raise ValueError(f"x must have an even number of dimensions, to be cut in halves, got {dimensions}")
    owns, others = [], []
    for half, kernel in enumerate((first, second)):
        own, other = own_and_others(_half(batch, half), kernel)
        owns.append(own)
        others.append(other)
    own = log_sum_exp(*owns)  # (2B,)
    return {"positive": -row_mean(own), "negative": row_mean(log_sum_exp(own, *others))}


def _half(batch: Batch, half: int) -> Batch:
    def of(rows: Rows) -> Rows:
        return Rows(normalize(rows.vectors.chunk(2, dim=1)[half], dim=1), rows.texts)

    return batch._replace(x=of(batch.x), y=of(batch.y), extra=of(batch.extra) if batch.extra else None)
