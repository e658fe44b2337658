"""Output that is safe for the terminal: control characters in names, data and messages are made visible.

A terminal interprets some characters instead of showing them: they clear it, colour it, hide text, or change its order.
A file name, a row, a recipe or a server's message may contain them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from fmicl_text.text import visible

# How tqdm begins a write; to clear a line it writes spaces between two returns.
_MOVES = re.compile(r"\r( *\r)?|(\x1b\[A)+$")


class VisibleStream:
    """A text stream whose control characters are made visible.

    Args:
        stream: Where text goes.
        moves: Let the cursor moves of a progress bar through: back to the start of its line when a write begins, or up
            in a write of its own.

    Attributes:
        rich_proxied_file: The stream itself, on which rich puts its own colours and tables; what these hold is made
            visible by :class:`fmicl_text.cli.console.Console`.
    """

    def __init__(self, stream: TextIO, moves: bool = False) -> None:
        self.rich_proxied_file = stream
        self._moves = moves

    def write(self, text: str) -> int:
        """Write text; return its length, as it was before control characters were replaced."""
        start = _MOVES.match(text) if self._moves else None
        moves = start[0] if start else ""
        self.rich_proxied_file.write(moves + visible(text.removeprefix(moves)))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def visible_output() -> Iterator[None]:
    """Make control characters visible in everything this process prints, including what libraries print."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = VisibleStream(sys.stdout), VisibleStream(sys.stderr, moves=sys.stderr.isatty())
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
