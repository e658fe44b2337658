"""A Sphinx extension that writes formulas as MathML: browsers show it by themselves, without a script or a network."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, fromstring, tostring

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.errors import SphinxError

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator

_ROWS = ("math", "mrow", "msqrt", "mtd")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_html_math_renderer("mathml", inline_renderers=(write_inline, None), block_renderers=(write_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write_inline(page: HTML5Translator, formula: nodes.math) -> None:
    """Write a formula of a line."""
    page.body.append(mathml(formula.astext(), "inline"))
    raise nodes.SkipNode


def write_block(page: HTML5Translator, formula: nodes.math_block) -> None:
    """Write a formula that has a place of its own."""
    page.body.append(f'<div class="math">{mathml(formula.astext(), "block")}</div>\n')
    raise nodes.SkipNode


def mathml(latex: str, display: str) -> str:
    """Return a formula of LaTeX as MathML.

    Raises:
        SphinxError: If it has a command that the converter does not know.
    """
    written = convert(latex, xmlns="", display=display)
    if "\\" in written:
        raise SphinxError(f"cannot be written as MathML: {latex}")
    formula = fromstring(written)
    set_functions(formula, display)
    return tostring(formula, encoding="unicode")


def set_functions(formula: Element, display: str) -> None:
    """Set names such as log and max as LaTeX does: with space beside letters, limits below where there is room."""
    for part in formula.iter("msub"):
        if display == "block" and is_function(part):
            part.tag = "munder"
    for name in filter(is_name, formula.iter()):
        name.tag, name.attrib = "mi", {}  # as an operator it would have space beside brackets too
    for row in formula.iter():
        parts = list(row)
        for place in range(len(parts) - 1, 0, -1) if row.tag in _ROWS else ():
            pair = parts[place - 1 : place + 1]
            if any(map(is_function, pair)) and not any(part.tag in ("mo", "mspace") for part in pair):
                row.insert(place, Element("mspace", width="0.17em"))


def is_function(part: Element) -> bool:
    """Whether it is a name, perhaps with something below it."""
    return is_name(part[0] if part.tag in ("msub", "munder") else part)


def is_name(part: Element) -> bool:
    """Whether it is a name of several letters."""
    return part.tag in ("mi", "mo") and len(part.text or "") > 1 and str(part.text).isalpha()
