"""The result of an evaluation: one document, whatever was evaluated.

Every kind of evaluation ends in a :class:`Result`. Terminal, ``results/*.json``, report, comparison, model card and the
choice of a checkpoint read its scores and need to know nothing else about the kind.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Unit = Literal["%", ""]
"""``%``: the value is in percent, from 0 (or -100) to 100; empty: a plain number."""


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
    """Why there is no interval, if that needs saying."""
    higher_is_better: bool | None = True
    """``None`` if neither end is good in itself."""

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
    """The Hub's commit or a digest of the folder, of a model that was given by name; ``None`` of a loaded one."""
    data: str | None = None
    """Where the data came from."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """What else decides the figures: maximum length, precision, settings of the protocol."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the libraries that decide a number."""
    scores: list[Score]
    """The figures, the one that stands for the whole first."""
    missing: dict[str, str] = Field(default_factory=dict)
    """Task -> why it could not be scored."""
    details: dict[str, Any] = Field(default_factory=dict)
    """What a kind keeps beyond its scores (histograms, chosen regularisation); nothing but that kind reads it."""
