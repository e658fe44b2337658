"""Checks of arguments."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable


def require_positive(**values: float) -> None:
    """Refuse values that are not positive finite numbers.

    Raises:
        ValueError: Naming the argument and its value.
    """
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be a positive finite number, got {value!r}")


def not_one_of(what: str, given: object, known: Iterable[str]) -> ValueError:
    """Return the error for a value that is none of the known names: it lists them, and says which is nearest."""
    names = list(known)
    near = difflib.get_close_matches(str(given).lower(), names, n=1, cutoff=0.5)  # names are short: kk is near kl
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ValueError(f"{what} must be one of {', '.join(names)}, got {given!r}{hint}")
