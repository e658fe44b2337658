"""Runs on one page: a self-contained HTML file, and the same pictures as PNG.

Scores, intervals and pictures of the geometry come from the runs' ``results/*.json`` alone; what was run and how the
training went, from ``recipe.yaml``, ``manifest.json`` and ``metrics.jsonl``. No encoder is loaded, but for a base model
that was not measured yet. Modules here import ``runs`` and what is below; for that base model alone, ``training``.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from fmicl_text.errors import InputError
from fmicl_text.files import write_text
from fmicl_text.report.base import read_base
from fmicl_text.report.compare import Comparison, compare
from fmicl_text.report.geometry import layout
from fmicl_text.report.images import photos
from fmicl_text.report.page import Chapter, Page, render
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
    seeds: Container[int] | None = None,
) -> Report:
    """Read runs, and compare each with the first and with the model it started from, if that was measured.

    Args:
        folders: Run folders, of one seed or several.
        published: Names of published tables to set beside them.
        bases: Models to set before the runs, which are then compared with the first of them; see
            :func:`fmicl_text.report.base.read_base`.
        output: Where the report will go, and results of base models are kept; default the first run.
        show_progress: Draw progress bars on standard error while a base model is measured.
        seeds: Which of several seeds to read; default all.

    Raises:
        InputError: A folder is no run, a file in it is broken, a table is unknown, or a base model cannot be measured.
    """
    figures = [figure for name in published for figure in load_published(name)]
    runs = read_runs(list(folders), seeds)
    measured = [
        read_base(name, runs, page_file(output or folders[0]).parent, show_progress) for name in dict.fromkeys(bases)
    ]
    subjects = [*measured, *runs]
    for results in (of for run in subjects for of in (run.before, *(seed.results for seed in run.seeds.values()))):
        layout(results)  # what is wrong with it is found before anything is written
    pairs = [(subject, subjects[0]) for subject in subjects[1:]]
    compared = bases[0] if bases else None  # with it every run is compared already
    pairs += [(run, begun) for run in runs if run.base != compared and (begun := run.begun())]
    return Report(subjects, [comparison for run, other in pairs for comparison in compare(run, other)], figures)


def page_file(output: Path) -> Path:
    """Return the file of the page: ``output`` itself if it ends in ``.html``, else ``report.html`` in that folder."""
    return output if output.suffix == ".html" and not output.is_dir() else output / "report.html"


def check_place(output: Path, overwrite: bool) -> None:
    """Raise an InputError if a report may not be written there; links are replaced, never followed."""
    path = page_file(output)
    if _is_taken(path) and not overwrite:
        raise InputError(f"{path} already exists; --overwrite replaces it, --output puts the report elsewhere")
    if path.parent.exists() and not path.parent.is_dir():
        raise InputError(f"{path.parent} is a file; give a folder for the report, or a file that ends in .html")


def write_report(report: Report, output: Path, overwrite: bool = False, chapters: Sequence[Chapter] = ()) -> Path:
    """Write the page and beside it its pictures, for ``report.html`` as ``report-*.png``.

    Args:
        report: What it says.
        output: A folder, or the file of the page, which ends in ``.html``.
        overwrite: Replace what is there; of an earlier report, the pictures that it had are deleted.
        chapters: What comes before the runs.

    Returns:
        The page.

    Raises:
        InputError: A file is there already and ``overwrite`` is not set.
    """
    check_place(output, overwrite)
    path = page_file(output)
    page = Page(
        report.runs,
        report.comparisons,
        report.published,
        dimensions=list(dimension_pictures(report.runs)),
        training=list(training_pictures(report.runs)),
        differences=list(comparison_pictures(report.comparisons)),
        geometry=list(geometry_pictures(report.runs)),
        photos=list(photos(report.runs)),
        chapters=list(chapters),
    )
    drawn = (
        *(picture for chapter in chapters for picture in chapter.pictures),
        *page.dimensions,
        *page.training,
        *page.differences,
        *page.geometry,
    )
    pictures = {_beside(path, picture.name): picture for picture in drawn}
    if taken := [str(file) for file in pictures if _is_taken(file) and not overwrite]:
        raise InputError(
            f"{', '.join(taken)}: already there, and of no report; --overwrite replaces what has this name"
        )
    for file in _pictures_of(path):
        file.unlink(missing_ok=True)
    write_text(path, render(page))
    for file, picture in pictures.items():
        save_png(file, picture.draw)
    return path


def _is_taken(file: Path) -> bool:
    return file.exists() or file.is_symlink()


def _beside(page: Path, picture: str) -> Path:
    return page.with_name(f"{page.stem}-{picture}.png")


def _pictures_of(page: Path) -> list[Path]:
    """Return the files of the pictures that a page has, if there is one."""
    if page.is_symlink() or not page.is_file():
        return []
    names = re.findall(r'<picture data-name="([a-z0-9-]+)">', page.read_text(encoding="utf-8", errors="replace"))
    return [_beside(page, name) for name in names]
