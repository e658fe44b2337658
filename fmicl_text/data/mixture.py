"""The ``data:`` section of a recipe with several sources: ``train`` is a list of sections, one for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, PositiveFloat, Tag

from fmicl_text.data.section import DataSection
from fmicl_text.encoders.section import PromptsSection
from fmicl_text.findings import SectionOf
from fmicl_text.losses.section import OptionalLossSection
from fmicl_text.section import Conflict, Section, check_name, is_name


class SourceSection(DataSection):
    """One source of a mixture: what a ``data:`` section has, and how it stands beside the others."""

    name: Annotated[str, AfterValidator(check_name)] | None = None
    """What logs and scores call it; default: the name of the file or data set, without folder and ending."""
    weight: PositiveFloat | None = None
    """Share of the batches, relative to the other sources' weights; default: by its rows, or in turn."""
    prompts: PromptsSection | None = None
    """Prompts of its texts, in training and for its held-out pairs; default: the model's."""
    loss: OptionalLossSection = None
    """The objective of its batches; default: the recipe's loss, whose matryoshka holds unless this has its own."""

    @property
    def called(self) -> str:
        """Its name."""
        return self.name or PurePath(self.train.rpartition(":")[2]).name.partition(".")[0]

    def conflicts(self) -> Iterator[Conflict]:
        """Refuse images, and a source whose name must be given."""
        yield from super().conflicts()
        if self.views == "augment":
            yield ("views",), "augment is for images, which train alone: a mixture is of texts"
        if not is_name(self.called):
            yield ("name",), f'is needed: "{self.called}", from {self.train}, cannot be one'
        if self.called == "average":
            yield ("name",), 'must not be "average": so are the scores of all sources together called'


class MixtureSection(Section):
    """Several sources. Each batch is of one of them, so that negatives are of its kind."""

    train: Annotated[list[SourceSection], Field(min_length=2)]
    """The sources; a batch is drawn by their weights, or by `train.multi_dataset_batch_sampler`."""

    @property
    def sources(self) -> dict[str, SourceSection]:
        """The sources by name."""
        return {source.called: source for source in self.train}

    def conflicts(self) -> Iterator[Conflict]:
        """Refuse equal names, weights of some sources only, and streams beside data in memory."""
        times = Counter(source.called for source in self.train)
        for number, source in enumerate(self.train):
            if times[source.called] > 1:
                yield ("train", number, "name"), f'must differ from that of other sources, got "{source.called}"'
            if source.weight is None and any(other.weight is not None for other in self.train):
                yield ("train", number, "weight"), "is missing: give all sources a weight, or none"
            if not source.streaming and any(other.streaming for other in self.train):
                yield ("train", number, "streaming"), "must be true, as for other sources: stream all of them, or none"


def _kind(value: Any) -> str:
    is_mixture = isinstance(value.get("train"), list) if isinstance(value, dict) else isinstance(value, MixtureSection)
    return "several sources" if is_mixture else "one source"


def _section(value: Any) -> type[Section]:
    return MixtureSection if _kind(value) == "several sources" else DataSection


Data = Annotated[
    Annotated[DataSection, Tag("one source")] | Annotated[MixtureSection, Tag("several sources")],
    Discriminator(_kind),
    SectionOf(_section),
]
"""A ``data:`` section: one source, or a list of them under ``train``."""
