"""The page: what each of its tables says, and how figures are written."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fmicl_text import __version__
from fmicl_text.evaluation.geometry import Estimate
from fmicl_text.report.compare import Comparison
from fmicl_text.report.pictures import Picture
from fmicl_text.report.published import SUITE, TASKS, Figure
from fmicl_text.report.results import GeometryReport, Table
from fmicl_text.report.runs import Run, spread
from fmicl_text.terminal import visible

Rows = list[tuple[str, list[str]]]
"""Heading of a row, and a cell for each run."""


@dataclass(frozen=True)
class Page:
    """All that the template shows."""

    runs: list[Run]
    comparisons: list[Comparison]
    published: list[Figure]
    training: list[Picture]
    differences: list[Picture]
    geometry: list[Picture]

    @property
    def title(self) -> str:
        """Names of the runs."""
        return ", ".join(run.name for run in self.runs)

    def facts(self) -> Rows:
        """Say what was run."""
        return _side_by_side([_facts(run) for run in self.runs])

    def machines(self) -> Rows:
        """Say with what, and on what."""
        return _side_by_side([_machine(run) for run in self.runs])

    def suites(self) -> list[Suite]:
        """Return the table of each suite that any run has."""
        tables = [run.tables() for run in self.runs]
        return [Suite(name, self.runs, tables) for name in dict.fromkeys(name for table in tables for name in table)]

    def geometry_rows(self) -> Rows:
        """Return mean and deviation of every measure over the seeds; one seed has its interval instead."""
        found = [run.geometries() for run in self.runs]
        rows = [
            (name, [_measure([measure(of_seed) for of_seed in of_run]) for of_run in found])
            for name, measure in _MEASURES.items()
        ]
        bounds = dict.fromkeys(name for of_run in found for seed in of_run for name in seed.mutual_information)
        rows += [
            (
                f"f-MI lower bound, {name}",
                [_measure([g.mutual_information.get(name) for g in of_run]) for of_run in found],
            )
            for name in bounds
        ]
        return rows if any(found) else []

    def geometry_data(self) -> list[str]:
        """Say on what the geometry was measured."""
        by_data: dict[str, list[str]] = {}
        for run, found in self.neighbours():
            counted = f"{found.geometry.sentences:,} sentences and {found.geometry.positives:,} positive pairs"
            by_data.setdefault(f"{counted} of {found.data}", []).append(run.name)
        return [f"{', '.join(names)}: {data}" for data, names in by_data.items()]

    def neighbours(self) -> list[tuple[Run, GeometryReport]]:
        """Return the geometry of the first seed of each run that has one."""
        return [(run, run.first.results.geometry) for run in self.runs if run.first.results.geometry]

    def published_rows(self) -> list[Published]:
        """Return published figures and the runs' own in falling order of the average."""
        sources = _sources(self.published)
        rows = [Published.of(figure, sources.index((figure.source, figure.caveat)) + 1) for figure in self.published]
        rows += [Published.of_run(run) for run in self.runs if _is_complete(run)]
        return sorted(rows, key=lambda row: -row.order)

    def sources(self) -> list[str]:
        """Return where the published figures are from, and what to know of each; a row's ``note`` counts from 1."""
        return [f"{source}: {caveat}" for source, caveat in _sources(self.published)]

    def caveats(self) -> list[str]:
        """Say what keeps the published figures from being compared with the runs."""
        general = [
            f"the published figures follow SimCSE's protocol, which is that of the suite {SUITE}",
            "they compare methods only where encoder, data, number of seeds and choice of the checkpoint are the same",
        ]
        own = [
            f"{run.name} has no complete result of {SUITE}, so it is not in the table: {_command(run, 'sts', SUITE)}"
            for run in self.runs
            if not _is_complete(run)
        ]
        return [*general, *own]

    def gaps(self) -> list[str]:
        """Say what is not shown, and the command that would make it."""
        return [gap for run in self.runs for gap in _gaps(run)]


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
        before = [table(run.before.tables[self.name], name)] if self._begun(run) else []
        if len(tables) == 1:
            return [*before, table(tables[0], name)]
        if not all(name in of_seed.scores for of_seed in tables):
            return [*before, ""]
        return [*before, mean_sd(spread(of_seed.scores[name].value for of_seed in tables))]


