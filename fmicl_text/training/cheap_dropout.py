"""Dropout on a CPU from 16 random bits a number, which takes a third of the time of PyTorch's.

PyTorch draws a number for each element in one thread, about 10 ns each. Here a draw of 64 bits decides four elements.
The probability is a multiple of 2^-16, off by less than 10^-5 from the one asked for, and the scale is the inverse of
what is kept, so that the expectation is exact. The random numbers are those of PyTorch's generator, so a training
depends on its seed and continues from its state as before; but it has other numbers than a training without this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from fmicl_text.training.loss_state import contrastive_losses

_LEVELS = 2**16
_LEAST = torch.iinfo(torch.int64).min


def cheap_dropout(values: Tensor, probability: float) -> Tensor:
    """Set each number to zero with a probability, and scale the others so that the expectation stays.

    Args:
        values: Of any shape, on a CPU, in a floating type.
        probability: At least 0 and below 1; rounded to a multiple of 2^-16.

    Returns:
        A new tensor.
    """
    dropped = round(probability * _LEVELS)
    if not 0 < dropped < _LEVELS:
        return functional.dropout(values, probability)
    drawn = torch.empty(math.ceil(values.numel() / 4), dtype=torch.int64).random_(_LEAST, None)
    bits = drawn.view(torch.int16)[: values.numel()].view(values.shape)  # uniform from -2^15 to 2^15 - 1
    kept = bits >= dropped - _LEVELS // 2
    return values * kept.to(values.dtype).mul_(_LEVELS / (_LEVELS - dropped))


def _attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, probability: float, scale: float
) -> Tensor:
    """Return the attention ``(B, H, L, d)`` with dropout of its weights, as PyTorch computes it on a CPU."""
    scores = (query * scale) @ key.transpose(-2, -1)  # (B, H, L, L)
    if mask is not None:  # a row without a key, such as padding under a window, must not become NaN
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return cheap_dropout(scores.softmax(dim=-1), probability) @ value


def may_be_cheap(model: nn.Module, loss: object) -> bool:
    """Return whether a step encodes each row once, so that :class:`CheapDropout` may be used.

    Gradient checkpointing and the gradient cache encode again in the backward pass, which PyTorch makes outside of any
    mode, and must drop the same numbers there. What a loss of another package does is not known.

    Args:
        model: The encoder.
        loss: As in :func:`fmicl_text.training.loss_state.contrastive_losses`.
    """
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        return False
    losses = loss.values() if isinstance(loss, dict) else [loss]
    own = [contrastive_losses(one).values() for one in losses]
    return all(own) and not any(getattr(one, "uses_gradient_cache", False) for of_one in own for one in of_one)


class CheapDropout(TorchFunctionMode):
    """While it is entered, dropout of numbers on a CPU is :func:`cheap_dropout`, in attention too.

    It changes no module: ``functional.dropout``, which modules call, and ``scaled_dot_product_attention`` are replaced
    where all their tensors are on a CPU, and left alone in every other case.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call what is cheaper, or else the function."""
        kwargs = kwargs or {}
        if function is functional.dropout:
            return _dropout(*args, **kwargs)
        if function is functional.scaled_dot_product_attention:
            return _scaled_dot_product_attention(*args, **kwargs)
        return function(*args, **kwargs)


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if not training or inplace or input.device.type != "cpu" or not input.is_floating_point() or not 0 < p < 1:
        return functional.dropout(input, p, training, inplace)
    return cheap_dropout(input, p)


def _scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    other_mask = attn_mask is not None and attn_mask.dtype != torch.bool
    if not 0 < dropout_p < 1 or query.device.type != "cpu" or is_causal or enable_gqa or other_mask:
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    return _attention(query, key, value, attn_mask, dropout_p, scale or query.shape[-1] ** -0.5)
