"""Checks of arguments."""

from __future__ import annotations

import math


def require_positive(**values: float) -> None:
    """Refuse values that are not positive finite numbers.

    Raises:
        ValueError: Naming the argument and its value.
    """
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be a positive finite number, got {value!r}")
