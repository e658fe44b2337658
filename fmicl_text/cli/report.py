"""``fmicl report``: runs on one page."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fmicl_text.bars import bars_are_shown, silence_model_files

if TYPE_CHECKING:
    from fmicl_text.cli.console import Console
    from fmicl_text.report.compare import Comparison


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        type=Path,
        help="run folders; each is compared with the first, and with its own scores from before training",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER|FILE.html",
        help="where the page and its pictures go: report.html in a folder, by default the first run, or a file",
    )
    parser.add_argument(
        "--published",
        action="append",
        default=[],
        metavar="NAME|FILE",
        help="show published figures beside the runs: simcse, fmicl, sts-leaderboard, or a CSV file; may be repeated",
    )
    parser.add_argument(
        "--base",
        action="append",
        default=[],
        metavar="MODEL",
        help="compare the runs with a base model, such as sample:minilm; it is measured as the first run was, unless a "
        "run started from it and measured it before training; may be repeated",
    )
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing report")
    parser.add_argument("--json", action="store_true", help="print the comparisons as JSON and nothing else")


def run(args: argparse.Namespace) -> int:
    """Write the page, and print how the runs compare."""
    from fmicl_text.cli.console import Console
    from fmicl_text.report import check_place, read_report, write_report

    output = args.output or args.runs[0]
    check_place(output, args.overwrite)
    if args.base:
        silence_model_files()
    report = read_report(args.runs, args.published, args.base, output, bars_are_shown())
    page = write_report(report, output, args.overwrite)
    if args.json:
        comparisons = [asdict(comparison) for comparison in report.comparisons]
        print(json.dumps({"page": str(page), "comparisons": comparisons}, indent=2, allow_nan=False))
    else:
        console = Console()
        for comparison in report.comparisons:
            _print(console, comparison)
        console.print(f"page     {page}", soft_wrap=True)
    if args.open:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
    return 0


def _print(console: Console, comparison: Comparison) -> None:
    """Print a table of differences, and the reasons to read them with caution."""
    from rich.table import Table

    from fmicl_text.report.cells import difference, p_value, signed_interval

    console.print(f"{comparison.suite}: {comparison.run} minus {comparison.other}", soft_wrap=True)
    table = Table()
    table.add_column("score")
    for heading in ("difference", "95% interval", "p (Holm)"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for row in comparison.rows:
        interval = signed_interval(row.ci95, row.unit).replace("\N{NO-BREAK SPACE}", " ")
        table.add_row(row.score, difference(row.difference, row.unit), interval, p_value(row.p_value), row.verdict)
    if comparison.rows:
        console.print(table)
    for warning in comparison.warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
