"""The table of one kind of result: a column for each run, a row for each score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fmicl_text.evaluation.results import Result, Score
from fmicl_text.report.cells import mean_sd, scored
from fmicl_text.report.facts import Rows
from fmicl_text.report.results import labels
from fmicl_text.report.runs import Run, spread


@dataclass(frozen=True)
class Suite:
    """The scores of all runs on one suite.

    Attributes:
        title: Of the results.
        runs: All runs of the page.
    """

    title: str
    runs: list[Run]

    @property
    def protocol(self) -> str:
        """What is scored."""
        return self._all()[0].protocol

    @property
    def unit(self) -> str:
        """Unit of the score that stands for the whole."""
        return next((score.unit for result in self._all() for score in result.scores), "")

    @property
    def columns(self) -> list[str]:
        """Headings: each run that has scores, with a column before it if there are scores from before training."""
        return [
            heading
            for run in self._having()
            for heading in ([f"{run.name}, before", run.name] if self._begun(run) else [run.name])
        ]

    @property
    def heading(self) -> str:
        """What the scores have in common."""
        return labels(self._scores().values())[0]

    @property
    def rows(self) -> Rows:
        """A row for each score."""
        _, names = labels(self._scores().values())
        return [(names[key], [cell for run in self._having() for cell in self._cells(run, key)]) for key in names]

    @property
    def notes(self) -> list[str]:
        """Missing tasks, and what else differs between runs whose figures stand side by side."""
        results = self._all()
        notes = [f"{task} is missing: {why}" for result in results for task, why in result.missing.items()]
        notes += [
            f"{score.key} has no interval: {score.no_interval}"
            for result in results
            for score in result.scores
            if score.no_interval
        ]
        for key in self._scores():
            numbers = dict.fromkeys(
                s.n for result in results for s in result.scores if s.key == key and s.n is not None
            )
            if len(numbers) > 1:
                notes.append(f"not measured alike: {key} is of {' and '.join(f'{n:,}' for n in numbers)} items")
        facts = [_facts(result) for result in results]
        for name in dict.fromkeys(name for of_result in facts for name in of_result):
            values = dict.fromkeys(of_result.get(name, "unknown") for of_result in facts)
            if len(values) > 1:
                notes.append(f"not measured alike: {name} was {' and '.join(values)}")
        return list(dict.fromkeys(notes))

    def _having(self) -> list[Run]:
        return [run for run in self.runs if self.title in run.results()]

    def _all(self) -> list[Result]:
        return [result for run in self._having() for result in run.results()[self.title]]

    def _scores(self) -> dict[str, Score]:
        return {score.key: score for result in self._all() for score in result.scores}

    def _begun(self, run: Run) -> bool:
        return self.title in run.before.by_title

    def _cells(self, run: Run, key: str) -> Iterator[str]:
        if self._begun(run):
            yield scored(run.before.scores(self.title).get(key))
        seeds = [seed.results.scores(self.title).get(key) for seed in run.seeds.values()]
        found = [score for score in seeds if score is not None]
        if len(seeds) == 1 or not found:
            yield scored(seeds[0])
        elif len(found) < len(seeds):
            yield f"{len(found)} of {len(seeds)} seeds"
        else:
            yield mean_sd(spread(score.value for score in found), found[0].unit)


def _facts(result: Result) -> dict[str, str]:
    known: dict[str, Any] = {"protocol": result.protocol, "data": result.data, **result.facts, **result.versions}
    return {name.replace("_", " "): str(value) for name, value in known.items() if value is not None}