@dataclass(frozen=True)
class Published:
    """A row of the table of published figures, as text."""

    method: str
    encoder: str
    training: str
    tasks: list[str]
    average: str
    note: str
    order: float
    is_run: bool

    @classmethod
    def of(cls, figure: Figure, note: int) -> Published:
        """Write a published figure; ``note`` is the number of its source."""
        tasks = [f"{figure.tasks[task]:.2f}" if task in figure.tasks else "" for task in TASKS]
        average = mean_sd((figure.average, figure.sd))
        return cls(
            figure.method, figure.encoder, figure.training, tasks, average, str(note), figure.average, is_run=False
        )

    @classmethod
    def of_run(cls, run: Run) -> Published:
        """Write a run's own figures, mean over its seeds."""
        tables = run.tables()[SUITE]
        mean = {name: spread(of_seed.scores[name].value for of_seed in tables) for name in (*TASKS, "average")}
        return cls(
            run.name,
            str(_section(run, "model").get("base", "")),
            "this run",
            [f"{mean[task][0]:.2f}" for task in TASKS],
            mean_sd(mean["average"]),
            "",
            mean["average"][0],
            is_run=True,
        )


def render(page: Page) -> str:
    """Return the page as HTML. Names and texts are escaped, none turns the order of others, and nothing is run."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fmicl_text.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.lstrip_blocks = True
    filters = {"mean_sd": mean_sd, "points": _points, "interval": _signed_interval, "p": _p_value}
    environment.filters.update(filters)
    return visible(environment.get_template("report.html").render(page=page, tasks=TASKS, version=__version__))


def mean_sd(found: tuple[float, float | None]) -> str:
    """Write a mean with its deviation, if there is one."""
    mean, sd = found
    return f"{mean:.2f}" + (f" ± {sd:.2f}".replace(" ", "\N{NO-BREAK SPACE}") if sd is not None else "")


def table(of_seed: Table, name: str) -> str:
    """Write a score with its interval."""
    score = of_seed.scores.get(name)
    if score is None:
        return ""
    return f"{score.value:.2f}" + (f" ({_interval(score.ci95)})" if score.ci95 else "")


_MEASURES = {
    "alignment": lambda g: g.alignment,
    "uniformity": lambda g: g.uniformity,
    "Wasserstein uniformity": lambda g: g.wasserstein_uniformity,
    "effective rank": lambda g: g.effective_rank,
    "dimensions": lambda g: float(g.dimensions),
    "anisotropy": lambda g: g.anisotropy,
    "hubness": lambda g: g.hubness,
    "sigma of the density ratio": lambda g: g.density_ratio and g.density_ratio.sigma,
    "its misfit, nats": lambda g: g.density_ratio and g.density_ratio.misfit,
}
"""Name -> what it is of a :class:`Geometry`."""


def _measure(of_seeds: list[Estimate | float | None]) -> str:
    values = [found.value if isinstance(found, Estimate) else found for found in of_seeds if found is not None]
    if not values:
        return "none" if of_seeds else ""
    if len(of_seeds) == 1 and isinstance(of_seeds[0], Estimate):
        return f"{values[0]:.4g} ({_interval(of_seeds[0].ci95, '.4g')})"
    mean, sd = spread(values)
    return f"{mean:.4g}" + (f" ± {sd:.2g}" if sd else "")


def _sources(figures: list[Figure]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((figure.source, figure.caveat) for figure in figures))


def _points(difference: float) -> str:
    return f"{difference:+.2f}"


def _signed_interval(interval: tuple[float, float] | None) -> str:
    return _interval(interval, "+.2f")


def _interval(interval: tuple[float, float] | None, digits: str = ".2f") -> str:
    """Write an interval, unbreakable: a line that is too long breaks before it."""
    return f"{interval[0]:{digits}} to {interval[1]:{digits}}".replace(" ", "\N{NO-BREAK SPACE}") if interval else ""


def _p_value(p: float | None) -> str:
    return "" if p is None else f"{p:.3f}"


def _section(run: Run, name: str) -> dict[str, Any]:
    section = run.recipe.get(name)
    return section if isinstance(section, dict) else {}


def _facts(run: Run) -> dict[str, str]:
    """What was run; a row without a value is left out."""
    manifest, model, data, train = run.first.manifest, *(_section(run, key) for key in ("model", "data", "train"))
    facts = {
        "state": ", ".join(dict.fromkeys(str(seed.manifest.get("state", "")) for seed in run.seeds.values())),
        "encoder": model.get("base"),
        "pooling, tokens, head": _joined(model.get(key) for key in ("pooling", "max_seq_length", "head")),
        "data": data.get("train"),
        "rows": data.get("rows"),
        "views": data.get("views"),
        "loss": _plain(_section(run, "loss")),
        "training": _plain(train),
        "steps": manifest.get("steps"),
        "seeds": _joined(run.seeds),
        "best STS-B dev": _joined(_best(seed.manifest.get("best")) for seed in run.seeds.values()),
        "device": _joined([manifest.get("device"), manifest.get("precision")]),
        "minutes": _joined(f"{seed.minutes:.1f}" for seed in run.seeds.values() if seed.minutes is not None),
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def _machine(run: Run) -> dict[str, str]:
    manifest = run.first.manifest
    versions = manifest.get("versions")
    facts = {
        "machine": manifest.get("platform"),
        "threads": manifest.get("threads"),
        **(versions if isinstance(versions, dict) else {}),
    }
    return {name: str(value) for name, value in facts.items() if value is not None}


def _side_by_side(columns: list[dict[str, str]]) -> Rows:
    names = dict.fromkeys(name for column in columns for name in column)
    return [(name, [column.get(name, "") for column in columns]) for name in names]


def _best(best: Any) -> str | None:
    if not isinstance(best, dict) or "stsb-dev spearman" not in best:
        return None
    return f"{best['stsb-dev spearman']:.2f} at step {best.get('step')}"


def _plain(section: Any) -> str:
    """Write a mapping as ``key value, key value``."""
    if not isinstance(section, dict):
        return str(section)
    return ", ".join(f"{key} {v if isinstance(v, str) else json.dumps(v)}" for key, v in section.items())


def _joined(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in values if value is not None)


def _is_complete(run: Run) -> bool:
    """Whether every seed has all tasks; a suite of the user's own may have the name and other tasks."""
    return SUITE in run.tables() and all({*TASKS, "average"} <= t.scores.keys() for t in run.tables()[SUITE])


def _command(run: Run, kind: str, name: str) -> str:
    """The command that evaluates a seed's encoder and puts the result where a report finds it."""
    folder = run.first.path
    command = (
        f"fmicl eval {kind} {shlex.quote(str(folder))} --output {shlex.quote(str(folder / 'results'))}/{name}.json"
    )
    return command + (" (and so for each seed)" if len(run.seeds) > 1 else "")


def _gaps(run: Run) -> list[str]:
    gaps = []
    if not run.tables():
        gaps.append(f"{run.name}: no scores; name a suite in evaluate.after, or: {_command(run, 'sts', SUITE)}")
    if not run.geometries():
        gaps.append(
            f"{run.name}: no geometry; name `geometry` in evaluate.after, or: {_command(run, 'geometry', 'geometry')}"
        )
    unknown = dict.fromkeys(name for seed in run.seeds.values() for name in seed.results.unknown)
    if unknown:
        gaps.append(f"{run.name}: results of another kind are not shown: {', '.join(unknown)}")
    return gaps
