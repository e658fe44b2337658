"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "fmicl_text/losses/README.md")),
    *(page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts),
]


class Block(NamedTuple):
    """A block of code in a page."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The commands of a block of bash, with what is continued on the next line in one."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in lines if line.strip() and not line.startswith("#")]


def _blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.finditer(r"^( *)```([^\n`]*)\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE):
            indent, language, code = block.groups()
            code = re.sub(f"^{indent}", "", code, flags=re.MULTILINE)
            found.append(Block(page, text[: block.start()].count("\n") + 1, language, code))
    return found


BLOCKS = _blocks()


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def place(block: Block) -> str:
    return f"{named(block.page)}:{block.line}"


def of(language: str) -> list[Any]:
    """The blocks of a language, as parameters of a test."""
    return [pytest.param(block, id=place(block)) for block in BLOCKS if block.language == language]
