"""What a report is made from: the files of run folders, read and checked. Nothing is computed anew."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fmicl_text.data.readers import read_text
from fmicl_text.data.yaml_tree import Tree
from fmicl_text.errors import InputError
from fmicl_text.evaluation.results import Result
from fmicl_text.report.results import Results, read_results
from fmicl_text.runs.folder import RunFolder
from fmicl_text.runs.manifest import Manifest, read_manifest


@dataclass(frozen=True)
class SeedRun:
    """One seed's run: its folder, its manifest, the trainer's log, and its results. An untrained model has no log."""

    path: Path
    manifest: Manifest | None
    history: list[dict[str, Any]]
    results: Results


class _Logged(BaseModel):
    """The part of an entry of the trainer's log that a report draws; only the step is required."""

    model_config = ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[str, Any] = Field(init=False)

    step: Annotated[int, Field(ge=0, lt=2**53)]
    positive: float = 0
    negative: float = 0
    learning_rate: float = 0


@dataclass(frozen=True)
class Run:
    """A recipe's run with all its seeds; or a model that was not trained.

    Attributes:
        name: What it is called beside the others.
        path: Its folder.
        recipe: The resolved recipe.
        recipe_text: The same as YAML.
        before: What was measured before training.
        seeds: Seed -> its run; a model that was not trained has one, under ``None``.
    """

    name: str
    path: Path
    recipe: dict[str, Any]
    recipe_text: str
    before: Results
    seeds: dict[int | None, SeedRun]

    @property
    def trained(self) -> bool:
        """Whether it is a run, and not a model as it was before any training."""
        return None not in self.seeds

    @property
    def base(self) -> str:
        """The model that training started from, as the recipe names it."""
        return str(self.section("model").get("base", ""))

    @property
    def first(self) -> SeedRun:
        """The run of the first seed."""
        return next(iter(self.seeds.values()))

    def section(self, name: str) -> dict[str, Any]:
        """Return a section of the recipe, empty if it has none."""
        section = self.recipe.get(name)
        return section if isinstance(section, dict) else {}

    def results(self) -> dict[str, list[Result]]:
        """Return the results that every seed has, one a seed, by title."""
        seeds = [seed.results.by_title for seed in self.seeds.values()]
        return {title: [s[title] for s in seeds] for title in seeds[0] if all(title in seed for seed in seeds)}

    def begun(self) -> Run | None:
        """Return the model that training started from, if anything was measured of it."""
        if not self.before.by_title:
            return None
        return untrained(f"{self.name}, before", self.base, self.path, self.before)


def untrained(name: str, base: str, path: Path, results: Results) -> Run:
    """Return a model that was not trained, to stand beside runs.

    Args:
        name: What it is called beside the runs.
        base: Its folder, Hub id or ``sample:`` name.
        path: The folder with its results.
        results: What was measured of it.
    """
    seeds: dict[int | None, SeedRun] = {None: SeedRun(path, None, [], results)}
    return Run(name, path, {"model": {"base": base}}, "", Results(), seeds)


def spread(values: Iterable[float]) -> tuple[float, float | None]:
    """Return mean and standard deviation (n - 1) of the seeds' values; the deviation of one is None."""
    numbers = list(values)
    return mean(numbers), stdev(numbers) if len(numbers) > 1 else None


def read_runs(folders: list[Path], seeds: Container[int] | None = None) -> list[Run]:
    """Read run folders; each may have one seed or several.

    Args:
        folders: The folders.
        seeds: Which of several seeds to read; default all.

    Raises:
        InputError: A folder is no run, or has a file that is not what this package writes. All problems at once.
    """
    runs, problems = [], []
    for folder, name in zip(folders, _names(folders), strict=True):
        try:
            runs.append(_read_run(folder, name, seeds))
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


def _read_run(path: Path, name: str, wanted: Container[int] | None) -> Run:
    folders = [path] if (path / "manifest.json").is_file() else sorted(path.glob("seed-*"), key=_seed_of)
    folders = [folder for folder in folders if wanted is None or folder is path or _seed_of(folder) in wanted]
    folders = [folder for folder in folders if (folder / "manifest.json").is_file()]
    if not folders:
        raise InputError(f"{path} is no run folder: it has neither manifest.json nor seed-*/manifest.json")
    seeds: dict[int | None, SeedRun] = {}
    for folder in map(RunFolder, folders):
        _, manifest = read_manifest(folder.manifest)
        history = _read_history(folder.metrics, manifest.criterion)
        seeds[manifest.seed] = SeedRun(folder.path, manifest, history, read_results(folder.path, before=False))
    recipe_file = next((f / "recipe.yaml" for f in (path, *folders) if (f / "recipe.yaml").is_file()), None)
    recipe = Tree(recipe_file).value if recipe_file else {}
    text = read_text(recipe_file) if recipe_file else ""
    return Run(name, path, recipe, text, read_results(path, before=True), seeds)


def _seed_of(folder: Path) -> int:
    seed = folder.name.removeprefix("seed-")
    return int(seed) if seed.isdecimal() else -1


def _read_history(path: Path, criterion: str) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = read_text(path).splitlines()
    try:
        entries = [json.loads(line) for line in lines]
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not the log of a training, one JSON object a line: {error}") from None
    for number, entry in enumerate(entries, start=1):
        try:
            logged = _Logged.model_validate(entry)
        except ValidationError as error:
            first = error.errors()[0]
            where = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
            raise InputError(f"{path}:{number}: not an entry of the log of a training: {where}") from None
        score = logged.__pydantic_extra__.get(f"eval_{criterion}", 0.0)
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise InputError(f"{path}:{number}: not an entry of the log of a training: eval_{criterion}: not a number")
    return entries
