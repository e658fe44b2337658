"""What a report is made from: the files of run folders, read and checked. Nothing is computed anew."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any, ClassVar

import numpy as np
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fmicl_text.errors import InputError
from fmicl_text.evaluation.geometry import Geometry, Neighbours
from fmicl_text.readers import read_text
from fmicl_text.run import RunFolder
from fmicl_text.yaml_tree import Tree

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
        facts: What else decides the figures: data, tokens, versions.
    """

    name: str
    protocol: str
    scores: dict[str, Score]
    missing: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PairScores:
    """Gold scores and cosines of the pairs of one task, ``(n,)`` each."""

    gold: np.ndarray
    similarities: np.ndarray


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
        pairs: Suite -> task -> what each pair scored.
        geometry: None if it was not measured.
        unknown: Files of another kind.
    """

    tables: dict[str, Table] = field(default_factory=dict)
    pairs: dict[str, dict[str, PairScores]] = field(default_factory=dict)
    geometry: GeometryReport | None = None
    unknown: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SeedRun:
    """One seed's run: its folder, its manifest, the trainer's log, and its results."""

    path: Path
    manifest: dict[str, Any]
    history: list[dict[str, Any]]
    results: Results

    @property
    def minutes(self) -> float | None:
        """How long it took; None if it has not ended."""
        if "ended" not in self.manifest:
            return None
        started, ended = (datetime.fromisoformat(self.manifest[key]) for key in ("started", "ended"))
        return (ended - started).total_seconds() / 60


@dataclass(frozen=True)
class Run:
    """A recipe's run with all its seeds.

    Attributes:
        name: How it is called beside the others.
        path: Its folder.
        recipe: The resolved recipe.
        recipe_text: The same as YAML.
        before: What was measured before training.
        seeds: Seed -> its run.
    """

    name: str
    path: Path
    recipe: dict[str, Any]
    recipe_text: str
    before: Results
    seeds: dict[int, SeedRun]

    @property
    def first(self) -> SeedRun:
        """The run of the first seed."""
        return next(iter(self.seeds.values()))

    def tables(self) -> dict[str, list[Table]]:
        """Return the tables that every seed has, one a seed."""
        return {name: [s.results.tables[name] for s in self.seeds.values()] for name in self._common("tables")}

    def geometries(self) -> list[Geometry]:
        """Return the geometry of the seeds that have one."""
        return [s.results.geometry.geometry for s in self.seeds.values() if s.results.geometry]

    def _common(self, what: str) -> list[str]:
        others = [getattr(seed.results, what).keys() for seed in self.seeds.values()]
        return [name for name in others[0] if all(name in keys for keys in others)]


def spread(values: Iterable[float]) -> tuple[float, float | None]:
    """Return mean and standard deviation (n - 1) of the seeds' values; the deviation of one is None."""
    numbers = list(values)
    return mean(numbers), stdev(numbers) if len(numbers) > 1 else None


def read_runs(folders: list[Path]) -> list[Run]:
    """Read run folders; each may have one seed or several.

    Raises:
        InputError: A folder is no run, or has a file that is not what this package writes. All problems at once.
    """
    runs, problems = [], []
    for folder, name in zip(folders, _names(folders), strict=True):
        try:
            runs.append(_read_run(folder, name))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return runs


def _names(folders: list[Path]) -> list[str]:
    """Name each by its folder, with the folders above it where that is not enough."""
    parts = [folder.resolve().parts for folder in folders]
    if len(set(parts)) < len(parts):
        raise InputError("a run cannot be compared with itself: each folder may be given once")
    depth = 1 + any(part[-1].startswith("seed-") for part in parts)  # "seed-1" alone says nothing
    while len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    return ["/".join(part[-depth:]) for part in parts]


