"""Text of others on a card, shown as it is."""

from __future__ import annotations

import html
import re

from fmicl_text.text import one_line


def plain(text: object) -> str:
    """Return text that Markdown and HTML show as it is, on one line."""
    return re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", html.escape(one_line(text), quote=False))
