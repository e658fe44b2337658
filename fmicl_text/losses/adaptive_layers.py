"""Whether sentence-transformers' ``AdaptiveLayerLoss`` runs an encoder, as ``Matryoshka2dLoss`` has it do too.

While its loss is computed, a forward pass of its own stands in the place of the transformer's, and keeps what whole
columns give at each layer. The class of that pass is not a documented name of the library.
"""

from __future__ import annotations

from sentence_transformers.sentence_transformer.losses.adaptive_layer import TransformerDecorator
from torch import nn


def are_read(model: nn.Module) -> bool:
    """Return whether each layer's output is kept now, for ``AdaptiveLayerLoss``.

    A forward pass that something else puts in place, such as accelerate's under bfloat16, is not meant.

    Args:
        model: The encoder, in whatever training wraps it.
    """
    return any(isinstance(vars(module).get("forward"), TransformerDecorator) for module in model.modules())
