"""Warnings of training data that will not train well, and the refusal of texts that have no tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from fmicl_text.data.formats import read_file
from fmicl_text.data.section import DataSection
from fmicl_text.data.sources import is_hub_id
from fmicl_text.errors import InputError
from fmicl_text.files import user_path
from fmicl_text.losses.columns import GROUP, is_group_column
from fmicl_text.text import is_number

if TYPE_CHECKING:
    from datasets import Dataset

_ZERO_WIDTH_SPACE = "\u200b"


def data_warnings(rows: Dataset, batch: int) -> list[str]:
    """Return a sentence for each reason why rows will not train well.

    Args:
        rows: Columns ``anchor``, perhaps ``positive`` and negatives, and perhaps ``group``.
        batch: Rows that are contrasted with one another in a training step.
    """
    found = []
    anchors = rows["anchor"][:]
    texts = list(zip(*(rows[name][:] for name in _texts(rows)), strict=True))
    if len(texts) < batch:
        found.append(f"there are fewer rows ({len(texts):,}) than a batch takes ({batch:,}): every batch is the same")
    if "positive" in rows.column_names:
        equal = sum(anchor == positive for anchor, positive, *_ in texts)
        if equal:
            found.append(f"{_rows(equal)} the anchor as positive too, from which nothing is learned")
    for role, column in zip(_texts(rows), zip(*texts, strict=True), strict=True):
        if all(map(is_number, column)):
            found.append(f'{role}: all texts are numbers, such as "{column[0]}"; is it the right column?')
        if all("\t" in text for text in column):
            found.append(f"{role}: all texts have a tab; a file of columns with tabs between them ends in .tsv")
    if repeated := len(texts) - len(set(texts)):
        found.append(f"{_rows(repeated)} the texts of an earlier row")
    if len(set(anchors)) == 1:
        found.append("all rows have the same anchor: nothing tells positives from negatives")
    if GROUP in rows.column_names and len(set(rows[GROUP][:])) == 1:
        found.append("all rows are of one group, so there are no negatives")
    return found


def leak_warning(rows: Dataset, heldout: Dataset, labelled: bool) -> str | None:
    """Return a sentence if rows are trained on that are to be held out, as rows of two files may be.

    Args:
        rows: What to train on.
        heldout: What to measure on, with the same columns.
        labelled: Whether pairs were made of labelled texts: then it is the anchor that must not be among the texts
            that are trained on, otherwise both texts of a pair, in either order.
    """
    if labelled:
        trained = {*rows["anchor"][:], *rows["positive"][:]}
        leaks = sum(anchor in trained for anchor in heldout["anchor"][:])
    else:
        measured = [*_pairs(heldout)]
        known = {*measured}
        trained = {pair for pair in _pairs(rows) if pair in known}
        leaks = sum(pair in trained for pair in measured)
    if not leaks:
        return None
    return f"{leaks:,} of {len(heldout):,} held-out rows are among those that are trained on: their scores are too good"


def image_warnings(rows: Dataset, batch: int, skipped: int) -> list[str]:
    """Return a sentence for each reason why images will not train well.

    Args:
        rows: Columns ``anchor``, pixels, and perhaps ``group``.
        batch: Images that are contrasted with one another in a training step.
        skipped: How many were left out because they are broken.
    """
    found = [f"{skipped:,} broken images were left out (data.broken: skip)"] if skipped else []
    if len(rows) < batch:
        found.append(f"there are fewer images ({len(rows):,}) than a batch takes ({batch:,}): every batch is the same")
    seen = {blake2b(pixels, digest_size=8).digest() for part in rows.iter(1000) for pixels in part["anchor"]}
    if repeated := len(rows) - len(seen):
        found.append(f"{repeated:,} images are copies of an earlier one; they are never its negatives")
    return found


def _pairs(rows: Dataset) -> Iterator[frozenset[str]]:
    columns = (rows[name][:] for name in ("anchor", "positive") if name in rows.column_names)
    return map(frozenset, zip(*columns, strict=True))


def _texts(rows: Dataset) -> list[str]:
    return [name for name in rows.column_names if not is_group_column(name)]


def _rows(count: int) -> str:
    return "1 row has" if count == 1 else f"{count:,} rows have"


def require_tokens(
    rows: Dataset, count_tokens: Callable[[Sequence[str]], list[int] | None], section: DataSection
) -> None:
    """Refuse texts of which the encoder's tokeniser makes no token: their embedding would be zero.

    With a static embedding, a text of zero-width spaces is one. Encoders that add special tokens always have some.

    Args:
        rows: What to train on.
        count_tokens: Number of tokens of each text, or None if the encoder has no tokens.
        section: Where the rows come from, for messages.

    Raises:
        InputError: With file, row and text of the first one.
    """
    if (count_tokens([_ZERO_WIDTH_SPACE]) or [1]) != [0]:
        return
    for batch in rows.iter(10_000):
        for role, texts in batch.items():
            counts = [] if is_group_column(role) else count_tokens(texts) or []
            if 0 in counts:
                text = texts[counts.index(0)]
                raise InputError(
                    f"{_place(section, role, text)} {text!a:.60}, of which the model's tokeniser makes no token; "
                    "remove the row, or take a model that has tokens for it"
                )


def _place(section: DataSection, role: str, text: str) -> str:
    """Say where a text is in the source; a file is read again to find its row.

    The positive of labelled texts is an anchor elsewhere, and a mined negative the positive of a pair.
    """
    source, roles = section.train, section.columns.roles
    columns = list(dict.fromkeys([roles.get(role, section.columns.anchor), *roles.values()]))
    if is_hub_id(source) or source.startswith(("hf:", "sample:")):
        return f'{source}: column "{columns[0]}" has'
    read = read_file(user_path(source), columns)
    column = next(column for column in columns if text in read.columns[column])
    return f'{source}, {read.unit} {read.numbers[read.columns[column].index(text)]}: column "{column}" has'
