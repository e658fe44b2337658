"""Linear layers in float32 by oneDNN, for evaluation on a CPU; see :mod:`fmicl_text.core.products`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode

from fmicl_text.core.products import onednn_is_faster, product


class OneDnnLinear(TorchFunctionMode):
    """In this context, linear layers without gradient on a CPU are computed by oneDNN, where it is faster."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute a layer as a product of matrices in oneDNN's layout."""
        if func is linear and len(args) == 3 and _suits(*args[:2]):
            x, weight, bias = args  # (..., D), (E, D), (E,)
            return product(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], len(weight))  # (..., E)
        return func(*args, **(kwargs or {}))


def _suits(x: Tensor, weight: Tensor) -> bool:
    in_float32 = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return in_float32 and x.device.type == "cpu" and not torch.is_grad_enabled() and onednn_is_faster()
