"""Training data larger than memory: a stream, read during training and checked as it is read.

Files are read by ``datasets``, which is laxer than :mod:`fmicl_text.data.formats`: it skips an empty line of a jsonl
file, and takes text that follows the closing quote of a csv field.
"""

from __future__ import annotations

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

from fmicl_text.data.configurations import explained_configuration
from fmicl_text.data.formats import FORMATS, check_head, ending, format_of
from fmicl_text.data.groups import identity
from fmicl_text.data.readers import Rows, require_columns
from fmicl_text.data.section import Columns, DataSection
from fmicl_text.data.sources import hub_file, is_hub_id, require_config, require_hub, require_split, require_two
from fmicl_text.data.stream_batches import StreamError
from fmicl_text.data.texts import check_values, complaint, is_valid
from fmicl_text.encoders.revisions import dataset_commit
from fmicl_text.errors import InputError
from fmicl_text.files import user_path
from fmicl_text.hub_errors import explained
from fmicl_text.losses.columns import GROUP
from fmicl_text.text import one_line

CHECKED_ROWS = 10_000
"""How many rows are checked before training; the others are checked when they are read."""
_READ_AT_ONCE = 1000


@dataclass(frozen=True)
class Stream:
    """Rows of files or of a Hub data set, which are never all in memory.

    Attributes:
        source: As in the recipe.
        columns: Which column plays which role.
        split: The split of a Hub id.
        rows: How many rows to take from the start; ``None`` is all.
        files: Local files, in their order, or the Hub's; empty for a Hub id.
        options: How ``datasets`` reads the files.
        revision: The commit on the Hub; ``None`` for local files.
        config: The configuration of a Hub id; ``None`` is its default.
    """

    source: str
    columns: Columns
    split: str
    rows: int | None
    files: tuple[str, ...]
    options: dict[str, Any]
    revision: str | None
    config: str | None = None

    def shuffled(self, seed: int, buffer: int) -> IterableDataset:
        """Return the rows with files and rows shuffled, in columns ``anchor``, ``positive``, ... and perhaps ``group``.

        Reading it raises :class:`StreamError` at a row that cannot be trained on.

        Args:
            seed: Seed of the order; ``set_epoch`` gives another order.
            buffer: Rows held in memory, from which the next is drawn.
        """
        columns = self.columns.used
        stream = self._open(self.files)
        if self.rows is not None:
            stream = stream.take(self.rows)
        by_role = partial(_by_role, columns=columns)
        types = Features({role: Value("int64" if role == GROUP else "string") for role in columns})
        stream = stream.with_format("arrow").map(by_role, batched=True, batch_size=_READ_AT_ONCE, features=types)
        return stream.with_format(None).shuffle(seed=seed, buffer_size=buffer)

    def check(self, limit: int | None = None) -> None:
        """Check the rows in the order of the files.

        Args:
            limit: How many to check; default all.

        Raises:
            InputError: If a row is not text or cannot be read, with its file and number; if there are fewer than two.
        """
        left = min(limit or sys.maxsize, self.rows or sys.maxsize)
        for files in [[file] for file in self.files] or [[]]:
            name = self.source if len(self.files) < 2 else files[0]
            read = _until_bad(self._batches(name, files, left))
            left -= check_values(read, self.columns.used, Rows({}, range(1, sys.maxsize), unit="row"), name)
            if not left:
                break
        require_two(self.source, min(limit or sys.maxsize, self.rows or sys.maxsize) - left)

    def _open(self, files: Sequence[str]) -> IterableDataset:
        """Return the rows of some of the files, or of the Hub, as they are, with the columns that play a role.

        Raises:
            InputError: If a column is missing, or the Hub does not give them.
        """
        if self.revision is None:
            return self._unread(files)
        repo = hub_file(self.source)["id"] if files else self.source
        with explained(f"{self.source}: cannot be read from the Hub", repo, "data set", self.revision):
            return self._unread(files)

    def _unread(self, files: Sequence[str]) -> IterableDataset:
        wanted = list(dict.fromkeys(self.columns.used.values()))
        if not files:
            with explained_configuration(self.source, self.config, self.revision):
                stream = load_dataset(
                    self.source, self.config, split=self.split, revision=self.revision, streaming=True
                )
            require_columns(wanted, stream.column_names or wanted, self.source)
            return stream.select_columns(wanted)
        form, options = FORMATS[ending(files[0])], self.options
        if form.loader == "csv":
            options = options | {"features": Features({column: Value("string") for column in wanted})}
        elif form.loader == "parquet":
            options = options | {"columns": wanted}
        names = [file if file.startswith("hf:") else glob.escape(file) for file in files]
        return load_dataset(form.loader, data_files=names, split="train", streaming=True, **options)

    def _batches(self, name: str, files: Sequence[str], limit: int) -> Iterator[dict[str, list[Any]]]:
        """Yield the values of rows by role; an error of reading becomes an InputError that says after which row."""
        done = 0
        try:
            for table in self._open(files).take(limit).with_format("arrow").iter(batch_size=_READ_AT_ONCE):
                require_columns(list(self.columns.used.values()), table.column_names, name)
                yield {role: table[column].to_pylist() for role, column in self.columns.used.items()}
                done += len(table)
        except InputError:
            raise
        except Exception as error:  # readers of several formats and of the network may raise anything
            why = f"{type(error).__name__}: {one_line(error)}"
            raise InputError(f"{name}: cannot be read after row {done:,}: {why}") from error


