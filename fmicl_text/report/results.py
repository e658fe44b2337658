"""The results of a run, as their evaluations wrote them. Nothing is computed anew."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fmicl_text.errors import InputError
from fmicl_text.evaluation.items import Parts, items_file, read_items
from fmicl_text.evaluation.results import ForeignDocument, Result, Score, read_result

_BEFORE = "before-"


@dataclass
class Results:
    """All that one ``results`` folder holds.

    Attributes:
        by_title: Title -> result.
        files: Title -> the file of the result.
        items: Title -> :attr:`Score.key` -> what each item scored.
        unknown: Names of files that hold something else.
    """

    by_title: dict[str, Result] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    items: dict[str, dict[str, Parts]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def scores(self, title: str) -> dict[str, Score]:
        """Return the scores of a result by key; none if it is not there."""
        return {score.key: score for score in self.by_title[title].scores} if title in self.by_title else {}


def title(result: Result) -> str:
    """Return what a result is called beside others: its name, with the kind if the name does not say it."""
    return result.name if result.name.startswith(result.kind) else f"{result.name} ({result.kind})"


def labels(scores: Iterable[Score]) -> tuple[str, dict[str, str]]:
    """Return a heading for scores, and key -> label: what they have in common is in the heading alone."""
    known = {score.key: score for score in scores}
    metrics, names = {score.metric for score in known.values()}, {score.name for score in known.values()}
    if len(metrics) == 1:
        return metrics.pop(), {key: score.name for key, score in known.items()}
    if len(names) == 1:
        return names.pop(), {key: score.metric for key, score in known.items()}
    return "score", {key: key for key in known}


def read_results(folder: Path, before: bool) -> Results:
    """Read the results of a run that were measured before training, or after it.

    Raises:
        InputError: A file is damaged, or two are results of the same evaluation.
    """
    results = Results()
    paths = [path for path in sorted((folder / "results").rglob("*.json")) if path.name.startswith(_BEFORE) == before]
    items = {items_file(path) for path in paths}
    for path in paths:
        if path in items:
            continue
        try:
            result = read_result(path)
        except ForeignDocument:
            results.unknown.append(path.name)
            continue
        name = title(result)
        if name in results.files:
            other = results.files[name]
            raise InputError(f"{path} and {other} are both results of {name}: which is meant? Move one away")
        results.files[name] = path
        results.by_title[name] = result
        results.items[name] = read_items(path, result)
    return results
