"""Runs on one page: a self-contained HTML file, and the same pictures as PNG.

Scores, intervals and pictures of the geometry come from the runs' ``results/*.json`` alone; what was run and how the
training went, from ``recipe.yaml``, ``manifest.json`` and ``metrics.jsonl``. No encoder is loaded, but for a base model
that was not measured yet. Modules here import ``runs`` and what is below, not ``training``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fmicl_text.errors import InputError
from fmicl_text.files import write_text
from fmicl_text.report.base import read_base
from fmicl_text.report.compare import Comparison, compare
from fmicl_text.report.geometry import layout
from fmicl_text.report.images import photos
from fmicl_text.report.page import Page, render
from fmicl_text.report.pictures import comparison_pictures, dimension_pictures, geometry_pictures, training_pictures
from fmicl_text.report.published import Figure, load_published
from fmicl_text.report.runs import Run, read_runs
from fmicl_text.runs.plots import save_png


@dataclass(frozen=True)
class Report:
    """What a report says.

    Attributes:
        runs: Base models that were asked for, then the runs.
        comparisons: Each with the first of them, then each run with the model it started from.
        published: Published figures.
    """

    runs: list[Run]
    comparisons: list[Comparison]
    published: list[Figure]


def read_report(
    folders: Sequence[Path],
    published: Sequence[str] = (),
    bases: Sequence[str] = (),
    output: Path | None = None,
    show_progress: bool = False,
) -> Report:
    """Read runs, and compare each with the first and with the model it started from, if that was measured.

    Args:
        folders: Run folders, of one seed or several.
        published: Names of published tables to set beside them.
        bases: Models to set before the runs, which are then compared with the first of them; see
            :func:`fmicl_text.report.base.read_base`.
        output: Where results of base models are kept; default the first run.
        show_progress: Draw progress bars on standard error while a base model is measured.

    Raises:
        InputError: A folder is no run, a file in it is broken, a table is unknown, or a base model cannot be measured.
    """
    figures = [figure for name in published for figure in load_published(name)]
    runs = read_runs(list(folders))
    measured = [read_base(name, runs, output or folders[0], show_progress) for name in dict.fromkeys(bases)]
    subjects = [*measured, *runs]
    for results in (of for run in subjects for of in (run.before, *(seed.results for seed in run.seeds.values()))):
        layout(results)  # what is wrong with it is found before anything is written
    pairs = [(subject, subjects[0]) for subject in subjects[1:]]
    compared = bases[0] if bases else None  # with it every run is compared already
    pairs += [(run, begun) for run in runs if run.base != compared and (begun := run.begun())]
    return Report(subjects, [comparison for run, other in pairs for comparison in compare(run, other)], figures)


def check_place(folder: Path, overwrite: bool) -> None:
    """Raise an InputError if a report may not be written to a folder; links there are replaced, never followed."""
    path = folder / "report.html"
    if (path.exists() or path.is_symlink()) and not overwrite:
        raise InputError(f"{path} already exists; --overwrite replaces it, --output FOLDER puts it elsewhere")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; the report needs a folder")


def write_report(report: Report, folder: Path, overwrite: bool = False) -> Path:
    """Write ``report.html`` and ``report-*.png`` into a folder.

    Returns:
        The page.

    Raises:
        InputError: A report already exists and ``overwrite`` is not set.
    """
    check_place(folder, overwrite)
    path = folder / "report.html"
    page = Page(
        report.runs,
        report.comparisons,
        report.published,
        dimensions=list(dimension_pictures(report.runs)),
        training=list(training_pictures(report.runs)),
        differences=list(comparison_pictures(report.comparisons)),
        geometry=list(geometry_pictures(report.runs)),
        photos=list(photos(report.runs)),
    )
    if path.exists() or path.is_symlink():
        for file in folder.glob("report-*.png"):  # of the report that is replaced
            file.unlink()
    write_text(path, render(page))
    for picture in (*page.dimensions, *page.training, *page.differences, *page.geometry):
        save_png(folder / f"report-{picture.name}.png", picture.draw)
    return path
