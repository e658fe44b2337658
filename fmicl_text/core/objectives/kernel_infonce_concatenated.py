"""Tan, Zhang, Yang, Yuan, "Contrastive Learning Is Spectral Clustering On Similarity Graph" (Kernel-InfoNCE).

ICLR 2024, arXiv 2303.15103. The paper's kernel of concatenated features.
"""

from __future__ import annotations

from torch.nn.functional import normalize

from fmicl_text.core.batch import Batch, Terms, objective
from fmicl_text.core.devices import row_mean
from fmicl_text.core.kernels import Kernel
from fmicl_text.core.objectives.ntxent import own_and_others
from fmicl_text.core.pairs import Rows
from fmicl_text.core.reduce import log_sum_exp


@objective
def kernel_infonce_concatenated(batch: Batch, *, first: Kernel, second: Kernel) -> Terms:
    r"""The paper's *concatenation sum*: ``k(a, b) = first(a', b') + second(a'', b'')`` of the halves ``a = (a', a'')``.

    Each half is normalised, so that both kernels see unit vectors. A region selects by the cosine of the halves, for
    each half separately.

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
