"""Linear layers in float32 by oneDNN, for evaluation on a CPU.

PyTorch multiplies float32 matrices on x86 by MKL, which leaves half of the vector units of an AMD processor idle;
oneDNN, which PyTorch has for bfloat16 anyway, does not. The results differ by rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode

_AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class OneDnnLinear(TorchFunctionMode):
    """In this context, linear layers without gradient on a CPU are computed by oneDNN, where PyTorch has it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute the layer by the operator that PyTorch's compiler puts in its place."""
        if func is linear and _AVAILABLE and len(args) == 3 and _suits(*args[:2]):
            return torch.ops.mkldnn._linear_pointwise(*args, "none", [], "")
        return func(*args, **(kwargs or {}))


def _suits(x: Tensor, weight: Tensor) -> bool:
    in_float32 = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return in_float32 and x.device.type == "cpu" and not torch.is_grad_enabled()
