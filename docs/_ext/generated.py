"""A Sphinx extension for what is generated from the package: parts of pages, and docstrings with formulas.

What stands between ``<!-- generated: NAME -->`` and ``<!-- end -->`` of a page, a hint for those who read it on
GitHub, is replaced by the Markdown that the function of that name in :data:`reference.PAGES` returns. Two kinds of
links, which lead to files on GitHub, lead to pages: those to ``eval/results``, and those that name a function in its
file, to the function in the reference.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import reference

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_PLACE = re.compile(r"^<!-- generated: (\w+) -->$.*?^<!-- end -->$", re.DOTALL | re.MULTILINE)
_SECTION = re.compile(r"(Args|Arguments|Attributes|Raises|Returns|Warns|Yields|Shape|Example)s?:$")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("source-read", fill_in)
    app.connect("autodoc-process-docstring", show_formulas, priority=100)  # before napoleon sees the sections
    return {"parallel_read_safe": True}


def fill_in(app: Sphinx, page: str, source: list[str]) -> None:
    """Write what is generated into a page that was read."""
    filled = _PLACE.sub(lambda place: reference.PAGES[place[1]](), source[0])
    filled = reference.CODE.sub(lambda link: f"{{any}}`{link[1]} <{reference.full_name(*link.groups())}>`", filled)
    source[0] = re.sub(r"\]\(\.\./eval/(results/\w+\.md)\)", r"](\1)", filled)


def show_formulas(app: Sphinx, kind: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Show indented paragraphs of a docstring, outside its sections, as they are written: they are formulas."""
    shown: list[str] = []
    in_section = in_block = False
    for line in lines:
        indented = line.startswith("    ")
        if line and not indented:
            in_section, in_block = bool(_SECTION.match(line)), False
        starts = indented and not in_section and not in_block and shown and not shown[-1]
        if starts and not "".join(shown).endswith("::"):
            shown += ["::", ""]
            in_block = True
        shown.append(line)
    lines[:] = shown
