"""Training data: from a file, the Hub or a sample to checked columns named by role.

Every value that is used is checked before training starts: an empty or broken row found after an hour of training is
an hour lost, and one that is silently skipped changes what is trained on. Data too large for that is read by
:mod:`fmicl_text.data.streams`.
"""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fmicl_text.data.configurations import explained_configuration
from fmicl_text.data.formats import FORMATS, ending, read_file
from fmicl_text.data.groups import identity, pair_with_known, pair_within_groups
from fmicl_text.data.heldout import hold_out
from fmicl_text.data.readers import Rows, require_columns
from fmicl_text.data.row_cache import kept_of_file
from fmicl_text.data.samples import wikipedia_rows
from fmicl_text.data.section import Columns, DataSection
from fmicl_text.data.texts import check_values, refuse_names_of_images
from fmicl_text.errors import InputError
from fmicl_text.files import user_path
from fmicl_text.hub_errors import explained
from fmicl_text.losses.columns import GROUP
from fmicl_text.text import did_you_mean

if TYPE_CHECKING:
    from datasets import Dataset

_SAMPLES = {"wikipedia": wikipedia_rows}
_HUB_FILE = re.compile(r"hf://datasets/(?P<id>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?/(?P<file>.+)")


def load_train(section: DataSection, seed: int = 0) -> Dataset:
    """Load what to train on: the rows of :func:`load_rows` without those held out, in pairs if they are labelled.

    Args:
        section: The ``data:`` section of a recipe.
        seed: Decides which texts of a group make a pair, see :func:`fmicl_text.data.groups.pair_within_groups`.

    Raises:
        InputError: As :func:`load_rows`, and if there is nothing to hold out or to pair.
    """
    rows = _load(section)
    if isinstance(section.heldout, float):
        rows = hold_out(rows, section.heldout, _by_group(section), section.train).train
    return _paired(rows, section, seed, section.train)


def load_heldout(section: DataSection, seed: int = 0) -> Dataset | None:
    """Load the pairs held out from training, if the recipe asks for any: a share of the rows, or another source.

    Args:
        section: The ``data:`` section of a recipe.
        seed: As for :func:`load_train`.

    Raises:
        InputError: As :func:`load_train`.
    """
    if section.heldout is None:
        return None
    if isinstance(section.heldout, float):
        split = hold_out(_load(section), section.heldout, _by_group(section), section.train)
        if section.views == "group":
            return pair_with_known(split.heldout, split.train, seed, section.train)
        return split.heldout
    rows = load_rows(section.heldout, section.columns, split=section.split, part="heldout")
    return _paired(rows, section, seed, section.heldout)


def _load(section: DataSection) -> Dataset:
    return load_rows(
        section.train,
        section.columns,
        split=section.split,
        config=section.config,
        revision=section.revision,
        rows=section.rows,
    )


def _by_group(section: DataSection) -> bool:
    """Whether whole groups are held out: documents, but not labels, which training is to learn."""
    return section.columns.group is not None and section.views != "group"


def _paired(rows: Dataset, section: DataSection, seed: int, source: str) -> Dataset:
    return pair_within_groups(rows, seed, source) if section.views == "group" else rows


def load_rows(
    source: str,
    columns: Columns,
    *,
    split: str = "train",
    config: str | None = None,
    revision: str | None = None,
    part: Literal["train", "heldout"] = "train",
    rows: int | None = None,
) -> Dataset:
    """Load texts and check every one of them.

    Those of a file that was checked before and has not changed come from a cache (:mod:`fmicl_text.data.row_cache`).

    Args:
        source: ``sample:NAME``, a file (csv, tsv, jsonl, parquet, or txt with a sentence a line in the column
            ``text``), a file in a data set of the Hub (``hf://datasets/OWNER/NAME/FILE``), or a Hub id. Relative
            paths start at the current working directory.
        columns: Which column plays which role.
        split: Split of a Hub id; nothing else has splits.
        config: Configuration of a Hub id, needed if it has several and none is its default; nothing else has any.
        revision: Branch, tag or commit on the Hub; nothing else has revisions.
        part: Which part of a sample.
        rows: How many rows to take from the start; default all.

    Returns:
        A data set with the columns ``anchor``, ``positive``, ``negative_1`` to ``negative_k``, as many as there
        are roles, in this order, and last ``group``, int64 identities, if there is a group column.

    Raises:
        InputError: If the source is not found or is broken, a column is missing, a value is not a text or is empty,
            or there are fewer than two rows.
    """
    require_split(source, split)
    require_config(source, config)
    require_hub(source, revision)
    if is_hub_id(source):
        dataset = _from_hub(source, columns, split, config, revision, rows)
    elif source.startswith("sample:"):
        dataset = _from_rows(source, columns, _read_sample(source, part, list(columns.used.values())), rows)
    elif glob.has_magic(source) and not os.path.exists(user_path(source)):
        raise InputError(f"{source}: no such file; for a pattern that names several, set data.streaming: true")
    else:
        dataset = _from_file(source, columns, revision, rows)
    require_two(source, len(dataset))
    return dataset