def load_stream(section: DataSection) -> Stream:
    """Find the files or the Hub's data set that a recipe streams, and check its first :data:`CHECKED_ROWS` rows.

    Raises:
        InputError: If there are none, one of these rows is not text, or a file lacks a column.
    """
    source = section.train
    require_config(source, section.config)
    files: tuple[str, ...] = ()
    revision = None
    if source.startswith("hf:"):
        match = hub_file(source)
        revision = dataset_commit(source, match["id"], section.revision or match["revision"])
        files = (f"hf://datasets/{match['id']}@{revision}/{match['file']}",)
    elif is_hub_id(source):
        revision = dataset_commit(source, source, section.revision)
    else:
        require_split(source, section.split)
        require_hub(source, section.revision)
        files = _local_files(str(user_path(source)), list(section.columns.used.values()))
    options = _options(source, files)
    stream = Stream(source, section.columns, section.split, section.rows, files, options, revision, section.config)
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
            check_head(Path(file), wanted)
        except InputError as error:
            problems += error.problems
    kinds = sorted({ending(file) for file in files})
    if not problems and len(kinds) > 1:
        problems = [f"{pattern}: files of one format make a stream, there are {', '.join(kinds)}"]
    if problems:
        raise InputError(problems)
    return tuple(files)


def _options(source: str, files: Sequence[str]) -> dict[str, Any]:
    """Return how ``datasets`` reads files so that no value is changed."""
    if not files:
        return {}
    form = format_of(Path(files[0]))
    if files[0].startswith("hf:"):
        return form.options
    own = [form.options_of(Path(file)) for file in files]
    differing = [file for file, options in zip(files, own, strict=True) if options != own[0]]
    if differing:
        raise InputError(
            f"{source}: fields are quoted in some files and not in others, such as {files[0]} and {differing[0]}; "
            "all files of a stream must be alike"
        )
    return form.options | own[0]


def _until_bad(batches: Iterator[dict[str, list[Any]]]) -> Iterator[dict[str, list[Any]]]:
    """Stop after the first batch with a bad value: the rest would only be counted."""
    for batch in batches:
        yield batch
        if not all(is_valid(role, value) for role, values in batch.items() for value in values):
            return


def _by_role(table: pa.Table, columns: dict[str, str]) -> pa.Table:
    """Name the columns of rows by role, and check every value."""
    values = {role: table[column].to_pylist() for role, column in columns.items()}
    for role, found in values.items():
        for value in found:
            if not is_valid(role, value):
                raise StreamError(f'a row of which column "{columns[role]}" {complaint(role, value)}')
    if GROUP in values:
        values[GROUP] = [identity(group) for group in values[GROUP]]
    types = {role: pa.int64() if role == GROUP else pa.string() for role in values}
    return pa.table(values, schema=pa.schema(types))
