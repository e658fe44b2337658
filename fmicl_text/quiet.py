"""Keeping to itself what a logger says where it tells a user nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quietened(logger: str, level: int = logging.ERROR) -> Iterator[None]:
    """Within this context, the logger of this name passes on what is of a level or above; default errors alone."""
    quieted = logging.getLogger(logger)
    before = quieted.level
    quieted.setLevel(level)
    try:
        yield
    finally:
        quieted.setLevel(before)
