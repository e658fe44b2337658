"""Named terms of a loss."""

from __future__ import annotations

from torch import Tensor


class Terms(dict[str, Tensor]):
    """Scalar terms by name, which scale and add like the loss they sum to.

    The sentence-transformers trainer sums and logs a dict of terms; its wrapper losses, such as ``MatryoshkaLoss``,
    weigh and add up what the loss inside returns, and with this keep the names.
    """

    def __mul__(self, weight: float) -> Terms:
        return Terms({name: term * weight for name, term in self.items()})

    __rmul__ = __mul__

    def __add__(self, other: Terms | float) -> Terms:
        if isinstance(other, Terms):
            return Terms({name: term + other[name] for name, term in self.items()})
        if other == 0:  # where a sum starts
            return self
        return NotImplemented

    __radd__ = __add__
