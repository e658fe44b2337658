"""Whether an optimizer's state belongs to the parameters it trains."""

from __future__ import annotations

import torch
from torch.optim import Optimizer

_LIKE_PARAMETER = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "sum")
"""What torch's optimizers keep for each parameter in its shape."""


def foreign_state(optimizer: Optimizer) -> str | None:
    """Return how the state of an optimizer shows that it belongs to other parameters, or None.

    A checkpoint has the states in the order of the parameters, without their names. torch does not compare shapes, and
    its fused kernels write past the end of a state that is too small.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for name, value in optimizer.state.get(parameter, {}).items():
                if name in _LIKE_PARAMETER and isinstance(value, torch.Tensor) and value.shape != parameter.shape:
                    return f"a state of shape {tuple(value.shape)} meets a parameter of shape {tuple(parameter.shape)}"
    return None
