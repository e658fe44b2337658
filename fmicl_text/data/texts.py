"""The check of training texts: anything but text that is not empty is an error that names its row."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from fmicl_text.data.groups import group_complaint, is_group
from fmicl_text.data.readers import Rows
from fmicl_text.errors import InputError
from fmicl_text.losses.columns import GROUP

_SHOWN = 5
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def check_values(batches: Iterable[dict[str, list[Any]]], columns: dict[str, str], read: Rows, source: str) -> int:
    """Check that every row has texts, and a group if there is one.

    Args:
        batches: Values of all rows by role, batch after batch.
        columns: Role to column; ``group`` need not be text.
        read: The number of each row.
        source: Name of the data in messages.

    Returns:
        How many rows there are.

    Raises:
        InputError: With the first values that are wrong, and the number of rows that have one.
    """
    bad: dict[int, str] = {}
    start = 0
    for batch in batches:
        for role, values in batch.items():
            for index, value in enumerate(values, start):
                if not is_valid(role, value):
                    bad.setdefault(index, f'column "{columns[role]}" {complaint(role, value)}')
        start += len(batch["anchor"])
    if bad:
        problems = [f"{source}, {read.unit} {read.numbers[i]}: {bad[i]}" for i in sorted(bad)[:_SHOWN]]
        if len(bad) > _SHOWN:
            problems.append(f"{source}: {len(bad):,} of {start:,} rows are like this, the first {_SHOWN} are shown")
        raise InputError(problems)
    return start


def is_valid(role: str, value: object) -> bool:
    """Whether a value can play a role: a group, or a text that is not empty."""
    if role == GROUP:
        return is_group(value)
    if not isinstance(value, str) or not value.strip():
        return False
    return not _NO_TEXT.search(value)


def complaint(role: str, value: object) -> str:
    """Say why a value cannot play a role."""
    if role == GROUP:
        return group_complaint(value)
    if value is None:
        return "has no value"
    if not isinstance(value, str):
        return f"has {value!r:.40}, which is not text"
    if not value.strip():
        return "is empty"
    what = "a NUL character" if "\0" in value else "half of a surrogate pair"
    return f"has {what}, which is not text"
