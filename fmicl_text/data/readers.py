"""What the readers of all formats share: rows with their numbers, the text of a file, and the check for columns."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO, cast

from fmicl_text.errors import InputError
from fmicl_text.text import did_you_mean

_NOT_UTF8 = {
    b"\x1f\x8b": "is compressed with gzip; its name must end in .gz",
    b"PK\x03\x04": "is a zip archive or an Excel workbook, not text; export the sheet as csv",
    b"\xff\xfe": "is UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "is UTF-16 text; save it as UTF-8",
}
"""First bytes of files that are often given in place of UTF-8 text -> what to do."""
_HEAD = 2**20
"""Bytes of a file that are read to say what is wrong with its beginning."""
_SHOWN = 60
"""Characters of a column's name that a message shows; a file that is no table may have one of megabytes."""


class Rows(NamedTuple):
    """Columns of values by name, and the number of each row from 1, in ``unit``s: lines or rows."""

    columns: dict[str, list[Any]]
    numbers: Sequence[int]
    unit: str = "line"


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without a byte order mark; a ``.gz`` file is decompressed.

    Raises:
        InputError: If there is no such file, it cannot be read, or it is not UTF-8 text.
    """
    try:
        data = path.read_bytes()
        if is_compressed(path):
            data = gzip.decompress(data)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a complete gzip file: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    return _decoded(path, data)


def require_text(path: Path) -> None:
    """Check that a file begins with UTF-8 text.

    Raises:
        InputError: As :func:`read_text`.
    """
    with gzip.open(path) if is_compressed(path) else path.open("rb") as file:
        head = file.read(_HEAD)
        whole = len(head) < _HEAD
    _decoded(path, head if whole else head[: head.rfind(b"\n") + 1])


def _decoded(path: Path, data: bytes) -> str:
    for start, remedy in _NOT_UTF8.items():
        if data.startswith(start):
            raise InputError(f"{path}: {remedy}")
    if (nul := data.find(b"\0")) >= 0:
        line = data.count(b"\n", 0, nul) + 1
        raise InputError(f"{path}, line {line}: has a NUL byte, so it is not UTF-8 text; UTF-16 has many of them")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: not UTF-8 text (byte 0x{data[error.start]:02x}); save it as UTF-8: from Windows "
            f"or an older program it may be cp1252, which iconv -f cp1252 -t utf-8 converts"
        ) from None


def open_text(path: Path) -> TextIO:
    """Open a UTF-8 file, plain or ``.gz``, to read its first lines; line ends stay as they are."""
    if is_compressed(path):
        return cast(TextIO, gzip.open(path, "rt", encoding="utf-8-sig", newline=""))
    return path.open(encoding="utf-8-sig", newline="")


def is_compressed(path: Path) -> bool:
    """Whether the name of a file says that it is compressed with gzip."""
    return path.suffix.lower() == ".gz"


def require_columns(wanted: Sequence[str], there: Sequence[str], where: str) -> None:
    """Raise an InputError that names every wanted column that is not there."""
    names = ", ".join(f"{name:.{_SHOWN}}" for name in there)
    problems = [
        f'{where}: no column "{column}"{did_you_mean(column, there)}; there are {names or "none"}'
        for column in wanted
        if column not in there
    ]
    if problems:
        raise InputError(problems)


def require_distinct(names: Sequence[str], where: str) -> None:
    """Raise an InputError if two columns have the same name, since it would be ambiguous."""
    twice = [f'"{name}"' for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{where}: a column's name appears twice: {', '.join(twice)}")
