"""Images to train on or to measure with: from a file, a folder, the Hub or a sample to pixels in Arrow.

Every image is decoded before training, once: what comes out is kept in the cache of ``datasets`` (see
:mod:`fmicl_text.data.row_cache`), found again by the content of the images, and mapped into memory.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fmicl_text.bars import bars_are_shown
from fmicl_text.data.formats import FORMATS, ending, read_file
from fmicl_text.data.groups import group_complaint, group_name, identity, is_group
from fmicl_text.data.pixels import BrokenImage, content_of, pixels
from fmicl_text.data.readers import require_columns
from fmicl_text.data.row_cache import kept_parts
from fmicl_text.data.samples import digits_rows
from fmicl_text.data.section import DataSection
from fmicl_text.data.sources import (
    download,
    hub_dataset,
    is_hub_id,
    require_config,
    require_hub,
    require_split,
    require_two,
)
from fmicl_text.errors import InputError
from fmicl_text.files import user_path
from fmicl_text.losses.columns import GROUP
from fmicl_text.text import did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

DIGITS = "sample:digits"
_SHOWN = 5
_AT_ONCE = 512  # images decoded between two parts of the cache
_VERSION = 2  # of what is made of an image


class Images(NamedTuple):
    """Decoded images.

    Attributes:
        rows: A column ``image``, bytes of 8-bit RGB pixels as :func:`fmicl_text.data.pixels.pixels` has them, and
            one of labels if those were asked for.
        skipped: How many of the source were left out because they are broken.
    """

    rows: Dataset
    skipped: int


class _Source(NamedTuple):
    """Images as they lie there: their contents in order, the label of each, and what each is called in messages."""

    contents: Iterable[Any]
    labels: list[Any] | None
    called: Callable[[int], str]
    folder: Path | None = None


def load_train_images(section: DataSection, size: int) -> Images:
    """Load the images that a recipe trains on.

    Args:
        section: The ``data:`` section, with ``views: augment``.
        size: Width and height, in pixels.

    Returns:
        Rows of ``anchor``, the pixels, and perhaps ``group``, an int64 identity.

    Raises:
        InputError: As :func:`load_images`.
    """
    rows, skipped = load_images(
        section.train,
        section.columns.anchor,
        size,
        label=section.columns.group,
        label_as="group",
        split=section.split,
        config=section.config,
        revision=section.revision,
        limit=section.rows,
        broken=section.broken or "error",
        remedy="data.broken: skip leaves such images out",
    )
    return Images(rows.rename_column("image", "anchor"), skipped)


def load_images(
    source: str,
    column: str,
    size: int,
    *,
    label: str | None = None,
    label_as: Literal["label", "group"] = "label",
    split: str = "train",
    config: str | None = None,
    revision: str | None = None,
    limit: int | None = None,
    broken: Literal["error", "skip"] = "error",
    remedy: str = "replace such images, or leave their rows out of the source",
) -> Images:
    """Load and decode images, all of them, or take them from the cache.

    Args:
        source: ``sample:digits``; a csv, tsv, jsonl or parquet file whose column has images, or names of files relative
            to its own folder; a folder or zip of files, one folder a label or with a ``metadata.csv``, as the
            ``imagefolder`` of ``datasets`` reads it; a file of the Hub (``hf://``), or a Hub id.
        column: The column of the images; ``image`` in a folder and in the sample.
        size: Width and height, in pixels.
        label: A column of labels: texts, whole numbers or truth values.
        label_as: Name of the column that they make: ``label``, a text, or ``group``, an int64 identity.
        split: Of a Hub id or a folder; of the sample, train or test.
        config: Configuration of a Hub id, needed if it has several and none is its default.
        revision: Branch, tag or commit on the Hub.
        limit: How many rows to take from the start; default all.
        broken: What to do with an image that cannot be decoded.
        remedy: What helps against one, said with the error.

    Raises:
        InputError: If the source or a column is missing, an image is broken or a label none (with file and row, the
            first of them), or there are fewer than two images.
        RunFailedError: If the cache cannot be written.
    """
    import pyarrow as pa

    found = _find(source, column, label, split, config, revision, limit)
    labels = None if found.labels is None else _checked(found, source)
    schema = pa.schema({"image": pa.binary(), "problem": pa.string()})
    made_from = ["images", _VERSION, size, _digest(found)]
    rows = kept_parts(made_from, schema, partial(_decoded, found, size, schema, source), source)
    problems = rows["problem"][:]
    bad = [index for index, problem in enumerate(problems) if problem is not None]
    if len(bad) == len(problems) > 1:
        raise InputError(f'{source}: column "{column}" has no image: {found.called(0)} {problems[0]}')
    if bad and broken == "error":
        said = [f'{found.called(index)}: column "{column}" {problems[index]}' for index in bad[:_SHOWN]]
        if len(bad) > _SHOWN:
            said.append(f"{source}: {len(bad):,} of {len(problems):,} images are broken, the first {_SHOWN} are shown")
        raise InputError([*said, remedy])
    rows = rows.remove_columns("problem")
    if labels is not None:
        rows = rows.add_column(label_as, list(map(identity, labels)) if label_as == GROUP else labels)
    if bad:
        wrong = set(bad)
        rows = rows.select([index for index in range(len(problems)) if index not in wrong])
    require_two(source, len(rows))
    return Images(rows, len(bad))


def _find(
    source: str,
    column: str,
    label: str | None,
    split: str,
    config: str | None,
    revision: str | None,
    limit: int | None,
) -> _Source:
    require_config(source, config)
    require_hub(source, revision)
    wanted = [column] + ([] if label is None else [label])
    if source.startswith("sample:"):
        columns, called = _sample(source, split, wanted), partial(_row, source, range(1, 10**9), "row")
        return _limited(columns, column, label, called, None, limit)
    path = user_path(source)
    if is_hub_id(source):
        return _of_dataset(hub_dataset(source, split, config, revision), source, column, label, limit)
    if path.is_dir() or ending(path) == ".zip":
        return _of_dataset(_folder(path, split), source, column, label, limit)
    require_split(source, split)
    if source.startswith("hf:") and glob.has_magic(source):
        raise InputError(f"{source}: a pattern may name several files; of images, give the name of one, or a Hub id")
    path = download(source, revision) if source.startswith("hf:") else path
    if path.exists() and ending(path) not in FORMATS:
        raise InputError(f"{source}: images come from a folder, a zip, or a table in {', '.join(FORMATS)}")
    read = read_file(path, wanted)
    called = partial(_row, source, read.numbers, read.unit)
    return _limited(read.columns, column, label, called, path.parent, limit)


def _limited(
    columns: dict[str, list[Any]],
    column: str,
    label: str | None,
    called: Callable[[int], str],
    folder: Path | None,
    limit: int | None,
) -> _Source:
    labels = None if label is None else columns[label][:limit]
    return _Source(columns[column][:limit], labels, called, folder)


def _row(source: str, numbers: Any, unit: str, index: int) -> str:
    return f"{source}, {unit} {numbers[index]}"


def _sample(source: str, split: str, wanted: list[str]) -> dict[str, list[Any]]:
    if source != DIGITS:
        near = did_you_mean(source.removeprefix("sample:"), ["digits"])
        raise InputError(f'no sample "{source.removeprefix("sample:")}" of images{near}; there is digits')
    if split not in ("train", "test"):
        raise InputError(f'{source}: its splits are train and test, got "{split}"')
    rows = digits_rows("train" if split == "train" else "test")
    require_columns(wanted, list(rows[0]), source)
    return {name: [row[name] for row in rows] for name in wanted}


def _folder(path: Path, split: str) -> Dataset:
    """Return the files of a folder or a zip as ``datasets`` reads them; a zip is unpacked in its cache."""
    from datasets import DownloadManager, load_dataset
    from datasets.exceptions import DatasetsError

    if not path.exists():
        raise InputError(f"{path}: no such file")
    try:
        folder = path if path.is_dir() else DownloadManager().extract(str(path))
        return load_dataset("imagefolder", data_dir=str(folder), split=split)
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be read as a folder of images: {error}") from None


def _of_dataset(rows: Dataset, source: str, column: str, label: str | None, limit: int | None) -> _Source:
    import pyarrow as pa
    from datasets import ClassLabel, Image

    require_columns([column] + ([] if label is None else [label]), rows.column_names, source)
    if limit is not None:
        rows = rows.select(range(min(limit, len(rows))))
    try:
        contents = rows.select_columns([column]).cast_column(column, Image(decode=False))
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, TypeError):
        there = ", ".join(name for name, feature in rows.features.items() if isinstance(feature, Image))
        raise InputError(
            f'{source}: the column "{column}" has no images, but {rows.features[column]}; '
            + (f"images are in {there}" if there else "no column has images")
        ) from None
    labels = None
    if label is not None:
        labels = rows[label][:]
        if isinstance(rows.features[label], ClassLabel):
            labels = [None if value is None else rows.features[label].int2str(value) for value in labels]

    def called(index: int) -> str:
        name = (contents[index][column] or {}).get("path")
        return f"{source}, row {index + 1}" + (f" ({name})" if name else "")

    return _Source(contents[column], labels, called)


def _checked(found: _Source, source: str) -> list[str]:
    assert found.labels is not None
    bad = [index for index, value in enumerate(found.labels) if not is_group(value)]
    if bad:
        said = [f"{found.called(index)}: the label {group_complaint(found.labels[index])}" for index in bad[:_SHOWN]]
        more = [f"{source}: {len(bad):,} labels are like this"] if len(bad) > _SHOWN else []
        raise InputError(said + more)
    return list(map(group_name, found.labels))


def _digest(found: _Source) -> str:
    """Return a digest of the contents of all images, of the broken ones by what is wrong with them."""
    digest = hashlib.sha256()
    for value in found.contents:
        try:
            content = content_of(value, found.folder)
            content = content if isinstance(content, bytes) else repr(content.shape).encode() + content.tobytes()
            digest.update(b"%d:" % len(content) + content)
        except BrokenImage as error:
            digest.update(f"-{error}".encode())
    return digest.hexdigest()


def _decoded(found: _Source, size: int, schema: pa.Schema, source: str) -> Iterator[pa.Table]:
    """Yield decoded images, part by part; Pillow decodes without Python's lock, so threads are enough."""
    import pyarrow as pa
    from rich.console import Console
    from rich.progress import Progress

    def decode(value: Any) -> tuple[bytes | None, str | None]:
        try:
            return pixels(content_of(value, found.folder), size), None
        except BrokenImage as error:
            return None, str(error)

    console = Console(stderr=True)
    values = iter(found.contents)
    with (
        ThreadPoolExecutor(os.cpu_count()) as threads,
        Progress(console=console, transient=True, disable=not bars_are_shown()) as progress,
    ):
        task = progress.add_task(f"Decoding {source}", total=len(found.contents))  # type: ignore[arg-type]
        while part := list(threads.map(decode, islice(values, _AT_ONCE))):
            images, problems = zip(*part, strict=True)
            yield pa.table({"image": images, "problem": problems}, schema=schema)
            progress.advance(task, len(part))
