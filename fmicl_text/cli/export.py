"""``fmicl export``: a run's embeddings in fewer bits, and what that costs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from fmicl_text.bars import silence_model_files

if TYPE_CHECKING:
    from fmicl_text.cli.console import Console
    from fmicl_text.evaluation.results import Result, Score
    from fmicl_text.training.export import Exported


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "run", metavar="RUN", type=Path, help="a run folder (of several seeds the first is taken), or a seed's folder"
    )
    parser.add_argument(
        "--embeddings",
        choices=["int8", "binary"],
        required=True,
        help="a whole number of 8 bits for each dimension, or 1 bit",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    parser.add_argument("--json", action="store_true", help="print the table as JSON and nothing else")


def run(args: argparse.Namespace) -> int:
    """Measure the embeddings in fewer bits, and print what they cost beside those of the run."""
    from fmicl_text.cli.console import Console

    with Console(stderr=True).status("loading libraries"):
        from fmicl_text.training.export import document, export_embeddings
        from fmicl_text.training.memory import keep_memory

        silence_model_files()
    keep_memory()
    exported = export_embeddings(args.run, args.embeddings, args.overwrite)
    if args.json:
        print(json.dumps(document(exported), indent=2, ensure_ascii=False))
    else:
        _print(Console(), exported)
    return 0


def _print(console: Console, exported: Exported) -> None:
    from rich.table import Table

    whole, fewer = exported.whole, exported.quantised
    table = Table()
    for heading in ("", "float32", exported.precision):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_row("bytes of a vector", f"{whole.bytes:,}", f"{fewer.bytes:,}")
    table.add_row("rows a second", f"{whole.rows_per_second:,.0f}", f"{fewer.rows_per_second:,.0f}")
    for name, result in whole.results.items():
        for score in result.scores:
            unit = f" ({score.unit})" if score.unit else ""
            table.add_row(f"{name}: {score.key}{unit}", _shown(score), _shown(_same(score, fewer.results[name])))
    console.print(table)
    console.print(f"in {exported.folder}", soft_wrap=True)


def _same(score: Score, result: Result) -> Score | None:
    return next((other for other in result.scores if other.key == score.key), None)


def _shown(score: Score | None) -> str:
    from fmicl_text.cli.eval.table import number

    if score is None:
        return "missing"
    interval = "" if score.ci95 is None else f" ({' to '.join(number(score, end) for end in score.ci95)})"
    return number(score, score.value) + interval
