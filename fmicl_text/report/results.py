"""The documents of a ``results`` folder, read and checked. Nothing is computed anew."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator

from fmicl_text.data.readers import read_text
from fmicl_text.errors import InputError
from fmicl_text.evaluation.geometry import Geometry, Neighbours
from fmicl_text.evaluation.items import Items, Parts, Statistic, items_file

_BEFORE = "before-"


@dataclass(frozen=True)
class Score:
    """A figure in percent, over ``n`` items, with its 95% interval if it was measured."""

    value: float
    n: int | None = None
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class Table:
    """The scores of one evaluation.

    Attributes:
        name: Of the suite, or of what was measured.
        protocol: What is scored, in words.
        scores: Name -> score.
        missing: Task -> why it could not be scored.
        no_interval: Task -> why its score has no interval.
        facts: What else decides the figures: data, tokens, versions.
    """

    name: str
    protocol: str
    scores: dict[str, Score]
    missing: dict[str, str] = field(default_factory=dict)
    no_interval: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GeometryReport:
    """Geometry of one encoder, the data it was measured on, and the nearest neighbours of a few sentences."""

    data: str
    geometry: Geometry
    neighbours: list[Neighbours]


@dataclass
class Results:
    """All that one ``results`` folder holds.

    Attributes:
        tables: Name -> scores.
        items: Name of a table -> score -> what each item scored.
        geometry: None if it was not measured.
        unknown: Files of another kind.
    """

    tables: dict[str, Table] = field(default_factory=dict)
    items: dict[str, dict[str, Parts]] = field(default_factory=dict)
    geometry: GeometryReport | None = None
    unknown: list[str] = field(default_factory=list)


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


_M = TypeVar("_M", bound=BaseModel)


class _TaskScore(_Document):
    value: float = Field(validation_alias=AliasChoices("spearman", "accuracy", "main_score"))
    n: int | None = None
    ci95: tuple[float, float] | None = None
    no_interval: str | None = None

    def times(self, scale: float) -> Score:
        ci95 = self.ci95 and (scale * self.ci95[0], scale * self.ci95[1])
        return Score(scale * self.value, self.n, ci95)


class _Suite(_Document):
    scale: ClassVar[float] = 1
    """What makes percent of the figures."""

    suite: str
    protocol: str
    tasks: dict[str, _TaskScore]
    average: float | None
    average_ci95: tuple[float, float] | None = None
    missing_reasons: dict[str, str] = {}
    data: str
    max_seq_length: int | None
    precision: str | None = None
    versions: dict[str, str]

    def add_to(self, results: Results) -> str:
        scores = {task: score.times(self.scale) for task, score in self.tasks.items()}
        if self.average is not None and len(scores) > 1:
            ci95 = self.average_ci95 and (self.scale * self.average_ci95[0], self.scale * self.average_ci95[1])
            scores["average"] = Score(self.scale * self.average, ci95=ci95)
        facts = _facts(self.data, self.max_seq_length, self.precision, self.versions)
        bare = {task: score.no_interval for task, score in self.tasks.items() if score.no_interval}
        results.tables[self.suite] = Table(self.suite, self.protocol, scores, self.missing_reasons, bare, facts)
        return self.suite


class _Mteb(_Suite):
    scale = 100


class _Retrieval(_Document):
    task: str
    n: int
    candidates: int
    ci95: dict[str, tuple[float, float]]
    accuracy: float = Field(alias="accuracy@1")
    mrr: float = Field(alias="mrr@10")

    def add_to(self, results: Results) -> str:
        scores = {
            metric: Score(value, self.n, self.ci95.get(metric))
            for metric, value in (("accuracy@1", self.accuracy), ("mrr@10", self.mrr))
        }
        protocol = f"each query's own document searched among {self.candidates:,}, by cosine, in percent"
        results.tables[self.task] = Table(self.task, protocol, scores)
        return self.task


class _OwnScore(_Document):
    value: float
    ci95: tuple[float, float]


class _OwnPairs(_Document):
    task: str
    file: str
    n: int
    scores: dict[str, _OwnScore]
    max_seq_length: int | None
    precision: str
    versions: dict[str, str]

    def add_to(self, results: Results) -> str:
        name = f"{self.task} of {Path(self.file).name}"
        scores = {metric: Score(score.value, self.n, score.ci95) for metric, score in self.scores.items()}
        facts = _facts(self.file, self.max_seq_length, self.precision, self.versions)
        results.tables[name] = Table(name, f"{self.n:,} pairs, by the cosine of the embeddings", scores, facts=facts)
        return name


class _Part(_Document):
    statistic: Statistic
    values: list[float]
    gold: list[float] | None
    source: str


class _Items(_Document):
    items: dict[str, list[_Part]]


class _Geometry(_Document):
    data: str
    geometry: Geometry
    neighbours: list[Neighbours]

    @field_validator("geometry")
    @classmethod
    def _counted_between_edges(cls, geometry: Geometry) -> Geometry:
        histograms = geometry.histograms
        for counts in (histograms.positive, histograms.random, histograms.hard):
            if len(counts) + 1 != len(histograms.edges):
                raise ValueError("histograms must have a count between each two edges")
        if not any(histograms.positive):
            raise ValueError("histograms must count positive pairs")
        return geometry

    def add_to(self, results: Results) -> str:
        results.geometry = GeometryReport(self.data, self.geometry, self.neighbours)
        return "geometry"


_KINDS: dict[str, type[_Suite | _Mteb | _Retrieval | _OwnPairs | _Geometry]] = {
    "geometry": _Geometry,
    "mteb_name": _Mteb,
    "suite": _Suite,
    "candidates": _Retrieval,
    "scores": _OwnPairs,
}
"""A key that only documents of a kind have -> the kind; the first that fits."""


def _facts(data: str, max_seq_length: int | None, precision: str | None, versions: dict[str, str]) -> dict[str, str]:
    tokens = "all tokens" if max_seq_length is None else f"{max_seq_length} tokens"
    return {"data": data, "length": tokens, **({"precision": precision} if precision else {}), **versions}


def read_results(folder: Path, before: bool) -> Results:
    """Read the documents of a run that were measured before training, or after it."""
    results = Results()
    seen: dict[str, Path] = {}
    paths = [path for path in sorted((folder / "results").rglob("*.json")) if path.name.startswith(_BEFORE) == before]
    items = {items_file(path) for path in paths}.intersection(paths)
    for path in paths:
        if path in items:
            continue
        document = read_document(path)
        kind = next((_KINDS[key] for key in _KINDS if isinstance(document, dict) and key in document), None)
        if kind is None:
            results.unknown.append(path.name)
            continue
        name = validated(kind, path, document).add_to(results)
        if name in seen:
            raise InputError(f"{path} and {seen[name]} are both results of {name}: which is meant? Move one away")
        seen[name] = path
        if items_file(path) in items:
            found = validated(_Items, items_file(path), read_document(items_file(path))).items
            results.items[name] = {
                score: tuple(Items.of(part.model_dump()) for part in parts) for score, parts in found.items()
            }
    return results


def read_document(path: Path) -> Any:
    """Read a JSON file; an InputError names one that is none."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from None


def validated(kind: type[_M], place: Path | str, document: Any, name: str = "a result that fmicl wrote") -> _M:
    """Return a document as a model of its kind; an InputError says at which place it is not what ``name`` says."""
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        where = "; ".join(": ".join(filter(None, (".".join(map(str, e["loc"])), e["msg"]))) for e in error.errors()[:3])
        raise InputError(f"{place}: not {name}: {where}") from None
