"""Named terms of a loss."""

from __future__ import annotations

from torch import Tensor

ADDED = "added"
"""Name of what a wrapper adds to the terms, such as the divergence between layers of ``AdaptiveLayerLoss``."""


class Terms(dict[str, Tensor]):
    """Scalar terms by name, which scale and add like the loss they sum to.

    The sentence-transformers trainer sums and logs a dict of terms; its wrapper losses, such as ``MatryoshkaLoss``,
    weigh and add up what the loss inside returns; with this class the names are kept.
    """

    def __mul__(self, weight: float | Tensor) -> Terms:
        return Terms({name: term * weight for name, term in self.items()})

    __rmul__ = __mul__

    def __truediv__(self, divisor: float | Tensor) -> Terms:
        return Terms({name: term / divisor for name, term in self.items()})

    def __add__(self, other: Terms | Tensor | float) -> Terms:
        if isinstance(other, Tensor):
            other = Terms({ADDED: other})
        if isinstance(other, Terms):
            both = [name for name in other if name in self]
            return Terms({**self, **other, **{name: self[name] + other[name] for name in both}})
        if other == 0:  # where a sum starts
            return self
        return NotImplemented

    __radd__ = __add__
