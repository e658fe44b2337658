"""The console for tables and messages: it prints text as it is, without markup or control characters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from fmicl_text.text import visible


class Console(rich.console.Console):
    """A rich console that prints ``[bold]`` literally and makes control characters visible.

    Args:
        stderr: Print on standard error.
        quiet: Print nothing.
    """

    def __init__(self, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(stderr=stderr, quiet=quiet, markup=False, highlight=False, emoji=False)

    @property
    def file(self) -> IO[str]:
        """Where rich writes: the stream itself, also while a status line stands in for standard error."""
        file = super().file
        return getattr(file, "rich_proxied_file", file)

    @file.setter
    def file(self, file: IO[str]) -> None:
        self._file = file

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, with control characters in the text visible; rich's own colours stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))
