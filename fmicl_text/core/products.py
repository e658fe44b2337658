"""Products of the matrices of one tile, without gradient.

On a CPU, PyTorch multiplies float32 matrices by MKL, whose instructions on an AMD processor are those of AVX2. Where
the processor has AVX-512, that leaves half of its vector units idle. PyTorch has oneDNN too, which uses them, and takes
it for tensors in that library's layout. Without AVX-512, MKL is faster, most of all on a small batch. The results
differ by rounding.

On CUDA, float32 matrices are multiplied on tensor cores where TF32 is allowed: by PyTorch's own switch, which
the training argument ``tf32: true`` sets, as does ``torch_compile``, or within :func:`tensor_cores`.
TF32 keeps 11 bits of each factor and adds up in float32, so the cosine of two unit vectors is off by at most 2^-10, and
for random ones of D dimensions by 2^-11 / sqrt(D) or so, 2e-5 at D = 768. A bfloat16 encoder has 8 bits in the factors
of every layer: rounding its embeddings alone does eight times as much. Hence a loss on top of a bfloat16 encoder takes
TF32, and one on top of a float32 encoder does not unless the encoder does. Products in bfloat16 would be twice as fast,
but their result has 8 bits too: a cosine near 1 has steps of 0.004, which a kernel makes into 6 percent and more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

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


def takes_tf32() -> bool:
    """Whether float32 products on CUDA take TF32 now."""
    switch, name, on, _ = _tf32_switch()
    return bool(getattr(switch, name) == on)


@contextmanager
def tensor_cores(wanted: bool = True) -> Iterator[None]:
    """Let float32 products on CUDA take TF32 in this context, or not.

    The switch is PyTorch's, of the whole process. With gradients, the tiles of a backward pass do as those of the
    forward pass did, wherever it is called.
    """
    if takes_tf32() == wanted:
        yield
        return
    switch, name, on, off = _tf32_switch()
    before = getattr(switch, name)
    setattr(switch, name, on if wanted else off)
    try:
        yield
    finally:
        setattr(switch, name, before)


def _tf32_switch() -> tuple[Any, str, Any, Any]:
    """Return an object, its attribute, and the values of it at which TF32 is on and off."""
    switch = torch.backends.cuda.matmul
    if hasattr(switch, "fp32_precision"):  # torch 2.9
        return switch, "fp32_precision", "tf32", "ieee"
    return switch, "allow_tf32", True, False


def _suits_onednn(a: Tensor) -> bool:
    return a.device.type == "cpu" and a.dtype == torch.float32 and onednn_is_faster()


@cache
def onednn_is_faster() -> bool:
    """Return whether this CPU multiplies float32 matrices faster by oneDNN than by PyTorch's default library."""
    return torch.backends.mkldnn.is_available() and bool(torch.cpu.get_capabilities().get("avx512_f"))
