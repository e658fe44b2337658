"""Keeping a library's warnings to itself where they say nothing to a user."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_warnings_of(logger: str) -> Iterator[None]:
    """Within this context, the logger of this name passes on errors alone."""
    quieted = logging.getLogger(logger)
    level = quieted.level
    quieted.setLevel(logging.ERROR)
    try:
        yield
    finally:
        quieted.setLevel(level)
