"""The geometry of embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, PositiveInt

from fmicl_text.data.fingerprints import fingerprint, tuples
from fmicl_text.data.section import AugmentSection
from fmicl_text.errors import InputError
from fmicl_text.evaluation.kind import Data, Evaluation, Given, Loaded
from fmicl_text.section import Conflict

if TYPE_CHECKING:
    from datasets import Dataset


_OF_TEXTS = ("pairs", "columns", "data")
_OF_IMAGES = ("images", "column", "rows", "augment")
_NO_IMAGES = "geometry needs images: set its option images, or evaluate.data"


class GeometryOfPairs(Evaluation):
    """How embeddings lie on the sphere: alignment, uniformity, the density ratio of positive to random pairs.

    Of sentences the positive pairs are texts that mean the same; of images, two augmented views of one image.
    """

    kind: ClassVar = "geometry"
    names: ClassVar = "geometry: alignment, uniformity and the density ratio"

    pairs: str | None = None
    """Pairs that mean the same: a file or a Hub id. Default: STS-B dev, or without evaluate.data held-out pairs."""
    columns: Annotated[list[str], Field(min_length=2, max_length=2)] = ["anchor", "positive"]
    """The two columns of pairs."""
    data: str | None = None
    """Where STS-B dev comes from: a folder, or sample:stsb; default evaluate.data."""
    images: str | None = None
    """Images, from any source of images; in a run on images the default is evaluate.data."""
    column: str = "image"
    """The column of the images."""
    rows: PositiveInt = 1000
    """How many images to take from the start."""
    augment: AugmentSection | None = None
    """How views of images are made; default data.augment of the run, otherwise its defaults."""

    def conflicts(self) -> Iterator[Conflict]:
        """Refuse a text as its own positive, and texts and images at once."""
        if self.columns[0] == self.columns[1]:
            yield ("columns",), f"must be two columns of texts that mean the same, got {self.columns[0]} twice"

        of_texts, of_images = self._given(_OF_TEXTS), self._given(_OF_IMAGES)
        if of_texts and of_images:
            yield (of_texts[0],), f"is for texts and {of_images[0]} is for images; give one of the two"

    @classmethod
    def claims(cls, name: str) -> bool:
        """Whether it is ``geometry``."""
        return name == "geometry"

    @property
    def reads(self) -> Data | None:
        """What its options are for; without any, what the encoder was trained on."""
        return "texts" if self._given(_OF_TEXTS) else "images" if self._given(_OF_IMAGES) else None

    @property
    def described(self) -> str:
        """With the option that is for texts or for images."""
        return f"geometry with {[*self._given(_OF_TEXTS), *self._given(_OF_IMAGES)][0]}"

    def _given(self, options: Sequence[str]) -> list[str]:
        return [name for name in options if getattr(self, name) != type(self).model_fields[name].default]

    def unfit(self, trained_on: Data, data: str | None) -> str | None:
        """Return also that there are no images to take views of."""
        missing = _NO_IMAGES if trained_on == "images" and (self.images or data) is None else None
        return super().unfit(trained_on, data) or missing

    def load(self, given: Given) -> Loaded:
        """Load images, or pairs that mean the same: the user's own where there are any, else those of STS-B dev."""
        if (self.reads or ("texts" if given.image_size is None else "images")) == "images":
            return self._load_images(given)
        from fmicl_text.data.section import Columns
        from fmicl_text.evaluation.geometry import SENTENCES, measure_pair_set
        from fmicl_text.evaluation.metrics import GEOMETRY
        from fmicl_text.evaluation.pair_sets import heldout_pair_set, own_pair_set, stsb_pair_set

        data = self.data or given.data
        if self.pairs is not None:
            anchor, positive = self.columns
            pairs = own_pair_set(self.pairs, Columns(anchor=anchor, positive=positive))
        elif data is None and given.heldout:
            pairs = heldout_pair_set([*given.heldout.values()])
        else:
            pairs = stsb_pair_set(data)

        def items() -> Iterator[tuple[str, str]]:
            return ((pairs.sentences[a], pairs.sentences[b]) for a, b in pairs.positives)

        return Loaded(
            partial(measure_pair_set, pairs=pairs),
            {metric.key(SENTENCES): metric for metric in GEOMETRY.values()},
            record=lambda: {"": fingerprint(self.columns, items())},
            items=items,
        )

    def _load_images(self, given: Given) -> Loaded:
        from fmicl_text.data.images import load_images
        from fmicl_text.evaluation.geometry import IMAGES, measure_views
        from fmicl_text.evaluation.images import image_names
        from fmicl_text.evaluation.metrics import GEOMETRY

        images = self.images or given.data
        if images is None:
            raise InputError(_NO_IMAGES)

        def load(size: int) -> Dataset:
            return load_images(images, self.column, size, limit=self.rows).rows

        at_hand = None if given.image_size is None else load(given.image_size)
        measure = partial(
            measure_views,
            load=lambda size: at_hand if at_hand is not None and size == given.image_size else load(size),
            section=self.augment or given.augment or AugmentSection(),
            source=f"{images}, the first {self.rows:,} images",
        )
        return Loaded(
            measure,
            {metric.key(IMAGES): metric for metric in GEOMETRY.values()},
            record=lambda: {} if at_hand is None else {"": fingerprint(at_hand.column_names, tuples(at_hand))},
            items=lambda: [(images,)] if at_hand is None else ((name,) for name in image_names(at_hand)),
        )
