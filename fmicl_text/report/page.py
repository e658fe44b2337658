"""The page: what each of its tables says."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from fmicl_text import __version__
from fmicl_text.report.cells import mean_sd, measured, p_value, points, signed_interval
from fmicl_text.report.compare import Comparison
from fmicl_text.report.facts import Rows, facts, machine, section, side_by_side
from fmicl_text.report.pictures import Picture
from fmicl_text.report.published import SUITE, TASKS, Figure
from fmicl_text.report.results import GeometryReport
from fmicl_text.report.runs import Run, spread
from fmicl_text.report.suite import Suite
from fmicl_text.text import visible


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
        return side_by_side([facts(run) for run in self.runs])

    def machines(self) -> Rows:
        """Say with what, and on what."""
        return side_by_side([machine(run) for run in self.runs])

    def suites(self) -> list[Suite]:
        """Return the table of each suite that any run has."""
        tables = [run.tables() for run in self.runs]
        return [Suite(name, self.runs, tables) for name in dict.fromkeys(name for table in tables for name in table)]

    def geometry_rows(self) -> Rows:
        """Return mean and deviation of every measure over the seeds; one seed has its interval instead."""
        found = [run.geometries() for run in self.runs]
        rows = [
            (name, [measured([measure(of_seed) for of_seed in of_run]) for of_run in found])
            for name, measure in _MEASURES.items()
        ]
        bounds = dict.fromkeys(name for of_run in found for seed in of_run for name in seed.mutual_information)
        rows += [
            (
                f"f-MI lower bound, {name}",
                [measured([g.mutual_information.get(name) for g in of_run]) for of_run in found],
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
            str(section(run, "model").get("base", "")),
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
    filters = {"mean_sd": mean_sd, "points": points, "interval": signed_interval, "p": p_value}
    environment.filters.update(filters)
    return visible(environment.get_template("report.html").render(page=page, tasks=TASKS, version=__version__))


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


def _sources(figures: list[Figure]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((figure.source, figure.caveat) for figure in figures))


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
