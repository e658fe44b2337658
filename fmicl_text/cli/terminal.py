"""What is printed cannot command the terminal: control characters in names, data and answers are made visible.

A terminal obeys some characters instead of showing them: they clear it, colour it, hide text, or change its order. A
file's name, a row, a recipe or a server's message may have them.
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
        moves: Let a progress bar through, which begins its writes by going back to the start of its line, or goes up
            in a write of its own.

    Attributes:
        rich_proxied_file: The stream itself, on which rich puts its own colours and tables; what these hold is made
            visible by :class:`fmicl_text.cli.console.Console`.
    """

    def __init__(self, stream: TextIO, moves: bool = False) -> None:
        self.rich_proxied_file = stream
        self._moves = moves

    def write(self, text: str) -> int:
        """Write text; return how many characters were asked for."""
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
    """Make control characters visible in all that this process prints, by whatever library."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = VisibleStream(sys.stdout), VisibleStream(sys.stderr, moves=sys.stderr.isatty())
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