def _read_run(path: Path, name: str) -> Run:
    folders = [path] if (path / "manifest.json").is_file() else sorted(path.glob("seed-*"), key=_seed_of)
    folders = [folder for folder in folders if (folder / "manifest.json").is_file()]
    if not folders:
        raise InputError(f"{path} is no run folder: it has neither manifest.json nor seed-*/manifest.json")
    seeds: dict[int, SeedRun] = {}
    for folder in map(RunFolder, folders):
        manifest = _read_json(folder.manifest)
        if not isinstance(manifest, dict) or not isinstance(manifest.get("seed"), int):
            raise InputError(f"{folder.manifest}: not the manifest of a run: it names no seed")
        history, results = _read_history(folder.metrics), _read_results(folder.path, False)
        seeds[manifest["seed"]] = SeedRun(folder.path, manifest, history, results)
    recipe_file = next((f / "recipe.yaml" for f in (path, *folders) if (f / "recipe.yaml").is_file()), None)
    recipe = Tree(recipe_file).value if recipe_file else {}
    text = read_text(recipe_file) if recipe_file else ""
    return Run(name, path, recipe, text, _read_results(path, True), seeds)


def _seed_of(folder: Path) -> int:
    seed = folder.name.removeprefix("seed-")
    return int(seed) if seed.isdecimal() else -1


def _read_history(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = read_text(path).splitlines()
    try:
        return [dict(json.loads(line)) for line in lines]
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: not the log of a training, one JSON object a line: {error}") from None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from None


# --- the documents of results/


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class _TaskScore(_Document):
    value: float = Field(validation_alias=AliasChoices("spearman", "accuracy", "main_score"))
    n: int | None = None
    ci95: tuple[float, float] | None = None


class _Suite(_Document):
    scale: ClassVar[float] = 1
    """What makes percent of the figures."""

    suite: str
    protocol: str
    tasks: dict[str, _TaskScore]
    average: float | None
    missing_reasons: dict[str, str] = {}
    data: str
    max_seq_length: int | None
    precision: str | None = None
    versions: dict[str, str]

    def add_to(self, results: Results) -> str:
        scores = {task: Score(self.scale * score.value, score.n, score.ci95) for task, score in self.tasks.items()}
        if self.average is not None and len(scores) > 1:
            scores["average"] = Score(self.scale * self.average)
        facts = _facts(self.data, self.max_seq_length, self.precision, self.versions)
        results.tables[self.suite] = Table(self.suite, self.protocol, scores, self.missing_reasons, facts)
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


class _TaskPairs(_Document):
    gold: list[float]
    similarities: list[float]


class _Similarities(_Document):
    suite: str
    pairs: dict[str, _TaskPairs]

    def add_to(self, results: Results) -> str:
        results.pairs[self.suite] = {
            task: PairScores(np.array(pairs.gold), np.array(pairs.similarities)) for task, pairs in self.pairs.items()
        }
        return f"similarities of {self.suite}"


class _Geometry(_Document):
    data: str
    geometry: Geometry
    neighbours: list[Neighbours]

    def add_to(self, results: Results) -> str:
        results.geometry = GeometryReport(self.data, self.geometry, self.neighbours)
        return "geometry"


_KINDS: dict[str, type[_Suite | _Mteb | _Retrieval | _OwnPairs | _Similarities | _Geometry]] = {
    "pairs": _Similarities,
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


def _read_results(folder: Path, before: bool) -> Results:
    """Read the documents of a run that were measured before training, or after it."""
    results = Results()
    seen: dict[str, Path] = {}
    for path in sorted((folder / "results").rglob("*.json")):
        if path.name.startswith(_BEFORE) != before:
            continue
        document = _read_json(path)
        kind = next((_KINDS[key] for key in _KINDS if isinstance(document, dict) and key in document), None)
        if kind is None:
            results.unknown.append(path.name)
            continue
        try:
            name = TypeAdapter(kind).validate_python(document).add_to(results)
        except ValidationError as error:
            where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
            raise InputError(f"{path}: not a result that fmicl wrote: {where}") from None
        if name in seen:
            raise InputError(f"{path} and {seen[name]} are both results of {name}: which is meant? Move one away")
        seen[name] = path
    return results