def is_hub_id(source: str) -> bool:
    """Return whether a source is a Hub id."""
    is_file = ending(source) in (*FORMATS, ".zip") or os.path.exists(user_path(source)) or glob.has_magic(source)
    return not (source.startswith(("sample:", "hf:")) or is_file)


def require_split(source: str, split: str) -> None:
    """Raise an InputError if a split is given for a source that has none."""
    if not is_hub_id(source) and split != "train":
        raise InputError(f'{source}: only Hub ids have splits, got data.split "{split}"')


def require_config(source: str, config: str | None) -> None:
    """Raise an InputError if a configuration is given for a source that has none."""
    if config is not None and not is_hub_id(source):
        raise InputError(f'{source}: only Hub ids have configurations, got data.config "{config}"')


def require_hub(source: str, revision: str | None) -> None:
    """Raise an InputError if a revision is given for a source that has none."""
    if revision is not None and not (is_hub_id(source) or source.startswith("hf:")):
        raise InputError(f'{source}: only the Hub has revisions, got data.revision "{revision}"')


def require_two(source: str, rows: int) -> None:
    """Raise an InputError if there are fewer than two rows."""
    if rows < 2:
        raise InputError(f"{source}: training and retrieval need two rows or more, there are {rows}")


def _read_sample(source: str, part: Literal["train", "heldout"], wanted: list[str]) -> Rows:
    name = source.removeprefix("sample:")
    if name not in _SAMPLES:
        raise InputError(
            f'no sample "{name}" to train on{did_you_mean(name, _SAMPLES)}; there is {", ".join(_SAMPLES)}'
        )
    records = _SAMPLES[name](part)
    require_columns(wanted, list(records[0]), source)
    columns = {column: [record[column] for record in records] for column in wanted}
    return Rows(columns, range(1, len(records) + 1), unit="row")


def hub_file(source: str) -> re.Match[str]:
    """Return ``id``, ``revision`` and ``file`` of a file on the Hub; raise an InputError if it is not of that form."""
    if not (match := _HUB_FILE.fullmatch(source)) or {".", ".."} & set(re.split("[/@]", source)):
        raise InputError(f"{source}: write it as hf://datasets/OWNER/NAME/FILE, or hf://datasets/OWNER/NAME@REV/FILE")
    return match


def download(source: str, revision: str | None) -> Path:
    """Download one file of a data set, or find it in the cache."""
    from huggingface_hub import hf_hub_download

    match = hub_file(source)
    revision = revision or match["revision"]
    with explained(f"{source}: this file cannot be downloaded from the Hub", match["id"], "data set", revision):
        return Path(hf_hub_download(match["id"], match["file"], repo_type="dataset", revision=revision))


def _from_file(source: str, columns: Columns, revision: str | None, rows: int | None) -> Dataset:
    path = download(source, revision) if source.startswith("hf:") else user_path(source)
    wanted = list(dict.fromkeys(columns.used.values()))
    asked = {"roles": list(columns.used.items()), "rows": rows}
    return kept_of_file(path, asked, lambda: _from_rows(source, columns, read_file(path, wanted), rows))


def _from_rows(source: str, columns: Columns, read: Rows, rows: int | None) -> Dataset:
    from datasets import Dataset

    values = {role: read.columns[column][:rows] for role, column in columns.used.items()}
    check_values([values], columns.used, read, source)
    refuse_names_of_images(values["anchor"], columns.anchor, source, user_path(source).parent)
    return Dataset.from_dict(_with_identities(values))


def _from_hub(
    source: str, columns: Columns, split: str, config: str | None, revision: str | None, rows: int | None
) -> Dataset:
    from datasets import Features, Value

    dataset = hub_dataset(source, split, config, revision)
    require_columns(list(columns.used.values()), dataset.column_names, source)
    if rows is not None:
        dataset = dataset.select(range(min(rows, len(dataset))))
    numbered = Rows({}, range(1, len(dataset) + 1), unit="row")
    check_values((_by_role(batch, columns.used) for batch in dataset.iter(10_000)), columns.used, numbered, source)
    types = {role: Value("int64" if role == GROUP else "string") for role in columns.used}
    return dataset.map(
        lambda batch: _with_identities(_by_role(batch, columns.used)),
        batched=True,
        remove_columns=dataset.column_names,
        features=Features(types),
    )


def hub_dataset(source: str, split: str, config: str | None, revision: str | None) -> Dataset:
    """Return a split of a data set of the Hub; raise an InputError if the Hub does not give it."""
    from datasets import load_dataset

    refusal = f"{source}: no such file, and no such data set can be loaded from the Hub"
    with explained(refusal, source, "data set", revision), explained_configuration(source, config, revision):
        return load_dataset(source, config, split=split, revision=revision)


def _by_role(batch: dict[str, list[Any]], columns: dict[str, str]) -> dict[str, list[Any]]:
    return {role: batch[column] for role, column in columns.items()}


def _with_identities(values: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Replace the names of groups by their identities."""
    return values | ({GROUP: [identity(group) for group in values[GROUP]]} if GROUP in values else {})
