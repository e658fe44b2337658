"""Columns of a user's own file as the values an evaluation needs; every bad row is named.

A kind of value is a function that takes what the file has (csv has text only) and returns the value, or raises a
ValueError that says what it must be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fmicl_text.data.formats import read_file
from fmicl_text.data.readers import Rows
from fmicl_text.errors import InputError
from fmicl_text.text import is_utf8

_SHOWN = 5  # bad rows of one file that are listed
_BINARY = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


def read_columns(path: Path, kinds: Mapping[str, Callable[[Any], Any]]) -> Rows:
    """Read columns of a csv, tsv, jsonl or Parquet file as values of the given kinds.

    Args:
        path: The file.
        kinds: Column -> kind of its values.

    Raises:
        InputError: The file or a column is missing, the file is broken or has no rows, or values are not of their
            kind; with the line or row of each.
    """
    rows = read_file(path, list(kinds))
    if not rows.numbers:
        raise InputError(f"{path}: has no rows")
    values: dict[str, list[Any]] = {column: [] for column in kinds}
    problems = []
    for index in range(len(rows.numbers)):
        for column, kind in kinds.items():
            found = rows.columns[column][index]
            try:
                values[column].append(kind(found))
            except ValueError as error:
                problems.append(f'{place(path, rows, index)}: column "{column}" {error}, found {found!r:.60}')
    refuse(path, problems)
    return Rows(values, rows.numbers, rows.unit)


def place(path: Path, rows: Rows, index: int) -> str:
    """Say where a row is, as ``pairs.csv, line 7``."""
    return f"{path}, {rows.unit} {rows.numbers[index]}"


def refuse(path: Path, problems: Sequence[str]) -> None:
    """Raise an InputError with the first few problems of a file and the count of the rest, if there are any."""
    if problems:
        more = len(problems) - _SHOWN
        raise InputError([*problems[:_SHOWN], *[f"{path}: and {more:,} more such rows"] * (more > 0)])


def text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be text")
    if not is_utf8(value):
        raise ValueError("must be text without lone surrogates")
    return value


def number(value: Any) -> float:
    """A finite number."""
    try:
        read = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):  # the last: of a whole number of more than 308 digits
        read = math.nan
    if not math.isfinite(read):
        raise ValueError("must be a number")
    return read


def binary(value: Any) -> int:
    """0 or 1, also written as false and true."""
    try:
        return _BINARY[str(value).strip().lower()]
    except KeyError:
        raise ValueError("must be 0 or 1") from None


def label(value: Any) -> str:
    """The name of a class or the id of a row: text or a whole number."""
    if not isinstance(value, str | int) or not str(value).strip():
        raise ValueError("must be text or a whole number")
    return str(value)


def grade(value: Any) -> int:
    """How relevant a document is: a whole number from 0."""
    read = number(value)
    if read < 0 or read != int(read):
        raise ValueError("must be a whole number from 0")
    return int(read)
