"""The result of an evaluation: one document, whatever was evaluated.

Every kind of evaluation ends in a :class:`Result`. Terminal, ``results/*.json``, report, comparison, model card and the
choice of a checkpoint read its scores and need to know nothing else about the kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fmicl_text.errors import InputError
from fmicl_text.files import read_json

Unit = Literal["%", ""]
"""``%``: the value is in percent, from 0 (or -100) to 100; empty: a plain number."""


_Model = TypeVar("_Model", bound=BaseModel)


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Score(_Document):
    """One figure."""

    name: str
    """What was scored, such as ``STS12``, ``average`` or ``held-out pairs``."""
    metric: str
    """The metric as people write it, such as ``Spearman`` or ``accuracy@1``."""
    metric_type: str
    """The metric as sentence-transformers and the Hub call it, such as ``spearman_cosine``."""
    value: float
    """The figure, in ``unit``."""
    unit: Unit = "%"
    """Unit of ``value`` and ``ci95``."""
    n: int | None = None
    """Number of items it was measured on; ``None`` for an average of tasks."""
    ci95: tuple[float, float] | None = None
    """95% bootstrap interval over the items; ``None`` if there is none."""
    no_interval: str | None = None
    """Why there is no interval, where a reader would expect one."""
    higher_is_better: bool | None = True
    """``None`` if neither high nor low values are better."""
    dimensions: int | None = None
    """Measured on so many of an embedding's first numbers, as ``name`` says; ``None`` for all."""
    baseline: bool = False
    """Not the model's own: of what it is compared with in the same result, such as raw pixels, as ``name`` says."""

    def at(self, dimensions: int) -> Score:
        """Return the score as one that was measured on so many of an embedding's first numbers."""
        name = f"{self.name} at {dimensions} dimensions"
        return self.model_copy(update={"name": name, "dimensions": dimensions})

    def written(self, value: float) -> str:
        """Write a value in this score's unit: two decimals of a percentage, else four figures."""
        return f"{value:.2f}" if self.unit == "%" else f"{value:.4g}"

    @property
    def key(self) -> str:
        """Name and metric: what tells a score from the others of its result."""
        return f"{self.name} {self.metric}"


class Result(_Document):
    """What one evaluation of one model found."""

    format: Literal[2] = 2
    """Version of this document; those of version 1 had a form of their own for each kind."""
    kind: str
    """Kind of evaluation, a name in the registry: ``sts``, ``pairs``, ``transfer``, ``heldout``, ``geometry``, ..."""
    name: str
    """What distinguishes it from others of its kind: the suite, the file, the benchmark."""
    protocol: str
    """What is scored and how, in words that let a reader judge whether two results are comparable."""
    model: str
    """Name of the model."""
    revision: str | None = None
    """The Hub's commit or a digest of the folder, of a model that was given by name; ``None`` for a model in memory."""
    data: str | None = None
    """Where the data came from."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """What else decides the figures: maximum length, precision, settings of the protocol."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the libraries that affect the figures."""
    scores: list[Score]
    """The figures, first the one that summarises the whole."""
    missing: dict[str, str] = Field(default_factory=dict)
    """Task -> why it could not be scored."""
    details: dict[str, Any] = Field(default_factory=dict)
    """What a kind keeps beyond its scores (histograms, chosen regularisation); nothing but that kind reads it."""

    def score(self, name: str) -> Score:
        """Return the first score of a name, such as ``STS12``, or of a key, such as ``STS12 Spearman``.

        Raises:
            KeyError: There is none.
        """
        for score in self.scores:
            if name in (score.name, score.key):
                return score
        raise KeyError(f"no score {name!r}; there are {', '.join(score.key for score in self.scores)}")

    def document(self) -> dict[str, Any]:
        """Return the result as plain values, ready for JSON."""
        return self.model_dump(mode="json")


class ForeignDocument(InputError):
    """A valid JSON document that is not the result of an evaluation."""


def read_result(path: Path) -> Result:
    """Read the result of any evaluation, also one written in format 1.

    Raises:
        ForeignDocument: The file holds JSON of another kind.
        InputError: The file cannot be read, is not JSON, or a key of the result is missing or wrong; with file and key.
    """
    return as_result(read_json(path), path)


def as_result(document: Any, place: Path | str) -> Result:
    """Return a document as a result; ``place`` is named in errors, which are those of :func:`read_result`."""
    from fmicl_text.evaluation.format_1 import from_format_1

    if isinstance(document, dict) and "format" not in document:
        return from_format_1(document, place)
    if not isinstance(document, dict):
        raise ForeignDocument(f"{place}: not the result of an evaluation")
    if document["format"] != 2:
        raise InputError(
            f"{place}: format: this version of fmicl reads formats 1 and 2, not {document['format']!r:.20}"
        )
    return checked(Result, document, place)


def checked(model: type[_Model], document: Any, place: Path | str) -> _Model:
    """Return a document as a model; an InputError names the place and the first keys that are wrong."""
    with named(place):
        return model.model_validate(document)


@contextmanager
def named(place: Path | str) -> Iterator[None]:
    """Turn what pydantic finds wrong with a document into an InputError that names its place and keys."""
    try:
        yield
    except ValidationError as error:
        found = [f"{'.'.join(map(str, details['loc']))}: {details['msg']}" for details in error.errors()[:3]]
        raise InputError(f"{place}: not a result that fmicl wrote: {'; '.join(found)}") from None
