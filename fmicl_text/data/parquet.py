"""Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fmicl_text.data.readers import Rows, require_columns, require_distinct
from fmicl_text.errors import InputError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile


def read_parquet(path: Path, wanted: Sequence[str]) -> Rows:
    """Read columns of a Parquet file."""
    import pyarrow

    file = _open(path)
    require_columns(wanted, file.schema_arrow.names, str(path))
    try:
        table = file.read(columns=list(wanted))
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path}: not a complete Parquet file: {error}") from None
    try:
        columns = table.to_pydict()
    except (ValueError, OverflowError, KeyError) as error:  # text that is not UTF-8; a time that Python cannot hold
        raise InputError(f"{path}: has a value that is neither text nor a number: {error}") from None
    return Rows(columns, range(1, table.num_rows + 1), unit="row")


def parquet_columns(path: Path, wanted: Sequence[str]) -> list[str]:
    """Return the columns that the footer of a Parquet file names."""
    return list(_open(path).schema_arrow.names)


def _open(path: Path) -> ParquetFile:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, pyarrow.ArrowException, UnicodeDecodeError) as error:  # the last: of a column's name
        raise InputError(f"{path}: not a complete Parquet file: {error}") from None
    require_distinct(file.schema_arrow.names, str(path))
    return file
