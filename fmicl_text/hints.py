"""The nearest valid name, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that ``name`` is most likely a misspelling of, or ``None``."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``' (did you mean "x"?)'`` with the nearest known name, or nothing."""
    near = nearest(name, known)
    return f' (did you mean "{near}"?)' if near else ""
