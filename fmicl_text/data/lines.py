"""Files with one row per line: txt, where it is a text, and jsonl, where it is a JSON object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fmicl_text.data.readers import Rows, open_text, read_text, require_columns
from fmicl_text.errors import InputError


def read_txt(path: Path, wanted: Sequence[str]) -> Rows:
    """Read one text from each line, into a column called ``text``."""
    lines = _lines(path)
    require_columns(wanted, ["text"], str(path))
    return Rows({"text": lines}, range(1, len(lines) + 1))


def txt_columns(path: Path, wanted: Sequence[str]) -> list[str]:
    """Return the one column that a txt file has, if it is a text file."""
    with open_text(path) as file:
        file.readline()
    return ["text"]


def read_jsonl(path: Path, wanted: Sequence[str]) -> Rows:
    """Read columns from one JSON object on each line; ``None`` stands for a key that an object does not have."""
    columns: dict[str, list[Any]] = {column: [] for column in wanted}
    there: dict[str, None] = {}  # an ordered set
    lines = _lines(path)
    for number, line in enumerate(lines, 1):
        record = _parse(line, f"{path}, line {number}")
        there.update(dict.fromkeys(record))
        for column, values in columns.items():
            values.append(record.get(column))
    require_columns(wanted, list(there), str(path))
    return Rows(columns, range(1, len(lines) + 1))


def jsonl_columns(path: Path, wanted: Sequence[str]) -> list[str]:
    """Return the keys of the first object of a jsonl file."""
    with open_text(path) as file:
        return list(_parse(file.readline(), f"{path}, line 1"))


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        what = f"{error.msg} at column {error.colno}" if line.strip() else "the line is empty"
        if line.strip() in ("[", "{"):
            what = "the file is one JSON document; write each row as an object on a line of its own"
        raise InputError(f"{where}: not JSON: {what}") from None
    except _DuplicateKey as error:
        raise InputError(f'{where}: the key "{error}" appears twice in an object') from None
    except (ValueError, RecursionError):  # limits of Python's parser
        raise InputError(f"{where}: a number of thousands of digits, or thousands of nested brackets") from None
    if not isinstance(record, dict):
        raise InputError(f'{where}: not a JSON object such as {{"text": "..."}}')
    return record


class _DuplicateKey(Exception):
    """An object has a key twice; Python would silently keep the last value."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateKey(next(name for name in names if names.count(name) > 1))
    return record


def _lines(path: Path) -> list[str]:
    r"""Return the lines of a text file; ``\n``, ``\r\n`` and ``\r`` end one, as in Python's text files.

    Empty lines at the end, as editors leave them, are none.
    """
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    rows = text.rstrip("\n")
    return rows.split("\n") if rows else []
