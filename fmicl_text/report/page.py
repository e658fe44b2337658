"""The page: what each of its tables says."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

from fmicl_text import __version__
from fmicl_text.evaluation.geometry import Neighbours
from fmicl_text.report import geometry
from fmicl_text.report.cells import difference, mean_sd, number, p_value, signed_interval
from fmicl_text.report.compare import Comparison
from fmicl_text.report.facts import Rows, facts, machine, side_by_side
from fmicl_text.report.images import Photo
from fmicl_text.report.pictures import Picture
from fmicl_text.report.published import SUITE, TASKS, Figure
from fmicl_text.report.runs import Run, spread
from fmicl_text.report.suite import Suite
from fmicl_text.text import visible


@dataclass(frozen=True)
class Table:
    """A table of text: its corner, the headings after it, and name and cells of each row."""

    corner: str
    headings: list[str]
    rows: Rows


@dataclass(frozen=True)
class Chapter:
    """What stands before the runs on a page that is about more than them, such as a sweep.

    Attributes:
        title: Its heading.
        text: Its first paragraph.
        tables: Its tables.
        pictures: Its pictures.
        warnings: Reasons to read it with caution.
        notes: What else there is to know.
    """

    title: str
    text: str
    tables: list[Table]
    pictures: list[Picture]
    warnings: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Page:
    """Everything the template shows."""

    runs: list[Run]
    comparisons: list[Comparison]
    published: list[Figure]
    dimensions: list[Picture]
    training: list[Picture]
    differences: list[Picture]
    geometry: list[Picture]
    photos: list[Photo]
    chapters: list[Chapter] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Names of the runs."""
        return ", ".join(run.name for run in self.runs)

    def facts(self) -> Rows:
        """Return what was run, a column for each run."""
        return side_by_side([facts(run) for run in self.runs])

    def machines(self) -> Rows:
        """Return machines and versions, a column for each run."""
        return side_by_side([machine(run) for run in self.runs])

    def suites(self) -> list[Suite]:
        """Return the table of each suite that any run has, those of plain numbers last."""
        titles = dict.fromkeys(title for run in self.runs for title in run.results())
        return sorted((Suite(title, self.runs) for title in titles), key=lambda suite: suite.unit != "%")

    def geometry_notes(self) -> list[str]:
        """Say on what the geometry was measured, and why some of its rows are equal."""
        return [*geometry.data(self.runs), *geometry.equal_rows(self.runs)]

    def neighbours(self) -> list[tuple[Run, list[Neighbours]]]:
        """Return the neighbours that the first seed of each run has."""
        found = [(run, geometry.layout(run.first.results)) for run in self.runs]
        return [(run, layout[1].neighbours) for run, layout in found if layout and layout[1].neighbours]

    def published_rows(self) -> list[Published]:
        """Return published figures and the runs' own, best average first."""
        sources = _sources(self.published)
        rows = [Published.of(figure, sources.index((figure.source, figure.caveat)) + 1) for figure in self.published]
        rows += [Published.of_run(run) for run in self.runs if _is_complete(run)]
        return sorted(rows, key=lambda row: -row.order)

    def sources(self) -> list[str]:
        """Return source and caveat of the published figures; a row's ``note`` is the number in this list, from 1."""
        return [f"{source}: {caveat}" for source, caveat in _sources(self.published)]

    def caveats(self) -> list[str]:
        """Say why published figures cannot be compared with the runs directly."""
        general = [
            f"the published figures follow SimCSE's protocol, which is that of the suite {SUITE}",
            "they compare methods only where encoder, data, number of seeds and choice of the checkpoint are the same",
        ]
        own = [
            f"{run.name} has no complete result of {SUITE}, so it is not in the table: {_command(run, 'sts', SUITE)}"
            for run in self.runs
            if run.trained and not _is_complete(run)
        ]
        return [*general, *own]

    def gaps(self) -> list[str]:
        """Say what is not shown, and the command that would produce it."""
        return [gap for run in self.runs if run.trained for gap in _gaps(run)]


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
        seeds = [seed.results.scores(SUITE) for seed in run.seeds.values()]
        mean = {name: spread(scores[_KEYS[name]].value for scores in seeds) for name in _KEYS}
        return cls(
            run.name,
            run.base,
            "this run" if run.trained else "none",
            [number(mean[task][0]) for task in TASKS],
            mean_sd(mean["average"]),
            "",
            mean["average"][0],
            is_run=True,
        )


def render(page: Page) -> str:
    """Return the page as HTML; it has no scripts, and names and texts are escaped, marks of direction included."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fmicl_text.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.lstrip_blocks = True
    filters = {"mean_sd": mean_sd, "difference": difference, "interval": signed_interval, "p": p_value}
    environment.filters.update(filters)
    return visible(environment.get_template("report.html").render(page=page, tasks=TASKS, version=__version__))


_KEYS = {name: f"{name} Spearman" for name in (*TASKS, "average")}
"""Column of the published tables -> key of the score in a result."""


def _sources(figures: list[Figure]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((figure.source, figure.caveat) for figure in figures))


def _is_complete(run: Run) -> bool:
    """Whether every seed has all tasks; a user's suite may have the same name and other tasks."""
    return all(seed.results.scores(SUITE).keys() >= set(_KEYS.values()) for seed in run.seeds.values())


def _command(run: Run, kind: str, name: str) -> str:
    """The command that evaluates a seed's encoder and puts the result where a report finds it."""
    folder = run.first.path
    command = (
        f"fmicl eval {kind} {shlex.quote(str(folder))} --output {shlex.quote(str(folder / 'results'))}/{name}.json"
    )
    return command + (" (and the same for each seed)" if len(run.seeds) > 1 else "")


def _gaps(run: Run) -> list[str]:
    gaps = []
    if not run.results().keys() - {geometry.GEOMETRY}:
        gaps.append(f"{run.name}: no scores; name a suite in evaluate.after, or: {_command(run, 'sts', SUITE)}")
    if geometry.GEOMETRY not in run.results():
        command = _command(run, "geometry", geometry.GEOMETRY)
        gaps.append(f"{run.name}: no geometry; name `geometry` in evaluate.after, or: {command}")
    unknown = dict.fromkeys(name for seed in run.seeds.values() for name in seed.results.unknown)
    if unknown:
        gaps.append(f"{run.name}: files in results/ that are not results are not shown: {', '.join(unknown)}")
    return gaps
