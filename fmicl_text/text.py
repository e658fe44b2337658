"""Words for messages: the nearest valid name, and text from outside made safe to print."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# C0 without tab and line feed, DEL, C1; marks and overrides of direction; other line ends; half characters.
_COMMANDS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that ``name`` is most likely a misspelling of, or ``None``; case does not matter.

    Of the two letters of ``kl``, one may be wrong; of longer names about two in five.
    """
    spelt = {one.casefold(): one for one in known}
    cutoff = 0.5 if len(name) < 4 else 0.6
    return next((spelt[near] for near in difflib.get_close_matches(name.casefold(), spelt, n=1, cutoff=cutoff)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``' (did you mean "x"?)'`` with the nearest known name, or nothing."""
    near = nearest(name, known)
    return f' (did you mean "{near}"?)' if near else ""


def visible(text: str) -> str:
    r"""Return text with every character that a terminal interprets written as Python does, such as ``\x1b``."""
    return _COMMANDS.sub(lambda command: command[0].encode("unicode_escape").decode(), text)


def is_utf8(text: str) -> bool:
    """Whether text can be written as UTF-8, which half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def one_line(text: object) -> str:
    """Return text on one line, without control characters."""
    printable = "".join(character if character.isprintable() else " " for character in str(text))
    return " ".join(printable.split())


def is_number(text: str) -> bool:
    """Whether a text is a number, such as an id that was read from a file."""
    try:
        float(text)
    except ValueError:
        return False
    return True
