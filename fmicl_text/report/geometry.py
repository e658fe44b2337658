"""What only the geometry of embeddings has on a page: pictures, neighbours, and why some of its rows are equal."""

from __future__ import annotations

from fmicl_text.evaluation.geometry import Geometry, Layout
from fmicl_text.evaluation.results import Result, checked
from fmicl_text.report.cells import number
from fmicl_text.report.results import Results
from fmicl_text.report.runs import Run

GEOMETRY = "geometry"


def layout(results: Results) -> tuple[Result, Layout] | None:
    """Return the result of a geometry and its details; ``None`` if it was not measured.

    Raises:
        InputError: The details are not those of a geometry.
    """
    result = results.by_title.get(GEOMETRY)
    if result is None:
        return None
    return result, checked(Layout, result.details, f"{results.files[GEOMETRY]}: details")


def geometries(run: Run) -> list[Geometry]:
    """Return the geometry of the seeds that have one."""
    return [found[1].geometry for seed in run.seeds.values() if (found := layout(seed.results))]


def data(runs: list[Run]) -> list[str]:
    """Say on what the geometry of each run was measured."""
    by_data: dict[str, list[str]] = {}
    for run in runs:
        if found := layout(run.first.results):
            result, geometry = found[0], found[1].geometry
            counted = f"{geometry.sentences:,} sentences and {geometry.positives:,} positive pairs, in "
            counted += f"{geometry.dimensions:,} dimensions"
            by_data.setdefault(f"{counted}; data: {result.data or 'unknown'}", []).append(run.name)
    return [f"{', '.join(names)}: {measured}" for measured, names in by_data.items()]


def equal_rows(runs: list[Run]) -> list[str]:
    """Explain rows of the table that show the same figures in every column."""
    found = [geometry for run in runs for geometry in geometries(run)]
    if not found:
        return []
    notes = []
    if all({"pearson", "tsallis"} <= geometry.mutual_information.keys() for geometry in found):
        bounds = [geometry.mutual_information for geometry in found]
        if all(_written(of["pearson"].value) == _written(of["tsallis"].value) for of in bounds):
            notes.append("Pearson's and Tsallis's bounds are equal: of order 2, Tsallis's divergence is Pearson's.")
    if all(_written(g.wasserstein_uniformity) == _written(g.anisotropy.value) for g in found):
        notes.append(
            "Wasserstein uniformity and anisotropy are equal: both are the mean cosine, as all cosines lie above those "
            "of points spread evenly."
        )
    return notes


def _written(value: float) -> str:
    return number(value, unit="")
