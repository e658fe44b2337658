"""The pictures of a report."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from fmicl_text.evaluation.results import Result
from fmicl_text.report.compare import Comparison
from fmicl_text.report.geometry import geometries, layout
from fmicl_text.report.runs import Run
from fmicl_text.runs import plots


@dataclass(frozen=True)
class Picture:
    """A picture: the stem of its file name, its description, and the function that draws it."""

    name: str
    text: str
    draw: plots.Draw

    @property
    def light(self) -> str:
        """The picture for a light page, as a data URI."""
        return self._uri("light")

    @property
    def dark(self) -> str:
        """The picture for a dark page, as a data URI."""
        return self._uri("dark")

    def _uri(self, theme: plots.Theme) -> str:
        return "data:image/svg+xml;base64," + base64.b64encode(plots.svg(self.draw, theme).encode()).decode()


def training_pictures(runs: list[Run]) -> Iterator[Picture]:
    """Yield both loss terms, learning rate and development score over the steps, all runs in one picture."""
    curves: dict[str, dict[str, list[plots.Curve]]] = {}
    for run in runs:
        for seed in run.seeds.values():
            criterion = seed.manifest.criterion if seed.manifest else None
            for title, curve in plots.training_curves(seed.history, criterion).items():
                curves.setdefault(title, {}).setdefault(run.name, []).append(curve)
    for title, by_run in curves.items():
        name = title.partition(":")[0].lower().replace(" of the loss", "").replace(" ", "-")
        yield Picture(
            name, f"{title}, over the steps of training", partial(plots.draw_curves, title=title, curves=by_run)
        )


def comparison_pictures(comparisons: list[Comparison]) -> Iterator[Picture]:
    """Yield the differences of each comparison that has some in points; plain numbers are not on one scale."""
    drawn = [comparison for comparison in comparisons if any(row.unit == "%" for row in comparison.rows)]
    for number, comparison in enumerate(drawn, 1):
        rows = {row.score: (row.difference, row.ci95, row.verdict) for row in comparison.rows if row.unit == "%"}
        title = f"{comparison.suite}: {comparison.run} minus {comparison.other}"
        yield Picture(
            f"difference-{number}", f"differences, {title}", partial(plots.draw_differences, title=title, rows=rows)
        )


def dimension_pictures(runs: list[Run]) -> Iterator[Picture]:
    """Yield the score that stands for each kind of result over the dimensions it was measured at, all runs in one."""
    curves: dict[str, dict[str, list[plots.Curve]]] = {}
    for run in runs:
        for name, results in run.results().items():
            for result in results:
                if (curve := score_by_dimensions(result)) is not None:
                    title = f"{name}: {result.scores[0].key}"
                    curves.setdefault(title, {}).setdefault(run.name, []).append(curve)
    for number, (title, by_run) in enumerate(curves.items(), 1):
        yield Picture(
            f"dimensions-{number}",
            f"{title}, over the number of dimensions",
            partial(plots.draw_by_dimensions, title=title, curves=by_run),
        )


def score_by_dimensions(result: Result) -> plots.Curve | None:
    """Return numbers of dimensions, fewest first, and a result's first score at each; None if there is but one."""
    own = result.facts.get("dimensions")
    if not result.scores or not isinstance(own, int):
        return None
    whole, *others = result.scores
    points = {own: whole.value}
    for score in others:
        if score.dimensions is not None and score.key == whole.at(score.dimensions).key:
            points[score.dimensions] = score.value
    return (sorted(points), [points[dim] for dim in sorted(points)]) if len(points) > 1 else None


def geometry_pictures(runs: list[Run]) -> Iterator[Picture]:
    """Yield cosines and density ratio of each run's first seed, then the alignment-uniformity plane of all."""
    measured = {run.name: found for run in runs if (found := geometries(run))}
    points = {name: [(g.uniformity.value, g.alignment.value) for g in found] for name, found in measured.items()}
    begun = {run.name: before[1].geometry for run in runs if (before := layout(run.before))}
    start = {name: (g.uniformity.value, g.alignment.value) for name, g in begun.items()}
    several = len(points) > 1
    for number, run in enumerate(runs, 1):
        if run.name not in measured:
            continue
        first = measured[run.name][0]
        suffix, called = (f"-{number}", run.name) if several else ("", "")
        yield Picture(
            f"cosines{suffix}",
            f"cosines of positive, hard and random pairs, {run.name}",
            partial(plots.draw_histograms, geometry=first, name=called),
        )
        yield Picture(
            f"density-ratio{suffix}",
            f"density ratio of positive to random pairs over squared distance, {run.name}",
            partial(plots.draw_density_ratio, geometry=first, name=called),
        )
    if points:
        yield Picture("plane", "alignment against uniformity", partial(plots.draw_plane, points=points, start=start))
