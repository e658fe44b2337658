"""The check of training texts: anything but text that is not empty is an error that names its row."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fmicl_text.data.groups import group_complaint, is_group
from fmicl_text.data.readers import Rows
from fmicl_text.errors import InputError
from fmicl_text.losses.columns import GROUP

_SHOWN = 5
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_NAME_OF_IMAGE = re.compile(r".*\.(png|jpe?g|webp|gif|bmp|tiff?)", re.IGNORECASE)
_ALL_NEGATIVES = "; each row needs all its negatives: leave the column out, or put such rows in a source of their own"
TO_TRAIN_ON_IMAGES = "to train on images, set data.views: augment, with columns.anchor alone"


class ImagesError(InputError):
    """What is to be read as texts is images, so that nothing else of a run fits either."""


def check_values(batches: Iterable[dict[str, list[Any]]], columns: dict[str, str], read: Rows, source: str) -> int:
    """Check that every row has texts, and a group if there is one.

    Args:
        batches: Values of all rows by role, batch after batch.
        columns: Role to column; ``group`` need not be text.
        read: The number of each row.
        source: Name of the data in messages.

    Returns:
        How many rows there are.

    Raises:
        InputError: With the first values that are wrong, and the number of rows that have one.
        ImagesError: If the first of them is an image.
    """
    bad: dict[int, str] = {}
    start = 0
    for batch in batches:
        for role, values in batch.items():
            for index, value in enumerate(values, start):
                if not is_valid(role, value):
                    if not bad and _is_image(value):
                        raise ImagesError(f'{source}: column "{columns[role]}" has images; {TO_TRAIN_ON_IMAGES}')
                    bad.setdefault(index, f'column "{columns[role]}" {complaint(role, value)}')
        start += len(batch["anchor"])
    if bad:
        problems = [f"{source}, {read.unit} {read.numbers[i]}: {bad[i]}" for i in sorted(bad)[:_SHOWN]]
        if len(bad) > _SHOWN:
            problems.append(f"{source}: {len(bad):,} of {start:,} rows are like this, the first {_SHOWN} are shown")
        raise InputError(problems)
    return start


def refuse_names_of_images(names: list[str], column: str, source: str, folder: Path) -> None:
    """Refuse anchors that are the names of image files, which would be trained on as texts.

    Args:
        names: The anchors.
        column: Their column.
        source: Name of the data in messages.
        folder: Where relative names begin.

    Raises:
        ImagesError: If all are names of images, and the first of these is there.
    """
    if names and all(map(_NAME_OF_IMAGE.fullmatch, names)) and os.path.isfile(folder / names[0]):
        raise ImagesError(f'{source}: column "{column}" has names of images, such as {names[0]}; {TO_TRAIN_ON_IMAGES}')


def _is_image(value: object) -> bool:
    """Whether a value of a column is an image: its bytes, as ``datasets`` has it in Parquet, or one of Pillow."""
    return (
        isinstance(value, bytes)
        or (isinstance(value, dict) and value.keys() == {"bytes", "path"})
        or type(value).__module__.startswith("PIL.")
    )


def is_valid(role: str, value: object) -> bool:
    """Whether a value can play a role: a group, or a text that is not empty."""
    if role == GROUP:
        return is_group(value)
    if not isinstance(value, str) or not value.strip():
        return False
    return not _NO_TEXT.search(value)


def complaint(role: str, value: object) -> str:
    """Say why a value cannot play a role."""
    if role == GROUP:
        return group_complaint(value)
    remedy = _ALL_NEGATIVES if role.startswith("negative_") else ""
    if value is None:
        return f"has no value{remedy}"
    if not isinstance(value, str):
        return f"has {value!r:.40}, which is not text"
    if not value.strip():
        return f"is empty{remedy}"
    what = "a NUL character" if "\0" in value else "half of a surrogate pair"
    return f"has {what}, which is not text"
