"""Fingerprints of tables, to tell whether two have the same rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset


def fingerprint(columns: list[str], rows: Iterable[tuple[Any, ...]]) -> dict[str, Any]:
    """Return the number of rows of a table, its columns, and the SHA-256 of its content.

    The hash is of what a run uses, not of the file it came from: one JSON list per row, values in the order of the
    columns, in UTF-8, each followed by a line feed. Of bytes, such as the pixels of an image,
    it is their SHA-256.
    """
    digest, count = hashlib.sha256(), 0
    for row in rows:
        digest.update(json.dumps(row, ensure_ascii=False, default=_digest).encode() + b"\n")
        count += 1
    return {"rows": count, "columns": columns, "sha256": digest.hexdigest()}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def tuples(dataset: Dataset) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a data set, values in the order of its columns."""
    for batch in dataset.iter(10_000):
        yield from zip(*batch.values(), strict=True)
