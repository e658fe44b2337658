"""csv and tsv files: a header, then one record after another.

Fields of a csv may be quoted (RFC 4180). A tsv has two dialects. As IANA registers it, it has no quoting, and a quote
is part of the text; pandas, R and spreadsheets write it as a csv with tabs. :func:`is_quoted` tells which one it is.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fmicl_text.data.readers import Rows, open_text, read_text, require_columns, require_distinct
from fmicl_text.errors import InputError

_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
_HEAD = 2**20
"""How many characters of a streamed tsv are read to decide whether it is quoted."""
# A field, quoted or without any quote, and the separator after it; possessive, so that matching takes linear time.
_FIELD = re.compile(r'(?:"((?:[^"]++|"")*+)"|[^"\t\r\n]*+)(?:\t|\r\n?|\n|\Z)')
_CUT_OFF = re.compile(r'"(?:[^"]++|"")*+\Z')


def read_csv(path: Path, wanted: Sequence[str]) -> Rows:
    """Read columns of a csv file."""
    return _read(path, wanted, read_text(path), ",", csv.QUOTE_MINIMAL)


def read_tsv(path: Path, wanted: Sequence[str]) -> Rows:
    """Read columns of a tsv file in the dialect it is in."""
    text = read_text(path)
    return _read(path, wanted, text, "\t", csv.QUOTE_MINIMAL if is_quoted(text) else csv.QUOTE_NONE)


def csv_columns(path: Path, wanted: Sequence[str]) -> list[str]:
    """Return the header of a csv file, once the first record is checked."""
    return _columns(path, wanted, ",", csv.QUOTE_MINIMAL)


def tsv_columns(path: Path, wanted: Sequence[str]) -> list[str]:
    """Return the header of a tsv file, once the first record is checked."""
    return _columns(path, wanted, "\t", tsv_quoting(path))


def tsv_quoting(path: Path) -> int:
    """Return how the fields of a tsv file are quoted, as the csv module counts, by the first million characters."""
    with open_text(path) as file:
        head = file.read(_HEAD)
        whole = len(head) < _HEAD
    return csv.QUOTE_MINIMAL if is_quoted(head, whole) else csv.QUOTE_NONE


def is_quoted(text: str, whole: bool = True) -> bool:
    r"""Tell a tsv that was written like a csv, with quoted fields, from one without quoting.

    It is quoted if every quote in it is one of quoting (around a field, doubled inside one), and at least one was
    needed (around a tab, a line break or another quote), or the header is quoted. ``"Hello."`` alone is no sign: it may
    be the text of a tsv without quoting.

    Args:
        text: The content of the file.
        whole: Whether that is all of it; otherwise the last field may be cut off.
    """
    if '"' not in text:
        return False
    needed, end = text.startswith('"'), 0
    while end < len(text):
        field = _FIELD.match(text, end)
        if field is None:
            return needed and not whole and _CUT_OFF.match(text, end) is not None
        needed = needed or (field[1] is not None and any(mark in field[1] for mark in '"\t\r\n'))
        end = field.end()
    return needed


def require_separator(path: Path, wanted: Sequence[str], header: Sequence[str], separator: str) -> None:
    """Raise an InputError with the remedy if the columns of a header are separated by something else.

    Args:
        path: The file.
        wanted: Expected columns; none if they are not known.
        header: The header as it was read.
        separator: The one that it was read with.
    """
    if wanted and all(column in header for column in wanted):
        return
    found = []
    for other in _SEPARATORS.keys() - {separator}:
        fields = _fields(separator.join(header), other)
        as_wanted = bool(wanted) and all(column in fields for column in wanted)
        if len(fields) > 1 and (as_wanted or len(header) == 1):
            found.append((as_wanted, len(fields), other))
    if found:
        *_, other = max(found)
        raise InputError(
            f"{path}, line 1: columns are separated by {_SEPARATORS[other]}, not {_SEPARATORS[separator]}; "
            f"{_remedy(path, other)}"
        )


def _fields(header: str, separator: str) -> list[str]:
    """Return the fields of a header by a separator; a name in quotes may have line ends."""
    with _fields_of_any_length():
        return next(csv.reader(io.StringIO(header, newline=""), delimiter=separator), [])


def _remedy(path: Path, separator: str) -> str:
    if separator in ",\t":
        return f"rename the file so that it ends in {'.csv' if separator == ',' else '.tsv'}"
    # Every value is kept as it is written.
    read = f"pandas.read_csv({str(path)!r}, sep={separator!r}, dtype=str, keep_default_na=False)"
    target = str(path.with_name(f"{path.name.partition('.')[0]}-commas.csv"))
    return f'convert it:\n    python -c "import pandas; {read}.to_csv({target!r}, index=False)"'


def _read(path: Path, wanted: Sequence[str], text: str, separator: str, quoting: int) -> Rows:
    text = text.rstrip("\r\n")  # empty lines at the end, as editors leave them, are no rows
    numbered = _records(path, io.StringIO(text, newline=""), separator, quoting)
    _, header = next(numbered, (1, []))
    _check_header(path, wanted, header, separator)
    rows: list[list[str]] = []
    lines: list[int] = []
    for line, fields in numbered:
        _check_width(path, line, fields, header)
        rows.append(fields)
        lines.append(line)
    positions = {column: header.index(column) for column in wanted}
    return Rows({column: [row[position] for row in rows] for column, position in positions.items()}, lines)


def _columns(path: Path, wanted: Sequence[str], separator: str, quoting: int) -> list[str]:
    with open_text(path) as file:
        numbered = _records(path, file, separator, quoting)
        _, header = next(numbered, (1, []))
        _check_header(path, wanted, header, separator)
        line, fields = next(
            (record for record in numbered if record[1]), (2, header)
        )  # an empty line is none at the end
    _check_width(path, line, fields, header)
    return header


def _records(path: Path, lines: Iterable[str], separator: str, quoting: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which each record begins, and its fields."""
    reader = csv.reader(lines, delimiter=separator, quoting=quoting, strict=True)  # type: ignore[arg-type]
    start = 1
    while True:
        with _fields_of_any_length():
            try:
                fields = next(reader, None)
            except csv.Error as error:
                raise InputError(f"{path}, line {start}: the record that begins here is broken: {error}") from None
        if fields is None:
            return
        yield start, fields
        start = reader.line_num + 1


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    """Lift the csv module's global limit of 131,072 characters a field within this context."""
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # what a C long holds everywhere
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _check_header(path: Path, wanted: Sequence[str], header: list[str], separator: str) -> None:
    require_separator(path, wanted, header, separator)
    require_columns(wanted, header, str(path))
    require_distinct(header, f"{path}, line 1")


def _check_width(path: Path, line: int, fields: Sequence[Any], header: Sequence[str]) -> None:
    if len(fields) != len(header):
        what = f"{len(fields)} fields, the header has {len(header)}" if fields else "the line is empty"
        raise InputError(f"{path}, line {line}: {what}")
