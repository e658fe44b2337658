"""The ``data:`` section of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt

from fmicl_text.section import Conflict, Section, check_revision


class Columns(Section):
    """Which column of the data plays which role."""

    anchor: str
    """Column of the anchors."""
    positive: str | None = None
    """Column of the text that belongs to the anchor."""
    negatives: list[str] = []
    """Columns of texts that look like the positive and are not."""

    @property
    def roles(self) -> dict[str, str]:
        """Role to column, in the order the losses expect: anchor, positive, negative_1, ..., negative_k."""
        positive = {} if self.positive is None else {"positive": self.positive}
        return {"anchor": self.anchor} | positive | {f"negative_{i}": c for i, c in enumerate(self.negatives, 1)}

    def conflicts(self) -> Iterator[Conflict]:
        """A column has one role, and negatives are negatives of a pair."""
        if len(set(self.roles.values())) < len(self.roles):
            yield (), f"each role takes a column of its own, got {', '.join(self.roles.values())}"
        if self.negatives and self.positive is None:
            yield ("negatives",), "needs a positive column too"


class DataSection(Section):
    """What to train on. Relative paths start at the current working directory."""

    train: str
    """Hub id, hf://datasets/OWNER/NAME/FILE, csv, tsv, jsonl, parquet or txt file, or sample:wikipedia."""
    split: str = "train"
    """Split of Hub data sets."""
    revision: Annotated[str, AfterValidator(check_revision)] | None = None
    """Branch, tag or commit of train on the Hub; a streamed run has the commit here."""
    columns: Columns
    """Which column plays which role."""
    views: Literal["columns", "dropout"] = "columns"
    """Where pairs come from: two columns, or one text encoded twice with different dropout masks (SimCSE)."""
    rows: Annotated[int, Field(ge=2)] | None = None
    """Train on the first so many rows only."""
    streaming: bool = False
    """Read a Hub id or files, also several such as shards/*.parquet, during training; needs train.max_steps."""
    shuffle_buffer: PositiveInt = 10_000
    """Rows of a stream that are in memory, among which the next is drawn; other data is shuffled as a whole."""
    heldout: str | None = None
    """Source of pairs never trained on, same columns; retrieval of the positive from the anchor is measured there."""

    def conflicts(self) -> Iterator[Conflict]:
        """Views decide whether there is a positive column; held-out rows need one and are others; no sample streams."""
        if self.views == "columns" and self.columns.positive is None:
            yield ("columns",), "views from columns need a positive column; give one, or set views: dropout"
        if self.views == "dropout" and self.columns.positive is not None:
            yield ("views",), "dropout makes the positive from the anchor; drop columns.positive, or set views: columns"
        if self.heldout is not None and self.columns.positive is None:
            yield ("heldout",), "needs columns.positive, which is what is searched for"
        if self.heldout == self.train and not self.train.startswith("sample:"):
            yield ("heldout",), "is the training data; name a source with other rows"
        if self.streaming and self.train.startswith("sample:"):
            yield ("streaming",), "is for files and the Hub; a sample is small, leave it out"
