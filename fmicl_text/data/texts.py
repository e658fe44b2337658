"""What may be trained on: text with something in it. All else is an error that names its row."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from fmicl_text.data.readers import Rows
from fmicl_text.errors import InputError

_SHOWN = 5
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def check_texts(batches: Iterable[dict[str, list[Any]]], roles: dict[str, str], read: Rows, source: str) -> int:
    """Raise an InputError that shows the first values that are not text, and counts the rows that have one.

    Args:
        batches: Values of all rows by role, batch after batch.
        roles: Role to column.
        read: What each row is called.
        source: Where the rows are from.

    Returns:
        How many rows there are.
    """
    bad: dict[int, str] = {}
    start = 0
    for batch in batches:
        for role, values in batch.items():
            for index, value in enumerate(values, start):
                if not is_text(value):
                    bad.setdefault(index, f'column "{roles[role]}" {complaint(value)}')
        start += len(batch["anchor"])
    if bad:
        problems = [f"{source}, {read.unit} {read.numbers[i]}: {bad[i]}" for i in sorted(bad)[:_SHOWN]]
        if len(bad) > _SHOWN:
            problems.append(f"{source}: {len(bad):,} of {start:,} rows are like this, the first {_SHOWN} are shown")
        raise InputError(problems)
    return start


def is_text(value: object) -> bool:
    """Tell a text with something in it from all other values."""
    if not isinstance(value, str) or not value.strip():
        return False
    return value.isascii() or not _LONE_SURROGATE.search(value)


def complaint(value: object) -> str:
    """Say what keeps a value from being a text."""
    if value is None:
        return "has no value"
    if not isinstance(value, str):
        return f"has {value!r:.40}, which is no text"
    return "has half of a surrogate pair, which is no text" if value.strip() else "is empty"
