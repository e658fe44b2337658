"""Products of the matrices of one tile, without gradient.

On a CPU, PyTorch multiplies float32 matrices by MKL, which leaves half of the vector units of an AMD processor idle.
It has oneDNN too, which does not, and takes it for tensors in that library's layout. The results differ by rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``a b' + bias``, ``(N, M)``, of ``a`` ``(N, D)``, ``b`` ``(M, D)`` and ``bias`` ``(M,)``; None is 0."""
    return linear(a.to_mkldnn(), b, bias).to_dense() if _suits_onednn(a) else linear(a, b, bias)


def add_product(into: Tensor, a: Tensor, b: Tensor) -> None:
    """Add ``a b`` to ``into`` ``(N, D)``, of ``a`` ``(N, M)`` and ``b`` ``(M, D)``."""
    if _suits_onednn(a):
        into.add_(product(a, b.T))
    else:
        into.addmm_(a, b)


def _suits_onednn(a: Tensor) -> bool:
    return a.device.type == "cpu" and a.dtype == torch.float32 and torch.backends.mkldnn.is_available()
