"""Classes of images, read off frozen embeddings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from fmicl_text.data.fingerprints import fingerprint, tuples
from fmicl_text.errors import InputError
from fmicl_text.evaluation.kind import Data, Evaluation, Given, Loaded
from fmicl_text.files import user_path
from fmicl_text.section import Conflict


class OfImages(Evaluation):
    """Whether the class of an image is that of its nearest neighbours, and can be read off by a linear classifier."""

    kind: ClassVar = "images"
    names: ClassVar = "images: classes of images; knn and linear: one of its two methods"

    train: str | None = None
    """Images with labels to classify by: any source of images; default evaluate.data."""
    test: str | None = None
    """Images to classify; default: the split test_split of train."""
    test_split: str = "test"
    """Split of the images to classify, of a Hub id, a folder or a sample; without such splits it does not count."""
    image: str = "image"
    """Column of the images."""
    label: str = "label"
    """Column of the labels."""
    rows: PositiveInt | None = None
    """Use the first so many rows of train only."""
    k: PositiveInt = 200
    """Nearest neighbours that vote; of fewer images all."""
    temperature: PositiveFloat = 0.07
    """A neighbour at cosine s has the vote exp(s / temperature)."""
    labels_per_class: PositiveInt | None = None
    """Draw so many images of each class, and forget the labels of the others."""
    draws: Annotated[int, Field(ge=1, le=1000)] = 1
    """How often to draw; scores are means over the draws."""
    baselines: bool = False
    """Also classify by raw pixels, and by the encoder with random weights."""

    def conflicts(self) -> Iterator[Conflict]:
        """Refuse to draw nothing again and again."""
        if self.draws > 1 and self.labels_per_class is None:
            yield ("draws",), "needs labels_per_class, how many labels of each class to draw"

    @classmethod
    def claims(cls, name: str) -> bool:
        """Whether it is ``images``, or one of its methods."""
        return name in ("images", "knn", "linear")

    @property
    def methods(self) -> tuple[Literal["kNN", "linear"], ...]:
        """How images are classified."""
        return {"knn": ("kNN",), "linear": ("linear",)}.get(self.name, ("kNN", "linear"))  # type: ignore[return-value]

    @property
    def reads(self) -> Data:
        """Images."""
        return "images"

    @property
    def _no_images(self) -> str:
        return f"{self.name} needs images with labels: set its option train, or evaluate.data"

    def unfit(self, trained_on: Data, data: str | None) -> str | None:
        """Return also that there are no images with labels."""
        return super().unfit(trained_on, data) or (self._no_images if (self.train or data) is None else None)

    def load(self, given: Given) -> Loaded:
        """Load the images, if it is known already at which size the encoder reads them; otherwise when it is."""
        from fmicl_text.data.images import DIGITS, load_images
        from fmicl_text.data.sources import is_hub_id
        from fmicl_text.evaluation.images import LabelledImages, check_classes, check_known, image_names, measure_images
        from fmicl_text.evaluation.metrics import ACCURACY

        train = self.train or given.data
        if train is None:
            raise InputError(self._no_images)
        test = self.test or train
        has_splits = test == DIGITS or is_hub_id(test) or os.path.isdir(user_path(test))
        if test == train and not has_splits:
            if not (test.startswith(("sample:", "hf:")) or user_path(test).exists()):
                raise InputError(f"{self.name}: {test}: no such file")
            why = "has no splits" if self.test is None else "cannot be train and test, or each image is known already"
            raise InputError(f"{self.name}: {train} {why}; name other images to classify by its option test")

        def load(size: int) -> LabelledImages:
            remedy = f"replace such images, or leave their rows out of what {self.name} reads"
            columns = {"column": self.image, "size": size, "label": self.label, "remedy": remedy}
            bank = load_images(train, limit=self.rows, **columns).rows  # type: ignore[arg-type]
            check_classes(bank["label"], self, train)
            asked = load_images(test, split=self.test_split if has_splits else "train", **columns).rows  # type: ignore[arg-type]
            check_known(asked["label"], bank["label"], test, train)
            return LabelledImages(bank, asked, size)

        at_hand = None if given.image_size is None else load(given.image_size)

        def record() -> dict[str, dict[str, Any]]:
            parts = {} if at_hand is None else {"train": at_hand.bank, "test": at_hand.test}
            return {name: fingerprint(part.column_names, tuples(part)) for name, part in parts.items()}

        measure = partial(measure_images, load=load, at_hand=at_hand, options=self, source=f"{train}, {test}")
        return Loaded(
            measure,
            {ACCURACY.key(method): ACCURACY for method in self.methods},
            record=record,
            items=lambda: (
                [(test, self.test_split)] if at_hand is None else ((name,) for name in image_names(at_hand.test))
            ),
        )
