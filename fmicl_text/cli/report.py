"""``fmicl report``: runs on one page."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fmicl_text.cli.console import Console
    from fmicl_text.report.compare import Comparison


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", type=Path, help="run folders; each is compared with the first"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="where report.html and its pictures go; default the first run"
    )
    parser.add_argument(
        "--published",
        action="append",
        default=[],
        metavar="NAME|FILE",
        help="set published figures beside the runs: simcse, fmicl, sts-leaderboard, or a CSV file; may be repeated",
    )
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    parser.add_argument("--overwrite", action="store_true", help="replace a report that is there")
    parser.add_argument("--json", action="store_true", help="print the comparisons as JSON and nothing else")


def run(args: argparse.Namespace) -> int:
    """Write the page, and print how the runs compare."""
    from fmicl_text.cli.console import Console
    from fmicl_text.report import read_report, write_report

    report = read_report(args.runs, args.published)
    page = write_report(report, args.output or args.runs[0], args.overwrite)
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
    """Print a table of differences, and what keeps them from meaning more."""
    from rich.table import Table

    console.print(f"{comparison.suite}: {comparison.run} less {comparison.other}", soft_wrap=True)
    table = Table()
    table.add_column("score")
    for heading in ("difference", "95% interval", "p (Holm)"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for row in comparison.rows:
        interval = "{:+.2f} to {:+.2f}".format(*row.ci95) if row.ci95 else ""
        p_value = "" if row.p_value is None else f"{row.p_value:.3f}"
        table.add_row(row.score, f"{row.difference:+.2f}", interval, p_value, row.verdict)
    console.print(table)
    for warning in comparison.warnings:
        console.print(f"warning: {warning}", soft_wrap=True)
