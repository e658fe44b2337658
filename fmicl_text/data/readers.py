"""Files of texts, read with the row of every value; a broken file is an error that names its line.

csv and tsv files have a header. Fields of a csv may be quoted; tsv, as IANA defines it, has no quoting.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fmicl_text.errors import InputError
from fmicl_text.text import did_you_mean

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile


class Rows(NamedTuple):
    """Columns of values by name, and where each row is, counted from 1 in ``unit``s (line or row)."""

    columns: dict[str, list[Any]]
    numbers: Sequence[int]
    unit: str = "line"


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises:
        InputError: If there is no such file, it cannot be read, or it is not UTF-8.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text (byte 0x{data[error.start]:02x})") from None


def read_file(path: Path, wanted: Sequence[str]) -> Rows:
    """Read the columns ``wanted`` of a file; how is told by its name's ending, a key of :data:`READERS`.

    Values are what the file has, text or not, and ``None`` where it has nothing.

    Raises:
        InputError: If the file or a column is missing, the format unknown, or the file broken.
    """
    require_format(path)
    return READERS[path.suffix.lower()](path, wanted)


def require_format(path: Path) -> None:
    """Raise an InputError if a path is a folder, or its ending says nothing of its format."""
    if os.path.isdir(path):
        raise InputError(f"{path}: is a folder; name a file in it")
    if path.suffix.lower() not in READERS:
        raise InputError(f"{path}: unknown format; the name of a file of texts ends in {', '.join(READERS)}")


def check_head(path: Path, wanted: Sequence[str]) -> None:
    """Check what the head of a file says of its columns, without reading the rest. A jsonl file has no head.

    Raises:
        InputError: As :func:`read_file`.
    """
    suffix = path.suffix.lower()
    if path.is_file() and not path.stat().st_size:
        raise InputError(f"{path}: the file is empty")
    if suffix == ".parquet":
        _open_parquet(path, wanted)
    elif suffix == ".txt":
        require_columns(wanted, ["text"], str(path))
    elif suffix in _DIALECTS:
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, **_DIALECTS[suffix])
                header = _header(path, wanted, next(reader, []))
                start = reader.line_num + 1
                _check_width(path, start, next(reader, header), header)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path}: the first lines are broken: {error}") from None


def require_columns(wanted: Sequence[str], there: Sequence[str], where: str) -> None:
    """Raise an InputError that names every wanted column that is not there."""
    problems = [
        f'{where}: no column "{column}"{did_you_mean(column, there)}; there are {", ".join(there) or "none"}'
        for column in wanted
        if column not in there
    ]
    if problems:
        raise InputError(problems)


def _read_txt(path: Path, wanted: Sequence[str]) -> Rows:
    """One sentence a line, in a column called ``text``."""
    lines = _lines(path)
    require_columns(wanted, ["text"], str(path))
    return Rows({"text": lines}, range(1, len(lines) + 1))


def _read_jsonl(path: Path, wanted: Sequence[str]) -> Rows:
    columns: dict[str, list[Any]] = {column: [] for column in wanted}
    there: dict[str, None] = {}  # an ordered set
    lines = _lines(path)
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            what = f"{error.msg} at column {error.colno}" if line.strip() else "the line is empty"
            raise InputError(f"{path}, line {number}: not JSON: {what}") from None
        except (ValueError, RecursionError):  # what Python refuses to read
            raise InputError(f"{path}, line {number}: thousands of digits, or of brackets in brackets") from None
        if not isinstance(record, dict):
            raise InputError(f'{path}, line {number}: not a JSON object, as {{"text": "..."}} is')
        there.update(dict.fromkeys(record))
        for column, values in columns.items():
            values.append(record.get(column))
    require_columns(wanted, list(there), str(path))
    return Rows(columns, range(1, len(lines) + 1))


_DIALECTS: dict[str, dict[str, Any]] = {
    ".csv": {"strict": True},
    ".tsv": {"delimiter": "\t", "quoting": csv.QUOTE_NONE},
}


def _read_delimited(path: Path, wanted: Sequence[str]) -> Rows:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), **_DIALECTS[path.suffix.lower()])
    rows: list[list[str]] = []
    lines: list[int] = []
    start = 1
    try:
        header = _header(path, wanted, next(reader, []))
        start = reader.line_num + 1
        for fields in reader:
            _check_width(path, start, fields, header)
            rows.append(fields)
            lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}, line {start}: the record that begins here is broken: {error}") from None
    positions = {column: header.index(column) for column in wanted}
    return Rows({column: [row[position] for row in rows] for column, position in positions.items()}, lines)


def _header(path: Path, wanted: Sequence[str], header: list[str]) -> list[str]:
    require_columns(wanted, header, str(path))
    if len(set(header)) < len(header):
        raise InputError(f"{path}, line 1: a column's name appears twice in {', '.join(header)}")
    return header


def _check_width(path: Path, line: int, fields: list[str], header: list[str]) -> None:
    if len(fields) != len(header):
        what = f"{len(fields)} fields, the header has {len(header)}" if fields else "the line is empty"
        raise InputError(f"{path}, line {line}: {what}")


def _read_parquet(path: Path, wanted: Sequence[str]) -> Rows:
    import pyarrow

    try:
        table = _open_parquet(path, wanted).read(columns=list(wanted))
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path}: not a whole Parquet file: {error}") from None
    try:
        columns = table.to_pydict()
    except (ValueError, OverflowError, KeyError) as error:  # text that is not UTF-8; a time that Python cannot hold
        raise InputError(f"{path}: has a value that is no text or number: {error}") from None
    return Rows(columns, range(1, table.num_rows + 1), unit="row")


def _open_parquet(path: Path, wanted: Sequence[str]) -> ParquetFile:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, pyarrow.ArrowException, UnicodeDecodeError) as error:  # the last: of a column's name
        raise InputError(f"{path}: not a whole Parquet file: {error}") from None
    require_columns(wanted, file.schema_arrow.names, str(path))
    return file


def _lines(path: Path) -> list[str]:
    """Return the lines of a text file; only line feeds end a line, as editors count."""
    text = read_text(path).replace("\r\n", "\n")
    return text.removesuffix("\n").split("\n") if text else []


READERS: dict[str, Callable[[Path, Sequence[str]], Rows]] = {
    ".csv": _read_delimited,
    ".tsv": _read_delimited,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".txt": _read_txt,
}
"""How a file is read, by the ending of its name."""
