"""The ``data:`` section of a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, PositiveFloat, PositiveInt, ValidationError

from fmicl_text.findings import explain
from fmicl_text.losses.columns import GROUP
from fmicl_text.section import Conflict, Section, check_revision

Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Hue = Annotated[float, Field(ge=0, le=0.5)]


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


class AugmentSection(Section):
    """How two views of an image are made; each view draws its own numbers. The defaults are SimCLR's for CIFAR-10."""

    crop: Annotated[tuple[Share, Share] | None, Field(strict=False)] = (0.2, 1.0)
    """A random part of the image with an area of so much of it, scaled to the whole; null for none."""
    aspect: Annotated[tuple[PositiveFloat, PositiveFloat], Field(strict=False)] = (0.75, 4 / 3)
    """Width over height of the part."""
    flip: Share = 0.5
    """Probability of mirroring left and right; 0 where that makes another thing, as with letters and digits."""
    jitter: Annotated[tuple[NonNegative, NonNegative, NonNegative, Hue], Field(strict=False)] = (0.4, 0.4, 0.4, 0.1)
    """Most change of brightness, contrast, saturation and hue."""
    jitter_probability: Share = 0.8
    """Probability of the jitter."""
    grey: Share = 0.2
    """Probability of taking away the colours."""
    blur: Share = 0.0
    """Probability of a Gaussian blur of a tenth of the image; SimCLR has 0.5 on ImageNet, none on small images."""
    solarize: Share = 0.0
    """Probability of inverting the brighter half of the values."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Most degrees of rotation."""
    shift: Share = 0.0
    """Most shift in both directions, a share of the size."""
    scale: Annotated[tuple[PositiveFloat, PositiveFloat], Field(strict=False)] = (1.0, 1.0)
    """Least and most scale of what is rotated and shifted."""
    shear: Annotated[float, Field(ge=0, le=80)] = 0.0
    """Most degrees of shear."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Standard deviation of Gaussian noise on values from 0 to 1."""
    second: dict[str, JsonValue] = {}
    """Settings of the second view that differ from the first's, as MoCo v3 and BYOL have for blur and solarize."""

    @property
    def of_second(self) -> AugmentSection:
        """The settings of the second view."""
        return AugmentSection.model_validate(
            self.model_dump(mode="json", exclude={"second"}) | self.second, strict=False
        )

    def conflicts(self) -> Iterator[Conflict]:
        """Ranges are ranges, and the second view's settings are settings."""
        for name in ("crop", "aspect", "scale"):
            low, high = getattr(self, name) or (0, 1)
            if low > high:
                yield (name,), f"must begin with the smaller number, got {low} and {high}"
        if self.crop is not None and self.crop[1] == 0:
            yield ("crop",), "must leave a part of the image, got an area of 0"
        if "second" in self.second:
            yield ("second", "second"), "is no setting of the second view"
        elif self.second:
            try:
                _ = self.of_second
            except ValidationError as error:
                for found in explain(error, self.second, AugmentSection):
                    yield ("second", *found.path), found.message


class DataSection(Section):
    """What to train on. Relative paths start at the current working directory; ~ is the home folder."""

    train: str
    """Hub id, hf://... file, csv, tsv, jsonl, parquet or txt file, or sample:wikipedia; of images also a folder."""
    split: str = "train"
    """Split of Hub data sets, and of folders and samples of images."""
    config: str | None = None
    """Configuration of train, where a data set of the Hub has several, as sentence-transformers/all-nli has triplet."""
    revision: Annotated[str, AfterValidator(check_revision)] | None = None
    """Branch, tag or commit of train on the Hub; a streamed run has the commit here."""
    columns: Columns
    """Which column plays which role."""
    views: Literal["columns", "dropout", "group", "augment"] = "columns"
    """A pair: two columns, a text encoded twice by other dropout, two texts of a group, or two changes of an image."""
    augment: AugmentSection | None = None
    """How the views of an image are made; default: SimCLR's way for CIFAR-10."""
    broken: Literal["error", "skip"] | None = None
    """Images that cannot be decoded: name them and stop (default), or leave them out and say how many."""
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

    @property
    def sources(self) -> Mapping[str, DataSection]:
        """Itself, without a name; a mixture has several."""
        return {"": self}

    def ends_in_a_lone_row(self, rows: int, batch: int, normalises: bool = False) -> bool:
        """Whether the last batch of an epoch would be one row that cannot train, which training leaves out.

        Args:
            rows: How many there are to train on.
            batch: How many a batch has.
            normalises: Whether a BatchNorm is trained, which needs two rows; without one, a row needs a negative.
        """
        return (normalises or not self.columns.negatives) and rows > 1 and rows % batch == 1

    def conflicts(self) -> Iterator[Conflict]:
        """Refuse views that do not fit the columns, held-out data without a positive, and streams of other sources."""
        of_images = [name for name in ("augment", "broken") if getattr(self, name) is not None]
        if self.views == "columns" and self.columns.positive is None and not of_images:
            yield (
                ("columns",),
                "views from columns need a positive column; give one, or set views: augment for images, dropout for "
                "texts, or group for texts with a label",
            )
        if self.views != "columns" and self.columns.positive is not None:
            made = "the texts of a group" if self.views == "group" else "the anchor"
            remedy = "drop columns.positive, or set views: columns"
            yield ("views",), f"{self.views} makes the positive from {made}; {remedy}"
        if self.views == "group" and self.columns.group is None:
            yield ("columns", "group"), "is the column of the label from whose texts pairs are drawn (views: group)"
        alone = self.views in ("dropout", "augment")
        if self.heldout is not None and self.views == "augment":
            yield ("heldout",), "is for pairs of texts; of images there are evaluations: images, knn and linear"
        elif self.heldout is not None and alone:
            yield ("heldout",), "needs columns.positive, which is what is searched for"
        if self.heldout == self.train and not self.train.startswith("sample:"):
            yield ("heldout",), "is the training data; name a source with other rows, or a share of it such as 0.1"
        if self.mine is not None and (alone or self.columns.negatives):
            why = "needs pairs" if alone else "adds negatives; drop columns.negatives"
            yield ("mine",), why
        if self.views != "augment":
            for name in of_images:
                yield (name,), f"is for images: set views: augment, got {self.views}"
        if self.streaming:
            yield from self._not_of_a_stream()

    def _not_of_a_stream(self) -> Iterator[Conflict]:
        if self.train.startswith("sample:"):
            yield ("streaming",), "is for files and the Hub; a sample is small, leave it out"
        if self.views == "augment":
            yield ("streaming",), "is for texts; images are decoded once and mapped into memory, leave it out"
        if self.views == "group":
            yield ("views",), "group needs all rows at once to find those of a group; leave out streaming"
        if isinstance(self.heldout, float):
            yield ("heldout",), "as a share needs all rows at once; name a source, or leave out streaming"
        if self.mine is not None:
            yield ("mine",), "needs all rows at once; leave out streaming"
