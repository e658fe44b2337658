"""What a report is made from: the files of run folders, read and checked. Nothing is computed anew."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictInt

from fmicl_text.data.readers import read_text
from fmicl_text.data.yaml_tree import Tree
from fmicl_text.errors import InputError
from fmicl_text.evaluation.geometry import Geometry
from fmicl_text.report.results import Results, Table, read_document, read_results, validated
from fmicl_text.runs.folder import RunFolder


@dataclass(frozen=True)
class SeedRun:
    """One seed's run: its folder, its manifest, its minutes if it has ended, the trainer's log, and its results."""

    path: Path
    manifest: dict[str, Any]
    minutes: float | None
    history: list[dict[str, Any]]
    results: Results


class _Best(BaseModel):
    model_config = ConfigDict(strict=True)

    spearman: float = Field(0, alias="stsb-dev spearman")


class _Manifest(BaseModel):
    """What a report reckons with of a manifest; the rest of it is only shown."""

    seed: StrictInt
    started: AwareDatetime | None = None
    ended: AwareDatetime | None = None
    best: _Best | None = None

    @property
    def minutes(self) -> float | None:
        if self.started is None or self.ended is None:
            return None
        return (self.ended - self.started).total_seconds() / 60


class _Logged(BaseModel):
    """What a report draws of an entry of the trainer's log; any of it may be missing but the step."""

    model_config = ConfigDict(strict=True)

    step: Annotated[int, Field(ge=0, lt=2**53)]
    positive: float = 0
    negative: float = 0
    learning_rate: float = 0
    development: float = Field(0, alias="eval_stsb-dev_spearman_cosine")


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
        manifest = read_document(folder.manifest)
        checked = validated(_Manifest, folder.manifest, manifest, "the manifest of a run")
        history, results = _read_history(folder.metrics), read_results(folder.path, False)
        seeds[checked.seed] = SeedRun(folder.path, manifest, checked.minutes, history, results)
    recipe_file = next((f / "recipe.yaml" for f in (path, *folders) if (f / "recipe.yaml").is_file()), None)
    recipe = Tree(recipe_file).value if recipe_file else {}
    text = read_text(recipe_file) if recipe_file else ""
    return Run(name, path, recipe, text, read_results(path, True), seeds)


def _seed_of(folder: Path) -> int:
    seed = folder.name.removeprefix("seed-")
    return int(seed) if seed.isdecimal() else -1


def _read_history(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = read_text(path).splitlines()
    try:
        entries = [json.loads(line) for line in lines]
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not the log of a training, one JSON object a line: {error}") from None
    for number, entry in enumerate(entries, start=1):
        validated(_Logged, f"{path}:{number}", entry, "an entry of the log of a training")
    return entries
