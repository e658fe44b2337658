"""Training data larger than memory: a stream, read while training goes on and checked as it is read.

Files are read by ``datasets``, which is laxer than :mod:`fmicl_text.data.readers`: an empty line of a jsonl file is no
row, a carriage return by itself ends a line of a txt file, and text may follow the quotes of a csv field.
"""

from __future__ import annotations

import csv
import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Features, IterableDataset, Value, load_dataset

from fmicl_text.data.readers import Rows, check_head, require_columns, require_format
from fmicl_text.data.section import Columns, DataSection
from fmicl_text.data.sources import hub_file, is_hub_id, require_hub, require_split, require_two
from fmicl_text.data.stream_batches import StreamError, one_line
from fmicl_text.data.texts import check_texts, complaint, is_text
from fmicl_text.errors import InputError

CHECKED_ROWS = 10_000
"""How many rows are looked at before training; the others when they are read."""
_READ_AT_ONCE = 1000

_AS_WRITTEN = {"na_filter": False, "skip_blank_lines": False, "index_col": False}
_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("csv", _AS_WRITTEN),
    ".tsv": ("csv", _AS_WRITTEN | {"sep": "\t", "quoting": csv.QUOTE_NONE}),
    ".jsonl": ("json", {"on_mixed_types": None}),  # or one number would turn all texts around it into JSON
    ".parquet": ("parquet", {}),
    ".txt": ("text", {"encoding": "utf-8-sig"}),
}
"""The loader of ``datasets``, and what keeps it from changing values, by the ending of a file's name."""


@dataclass(frozen=True)
class Stream:
    """Rows of files or of a Hub data set, which are never all in memory.

    Attributes:
        source: As in the recipe.
        columns: Which column plays which role.
        split: Of a Hub id.
        rows: How many rows to take from the start; ``None`` is all.
        files: Local files, in their order, or the Hub's; empty for a Hub id.
        revision: The commit on the Hub; ``None`` for local files.
    """

    source: str
    columns: Columns
    split: str
    rows: int | None
    files: tuple[str, ...]
    revision: str | None

    def shuffled(self, seed: int, buffer: int) -> IterableDataset:
        """Return the rows in an order of their own, files and rows, with the columns ``anchor``, ``positive``, ...

        Reading it raises :class:`StreamError` at a row that is not text.

        Args:
            seed: Of the order; ``set_epoch`` gives another one.
            buffer: Rows held in memory, among which the next is drawn.
        """
        roles = self.columns.roles
        stream = self._open(self.files)
        if self.rows is not None:
            stream = stream.take(self.rows)
        by_role = partial(_by_role, roles=roles)
        texts = Features({role: Value("string") for role in roles})
        stream = stream.with_format("arrow").map(by_role, batched=True, batch_size=_READ_AT_ONCE, features=texts)
        return stream.with_format(None).shuffle(seed=seed, buffer_size=buffer)

    def check(self, limit: int | None = None) -> None:
        """Look at the rows in the order of the files.

        Args:
            limit: How many; default all.

        Raises:
            InputError: If one is not text, or cannot be read: with its file and number. If there are fewer than two.
        """
        left = min(limit or sys.maxsize, self.rows or sys.maxsize)
        for files in [[file] for file in self.files] or [[]]:
            name = self.source if len(self.files) < 2 else files[0]
            read = _until_bad(self._batches(name, files, left))
            left -= check_texts(read, self.columns.roles, Rows({}, range(1, sys.maxsize), unit="row"), name)
            if not left:
                break
        require_two(self.source, min(limit or sys.maxsize, self.rows or sys.maxsize) - left)

    def _open(self, files: Sequence[str]) -> IterableDataset:
        """Return the rows of some of the files, or of the Hub, as they are, with the columns that play a role."""
        wanted = list(self.columns.roles.values())
        if not files:
            stream = load_dataset(self.source, split=self.split, revision=self.revision, streaming=True)
            require_columns(wanted, stream.column_names or wanted, self.source)
            return stream.select_columns(wanted)
        loader, options = _FORMATS[Path(files[0]).suffix.lower()]
        if loader == "csv":
            options = options | {"features": Features({column: Value("string") for column in wanted})}
        elif loader == "parquet":
            options = options | {"columns": wanted}
        names = [file if file.startswith("hf:") else glob.escape(file) for file in files]
        return load_dataset(loader, data_files=names, split="train", streaming=True, **options)

    def _batches(self, name: str, files: Sequence[str], limit: int) -> Iterator[dict[str, list[Any]]]:
        """Yield the values of rows by role; an error of reading becomes an InputError that says after which row."""
        done = 0
        try:
            for table in self._open(files).take(limit).with_format("arrow").iter(batch_size=_READ_AT_ONCE):
                require_columns(list(self.columns.roles.values()), table.column_names, name)
                yield {role: table[column].to_pylist() for role, column in self.columns.roles.items()}
                done += len(table)
        except InputError:
            raise
        except Exception as error:  # readers of several formats and of the network raise anything
            raise InputError(f"{name}: cannot be read after row {done:,}: {one_line(error)}") from error


def load_stream(section: DataSection) -> Stream:
    """Find the files or the Hub's data set that a recipe streams, and look at its first :data:`CHECKED_ROWS` rows.

    Raises:
        InputError: If there are none, one of these rows is not text, or a file lacks a column.
    """
    source = section.train
    files: tuple[str, ...] = ()
    revision = None
    if source.startswith("hf:"):
        match = hub_file(source)
        revision = _commit(source, match["id"], section.revision or match["revision"])
        files = (f"hf://datasets/{match['id']}@{revision}/{match['file']}",)
    elif is_hub_id(source):
        revision = _commit(source, source, section.revision)
    else:
        require_split(source, section.split)
        require_hub(source, section.revision)
        files = _local_files(source, list(section.columns.roles.values()))
    stream = Stream(source, section.columns, section.split, section.rows, files, revision)
    stream.check(CHECKED_ROWS)
    return stream


def _local_files(pattern: str, wanted: list[str]) -> tuple[str, ...]:
    """Return the files that a name or a pattern stands for, in the order of their names, each with the columns."""
    files = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
    if not files:
        raise InputError(f"{pattern}: no such file")
    problems = []
    for file in files:
        try:
            require_format(Path(file))
            check_head(Path(file), wanted)
        except InputError as error:
            problems += error.problems
    kinds = sorted({Path(file).suffix.lower() for file in files})
    if not problems and len(kinds) > 1:
        problems = [f"{pattern}: files of one format make a stream, there are {', '.join(kinds)}"]
    if problems:
        raise InputError(problems)
    return tuple(files)


def _commit(source: str, repo: str, revision: str | None) -> str:
    """Return the commit of a data set on the Hub, so that all that is read is of one."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return str(HfApi().dataset_info(repo, revision=revision).sha)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError(f"{source}: no such file, and not to be had from the Hub: {error}") from None


def _until_bad(batches: Iterator[dict[str, list[Any]]]) -> Iterator[dict[str, list[Any]]]:
    """Stop after a batch in which something is wrong: the rest would only be counted."""
    for batch in batches:
        yield batch
        if not all(is_text(value) for values in batch.values() for value in values):
            return


def _by_role(table: pa.Table, roles: dict[str, str]) -> pa.Table:
    """Name the columns of rows by role, and see to it that all are text."""
    values = {role: table[column].to_pylist() for role, column in roles.items()}
    for role, texts in values.items():
        for text in texts:
            if not is_text(text):
                raise StreamError(f'a row of which column "{roles[role]}" {complaint(text)}')
    return pa.table(values, schema=pa.schema(dict.fromkeys(values, pa.string())))
