"""The formats of files with texts: one table, from which everything that depends on a format is taken.

Files are read here with the number of every row, and a broken file is an error that names its line. Streams are read
by ``datasets``, which is laxer in places: see :mod:`fmicl_text.data.streams`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmicl_text.data.delimited import csv_columns, read_csv, read_tsv, tsv_columns, tsv_quoting
from fmicl_text.data.lines import jsonl_columns, read_jsonl, read_txt, txt_columns
from fmicl_text.data.parquet import parquet_columns, read_parquet
from fmicl_text.data.readers import Rows, require_columns, require_text
from fmicl_text.errors import InputError


@dataclass(frozen=True)
class Format:
    """A format of files.

    Attributes:
        read: Reads the columns that are asked for.
        columns: Reads the names of all columns from the beginning or the end of a file; the columns that are asked for
            serve error messages only.
        loader: The loader of ``datasets`` that streams it.
        options: What keeps the loader from changing values.
        options_of: Options that depend on the file.
    """

    read: Callable[[Path, Sequence[str]], Rows]
    columns: Callable[[Path, Sequence[str]], list[str]]
    loader: str
    options: dict[str, Any] = field(default_factory=dict)
    options_of: Callable[[Path], dict[str, Any]] = lambda path: {}


_AS_WRITTEN = {"na_filter": False, "skip_blank_lines": False, "index_col": False}

FORMATS: dict[str, Format] = {
    ".csv": Format(read_csv, csv_columns, "csv", _AS_WRITTEN),
    ".tsv": Format(
        read_tsv, tsv_columns, "csv", _AS_WRITTEN | {"sep": "\t"}, lambda path: {"quoting": tsv_quoting(path)}
    ),
    # Otherwise one number would turn all texts around it into JSON.
    ".jsonl": Format(read_jsonl, jsonl_columns, "json", {"on_mixed_types": None}),
    ".parquet": Format(read_parquet, parquet_columns, "parquet"),
    ".txt": Format(read_txt, txt_columns, "text", {"encoding": "utf-8-sig"}),
}
"""Format by the ending of a file's name; all but Parquet may be compressed, as in ``.csv.gz``."""


def ending(path: Path | str) -> str:
    """Return the ending of a name that tells the format, in lower case: ``.csv`` for ``a.CSV`` and ``a.csv.gz``."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    compressed = suffixes[-1:] == [".gz"] and suffixes[-2:-1] != [".parquet"]  # Parquet compresses by itself
    return "".join(suffixes[-2:-1] if compressed else suffixes[-1:])


def format_of(path: Path) -> Format:
    """Return the format of a file by its name.

    Raises:
        InputError: If the path is a folder, or its ending is not that of a known format.
    """
    if os.path.isdir(path):
        raise InputError(
            f"{path}: is a folder; name a file of texts in it (a recipe for images, such as vision-quickstart, takes "
            "one of images)"
        )
    if ending(path) not in FORMATS:
        known = ", ".join(FORMATS)
        raise InputError(f"{path}: unknown format; the name of a file of texts ends in {known}, or these and .gz")
    return FORMATS[ending(path)]


def read_file(path: Path, wanted: Sequence[str]) -> Rows:
    """Read the columns ``wanted`` of a file; its name's ending, a key of :data:`FORMATS`, tells the format.

    Values are what the file has, text or not, and ``None`` where it has nothing.

    Raises:
        InputError: If the file or a column is missing, the format unknown, or the file broken.
    """
    return format_of(path).read(path, wanted)


def column_names(path: Path, wanted: Sequence[str] = ()) -> list[str]:
    """Return the names of a file's columns without reading all of it.

    Args:
        path: The file.
        wanted: Expected columns, if they are known: if they are missing, the message may say why.

    Raises:
        InputError: As :func:`read_file`; only the beginning of the file is read, or the end of a Parquet file.
    """
    if path.is_file() and not path.stat().st_size:
        raise InputError(f"{path}: the file is empty")
    try:
        return format_of(path).columns(path, wanted)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        require_text(path)  # which names the line and says what to do
        raise InputError(f"{path}: the first lines are broken: {error}") from None
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: the first lines are broken: {error}") from None


def check_head(path: Path, wanted: Sequence[str]) -> None:
    """Check that the beginning of a file is valid and that it has the columns, without reading the rest.

    Raises:
        InputError: As :func:`read_file`.
    """
    require_columns(wanted, column_names(path, wanted), str(path))
