"""The table of a suite: a column a run, a row a score."""

from __future__ import annotations

from dataclasses import dataclass

from fmicl_text.report.cells import mean_sd, scored
from fmicl_text.report.facts import Rows
from fmicl_text.report.results import Table
from fmicl_text.report.runs import Run, spread


@dataclass(frozen=True)
class Suite:
    """The scores of all runs on one suite.

    Attributes:
        name: Of the suite.
        runs: All runs of the page.
        tables: Of each run, suite -> its table for each seed.
    """

    name: str
    runs: list[Run]
    tables: list[dict[str, list[Table]]]

    @property
    def protocol(self) -> str:
        """What is scored."""
        return self._all()[0].protocol

    @property
    def columns(self) -> list[str]:
        """Headings: each run that has scores, with a column before it if there are scores from before training."""
        return [
            heading
            for run, _ in self._having()
            for heading in ([f"{run.name}, before"] * self._begun(run) + [run.name])
        ]

    @property
    def rows(self) -> Rows:
        """A row a score."""
        names = dict.fromkeys(name for table in self._all() for name in table.scores)
        return [
            (name, [cell for run, tables in self._having() for cell in self._cells(run, tables, name)])
            for name in names
        ]

    @property
    def notes(self) -> list[str]:
        """Missing tasks, and what else differs between runs whose figures stand side by side."""
        notes = [f"{task} is missing: {why}" for table in self._all() for task, why in table.missing.items()]
        notes += [f"{task} has no interval: {why}" for table in self._all() for task, why in table.no_interval.items()]
        facts = [{"protocol": table.protocol, **table.facts} for table in self._all()]
        for name in dict.fromkeys(name for of_table in facts for name in of_table):
            values = dict.fromkeys(of_table.get(name, "unknown") for of_table in facts)
            if len(values) > 1:
                notes.append(f"not measured alike: {name} was {' and '.join(values)}")
        return list(dict.fromkeys(notes))

    def _having(self) -> list[tuple[Run, list[Table]]]:
        return [
            (run, of_run[self.name]) for run, of_run in zip(self.runs, self.tables, strict=True) if self.name in of_run
        ]

    def _all(self) -> list[Table]:
        return [table for _, tables in self._having() for table in tables]

    def _begun(self, run: Run) -> bool:
        return self.name in run.before.tables

    def _cells(self, run: Run, tables: list[Table], name: str) -> list[str]:
        before = [scored(run.before.tables[self.name], name)] if self._begun(run) else []
        if len(tables) == 1:
            return [*before, scored(tables[0], name)]
        if not all(name in of_seed.scores for of_seed in tables):
            return [*before, ""]
        return [*before, mean_sd(spread(of_seed.scores[name].value for of_seed in tables))]
