"""What every kind of evaluation declares: its names and options, what it needs, how it is loaded and run.

A recipe, ``fmicl eval`` and the choice of a checkpoint know nothing else of an evaluation. It imports nothing heavy.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from fmicl_text.errors import InputError
from fmicl_text.section import Section

if TYPE_CHECKING:
    from datasets import Dataset

    from fmicl_text.data.section import AugmentSection
    from fmicl_text.encoders.section import PromptsSection
    from fmicl_text.evaluation.items import Measured
    from fmicl_text.evaluation.metrics import Metric
    from fmicl_text.evaluation.scored_model import ScoredModel


Data = Literal["texts", "images"]
"""What an encoder reads: a recipe trains on one of the two, and evaluates on the same."""
_OTHERS: dict[Data, str] = {
    "texts": "of texts there are heldout, geometry, transfer, mteb, suites such as stsb, and files of pairs",
    "images": "of images there are images, knn, linear and geometry",
}
_TRAINED: dict[Data, str] = {
    "texts": "texts (to train on images, set data.views: augment)",
    "images": "images (data.views: augment)",
}


class NoScoreError(InputError):
    """The model gives nothing that can be scored, such as the same embedding for every text."""


@dataclass(frozen=True)
class Effort:
    """How an evaluation is run; its scores are the same up to rounding.

    Attributes:
        batch_size: Texts encoded at a time.
        show_progress: Draw progress bars on standard error.
        intervals: Compute 95% bootstrap intervals, which takes a few seconds.
        baselines: Also measure what the encoder is compared with, where an evaluation is asked for that.
    """

    batch_size: int = 128
    show_progress: bool = False
    intervals: bool = True
    baselines: bool = True


@dataclass(frozen=True)
class Given:
    """What a run provides to its evaluations.

    Attributes:
        data: ``evaluate.data``: a folder, ``sample:stsb``, or None for the Hub.
        heldout: Pairs held out from training, ``anchor``, ``positive`` and perhaps ``group``, by the name of their
            source; the name of a single one is empty.
        prompts: Source -> what is put before its texts, where that is not the encoder's own.
        image_size: Width and height of the images that the encoder reads, if it reads any.
        augment: How views of images are made, in a run that trains on them.
    """

    data: str | None = None
    heldout: Mapping[str, Dataset] = field(default_factory=dict)
    prompts: Mapping[str, PromptsSection] = field(default_factory=dict)
    image_size: int | None = None
    augment: AugmentSection | None = None


@dataclass(frozen=True)
class Loaded:
    """An evaluation whose data is in memory and checked.

    Attributes:
        measure: Runs it on a model.
        offers: :attr:`~fmicl_text.evaluation.results.Score.key` of each score that is always there -> its metric; the
            one that summarises the whole is first.
        missing: Task -> why it cannot be scored.
        record: Gives what each part of the data is known by, for the record of what a run depends on: a fingerprint of
            everything in it that decides a score, labels and what is learned from included, or a revision. Of held-out
            pairs, which the record has anyway, and of data that is only read when it is measured on, nothing.
        items: Gives what each item that is scored is made of: its texts, or a digest of its image. By these, two
            evaluations on the same data are known, whatever its files are called. Of data that is only read when
            it is measured on, what names it.
    """

    measure: Callable[[ScoredModel, Effort], Measured]
    offers: Mapping[str, Metric]
    missing: Mapping[str, str] = field(default_factory=dict)
    record: Callable[[], Mapping[str, Mapping[str, Any]]] = dict
    items: Callable[[], Iterable[tuple[str, ...]]] = tuple


class Evaluation(Section):
    """One evaluation that a recipe asks for, by its name alone or by ``{name: ..., OPTION: ...}``.

    A kind is a subclass, listed in :mod:`fmicl_text.evaluation.registry`; its fields are the options.
    """

    kind: ClassVar[str]
    """The kind of its results."""
    names: ClassVar[str]
    """Which names belong to it, in words."""

    name: str
    """What is evaluated: a name that is shipped, or a file."""
    metric: str | None = None
    """In evaluate.during: the score that chooses the checkpoint, where there are several."""

    @classmethod
    @abstractmethod
    def claims(cls, name: str) -> bool:
        """Whether a name in ``evaluate.after`` or ``evaluate.during`` belongs to this kind."""

    @abstractmethod
    def load(self, given: Given) -> Loaded:
        """Load and check the data.

        Raises:
            InputError: What it needs is not there, or is wrong; every problem at once.
        """

    @property
    def reads(self) -> Data | None:
        """What it gives the encoder to read; None for whatever the encoder was trained on."""
        return "texts"

    @property
    def described(self) -> str:
        """What it is called where :attr:`reads` is the reason to refuse it."""
        return self.name

    def unfit(self, trained_on: Data, data: str | None) -> str | None:
        """Return why a recipe cannot ask for it, as far as the recipe alone says, or None.

        Args:
            trained_on: What the recipe trains on.
            data: ``evaluate.data``.
        """
        if self.reads in (None, trained_on):
            return None
        return f"{self.described} reads {self.reads}, and this trains on {_TRAINED[trained_on]}; {_OTHERS[trained_on]}"

    @property
    def result_name(self) -> str:
        """What its results are called in a run folder; a suite or data may be a file."""
        return Path(self.name).stem

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, handler: SerializerFunctionWrapHandler) -> str | dict[str, Any]:  # type: ignore[override]
        """Write only the name where nothing else was set."""
        options = {key: value for key, value in handler(self).items() if value != type(self).model_fields[key].default}
        return self.name if options == {"name": self.name} else options


def choose_score(asked: Evaluation, loaded: Loaded) -> str:
    """Return the :attr:`Score.key` of the score that an evaluation's ``metric`` names; by default the first.

    Case does not matter. A metric may be given by its name, by its name on the Hub, or by the score's key.

    Raises:
        InputError: It has no such score, or several.
    """
    if asked.metric is None:
        return next(iter(loaded.offers))
    wanted = asked.metric.casefold()
    names = {key: (key, metric.name, metric.type) for key, metric in loaded.offers.items()}
    found = [key for key, spellings in names.items() if wanted in (name.casefold() for name in spellings)]
    exact = [key for key in found if key.casefold() == wanted]
    if len(found) == 1 or exact:
        return (exact or found)[0]
    if found and found[0] == next(iter(loaded.offers)):  # the average, of tasks that have the same metric
        return found[0]
    wrong = "is the metric of several scores" if found else "is not among its scores"
    raise InputError(f'evaluate.during: {asked.name}: metric "{asked.metric}" {wrong}; there are {", ".join(names)}')
