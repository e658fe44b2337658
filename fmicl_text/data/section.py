"""The ``data:`` section of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt

from fmicl_text.losses.columns import GROUP
from fmicl_text.section import Conflict, Section, check_revision


class Columns(Section):
    """Which column of the data plays which role."""

    anchor: str
    """Column of the anchors."""
    positive: str | None = None
    """Column of the text that belongs to the anchor."""
    negatives: list[str] = []
    """Columns of texts that look like the positive and are not."""
    group: str | None = None
    """Column of a label or a document's id: rows of one group are never each other's negatives."""

    @property
    def roles(self) -> dict[str, str]:
        """Role to column of the texts, in the losses' order: anchor, positive, negative_1, ..., negative_k."""
        positive = {} if self.positive is None else {"positive": self.positive}
        return {"anchor": self.anchor} | positive | {f"negative_{i}": c for i, c in enumerate(self.negatives, 1)}

    @property
    def used(self) -> dict[str, str]:
        """Role to column of all that is read: the texts, and the group if there is one."""
        return self.roles | ({} if self.group is None else {GROUP: self.group})

    def conflicts(self) -> Iterator[Conflict]:
        """Refuse a column in two roles, and negatives without positives."""
        if len(set(self.roles.values())) < len(self.roles):
            yield (), f"each role takes a column of its own, got {', '.join(self.roles.values())}"
        if self.negatives and self.positive is None:
            yield ("negatives",), "needs a positive column too"


class MineSection(Section):
    """How hard negatives are mined; the arguments of sentence-transformers' ``mine_hard_negatives``."""

    num_negatives: Annotated[int, Field(ge=1, le=100)] = 3
    """Negatives of each pair."""
    relative_margin: Annotated[float, Field(ge=0)] | None = 0.05
    """A negative is less similar than the positive by this share of the positive's similarity; null for any."""
    absolute_margin: float | None = None
    """A negative is less similar than the positive by this much."""
    range_min: Annotated[int, Field(ge=0)] = 0
    """How many of the nearest texts are skipped, as they may be right answers."""
    range_max: PositiveInt | None = None
    """How many of the nearest texts are candidates; default: as many as are needed."""
    max_score: float | None = None
    """Highest similarity of a negative."""
    min_score: float | None = None
    """Lowest similarity of a negative."""
    sampling_strategy: Literal["top", "random"] = "top"
    """The most similar candidates, or any of them."""
    model: str | None = None
    """Encoder that finds them; default: model.base."""

    def conflicts(self) -> Iterator[Conflict]:
        """Refuse a range with too few candidates."""
        if self.range_max is not None and self.range_max - self.range_min < self.num_negatives:
            yield ("range_max",), "must leave num_negatives candidates after the first range_min"


class DataSection(Section):
    """What to train on. Relative paths start at the current working directory; ~ is the home folder."""

    train: str
    """Hub id, hf://datasets/OWNER/NAME/FILE, csv, tsv, jsonl, parquet or txt file, or sample:wikipedia."""
    split: str = "train"
    """Split of Hub data sets."""
    revision: Annotated[str, AfterValidator(check_revision)] | None = None
    """Branch, tag or commit of train on the Hub; a streamed run has the commit here."""
    columns: Columns
    """Which column plays which role."""
    views: Literal["columns", "dropout", "group"] = "columns"
    """Pairs are two columns, one text encoded twice with different dropout (SimCSE), or two texts of one group."""
    rows: Annotated[int, Field(ge=2)] | None = None
    """Use only this many rows, from the start."""
    streaming: bool = False
    """Read a Hub id or files, also several such as shards/*.parquet, during training; needs train.max_steps."""
    shuffle_buffer: PositiveInt = 10_000
    """Rows of a stream held in memory, from which the next is drawn; other data is shuffled as a whole."""
    heldout: Annotated[float, Field(gt=0, lt=1)] | str | None = None
    """Pairs never trained on, to measure retrieval: a source with the same columns, or a share of train such as 0.1."""
    mine: MineSection | None = None
    """Hard negatives, found in the training data by an encoder."""

    def conflicts(self) -> Iterator[Conflict]:
        """Refuse views that do not fit the columns, held-out data without a positive, and streams of other sources."""
        if self.views == "columns" and self.columns.positive is None:
            yield (
                ("columns",),
                "views from columns need a positive column; give one, or set views: dropout, or views: group for "
                "texts with a label",
            )
        if self.views != "columns" and self.columns.positive is not None:
            made = "the anchor" if self.views == "dropout" else "the texts of a group"
            remedy = "drop columns.positive, or set views: columns"
            yield ("views",), f"{self.views} makes the positive from {made}; {remedy}"
        if self.views == "group" and self.columns.group is None:
            yield ("columns", "group"), "is the column of the label from whose texts pairs are drawn (views: group)"
        if self.heldout is not None and self.views == "dropout":
            yield ("heldout",), "needs columns.positive, which is what is searched for"
        if self.heldout == self.train and not self.train.startswith("sample:"):
            yield ("heldout",), "is the training data; name a source with other rows, or a share of it such as 0.1"
        if self.mine is not None and (self.views == "dropout" or self.columns.negatives):
            why = "needs pairs" if self.views == "dropout" else "adds negatives; drop columns.negatives"
            yield ("mine",), why
        if self.streaming:
            yield from self._not_of_a_stream()

    def _not_of_a_stream(self) -> Iterator[Conflict]:
        if self.train.startswith("sample:"):
            yield ("streaming",), "is for files and the Hub; a sample is small, leave it out"
        if self.views == "group":
            yield ("views",), "group needs all rows at once to find those of a group; leave out streaming"
        if isinstance(self.heldout, float):
            yield ("heldout",), "as a share needs all rows at once; name a source, or leave out streaming"
        if self.mine is not None:
            yield ("mine",), "needs all rows at once; leave out streaming"
