"""Rows kept as Arrow in the cache of ``datasets``, so that a second run does not read, check or mine them again.

The key of an entry is everything that its rows depend on. Entries are memory-mapped, not read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmicl_text.data.formats import ending
from fmicl_text.errors import RunFailedError
from fmicl_text.files import cannot_write, read_json, sha256, write_json

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

logger = logging.getLogger(__name__)

WORTH = 2**20
"""Size of a file in bytes from which its rows are kept."""
_VERSION = 2  # of what readers and checks make of a file; a new version ignores older entries


def kept_of_file(path: Path, asked: dict[str, Any], read: Callable[[], Dataset]) -> Dataset:
    """Return the checked rows of a file: those kept before, or read now and kept if the file is large.

    Args:
        path: The file.
        asked: What else the rows depend on, JSON-ready.
        read: Reads and checks them; if it raises, nothing is kept.
    """
    if not os.path.isfile(path) or path.stat().st_size < WORTH:
        return read()
    return kept([ending(path), sha256(path), asked], read, str(path))


def kept(made_from: Any, make: Callable[[], Dataset], name: str) -> Dataset:
    """Return rows that were kept before, or make and keep them.

    Args:
        made_from: All that the rows depend on, JSON-ready.
        make: Makes them; if it raises, nothing is kept.
        name: Name of the rows in messages.
    """
    entry = entry_of(made_from)
    if entry.is_file() and (rows := _opened(entry)) is not None:
        return rows
    rows = make()
    try:
        keep(rows, entry)
    except OSError as error:
        logger.warning("%s: its rows cannot be kept for the next run: %s", name, error)
    return rows


def kept_parts(made_from: Any, schema: pa.Schema, make: Callable[[], Iterator[pa.Table]], name: str) -> Dataset:
    """Return rows that were kept before, or make and keep them part by part, so that they are never all in memory.

    Args:
        made_from: All that the rows depend on, JSON-ready.
        schema: Of each part.
        make: Makes the parts; what it raises is raised, and nothing kept.
        name: What the rows are called in messages.

    Raises:
        RunFailedError: If they cannot be kept.
    """
    from datasets import Dataset

    entry = entry_of(made_from)
    if entry.is_file() and (rows := _opened(entry)) is not None:
        return rows
    try:
        _write(make(), schema, entry)
    except OSError as error:
        raise RunFailedError(f"{name}: {cannot_write('its rows', entry, error)}; HF_HOME names another place") from None
    return Dataset.from_file(str(entry))


def entry_of(made_from: Any) -> Path:
    """Return the file of an entry; its seal, a file beside it, has the SHA-256 of its content."""
    import datasets.config

    key = hashlib.sha256(json.dumps([_VERSION, made_from]).encode()).hexdigest()
    return Path(datasets.config.HF_DATASETS_CACHE) / "fmicl-text" / f"{key}.arrow"


def keep(rows: Dataset, entry: Path) -> None:
    """Write an entry atomically, and then its seal."""
    _write([rows.data.table], rows.data.table.schema, entry)


def _write(parts: Iterable[pa.Table], schema: pa.Schema, entry: Path) -> None:
    import pyarrow as pa

    entry.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=entry.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for part in parts:
                writer.write_table(part, max_chunksize=10_000)
        digest = sha256(Path(temporary))
        os.replace(temporary, entry)
    except BaseException:
        os.unlink(temporary)
        raise
    write_json(_seal(entry), {"sha256": digest})


def _opened(entry: Path) -> Dataset | None:
    """Return the rows of an entry, or None if it is missing or damaged."""
    from datasets import Dataset

    try:
        if read_json(_seal(entry))["sha256"] == sha256(entry):
            return Dataset.from_file(str(entry))
    except (OSError, ValueError, KeyError, TypeError):  # no seal, or a broken one
        pass
    logger.warning("%s is damaged: it is made again", entry)
    return None


def _seal(entry: Path) -> Path:
    return entry.with_suffix(".json")
