"""``fmicl eval pairs``."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fmicl_text.cli.eval.options import add_output_arguments, result_files

if TYPE_CHECKING:
    from fmicl_text.cli.console import Console
    from fmicl_text.evaluation.pairs import PairsResult

_NAMES = {
    "spearman": "Spearman x100",
    "pearson": "Pearson x100",
    "kendall": "Kendall tau-b x100",
    "auc": "ROC AUC x100",
    "average_precision": "average precision x100",
    "f1": "best F1 x100",
    "threshold": "from cosine",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("model", metavar="MODEL", help="model folder, run folder, Hub id or sample:minilm")
    parser.add_argument("file", metavar="FILE", help="csv, tsv, jsonl or Parquet file, a pair a row")
    parser.add_argument(
        "--sentences",
        nargs=2,
        metavar="COLUMN",
        default=("sentence1", "sentence2"),
        help="the columns of the two sentences (sentence1 sentence2)",
    )
    gold = parser.add_mutually_exclusive_group()
    gold.add_argument("--score", metavar="COLUMN", help="the column of the scores, the higher the more alike (score)")
    gold.add_argument("--label", metavar="COLUMN", help="the column of the labels, 0 or 1, if pairs have no scores")
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """How well the cosine of two sentences agrees with the scores or labels of your own pairs."""
    from fmicl_text.cli.console import Console
    from fmicl_text.evaluation.items import write_result
    from fmicl_text.evaluation.pairs import evaluate

    (file,) = result_files(args.output, [args.model], f"pairs-{Path(args.file).stem}", args.overwrite)
    with contextlib.redirect_stdout(sys.stderr):  # whatever a library may print
        result = evaluate(
            args.model,
            args.file,
            "label" if args.label else "score",
            args.label or args.score,
            tuple(args.sentences),
            args.batch_size,
            show_progress=sys.stderr.isatty(),
        )
    document = result.document()
    if file is not None:
        write_result(result, file)
    if args.json:
        print(json.dumps(document, indent=2, allow_nan=False))
    else:
        _print(Console(), result)
    return 0


def _print(console: Console, result: PairsResult) -> None:
    from rich.table import Table

    labels = "" if result.positives is None else f", {result.positives:,} of them 1"
    console.print(f"{result.model} on {result.file} ({result.n:,} pairs{labels})", soft_wrap=True)
    table = Table()
    table.add_column("")
    for heading in ("value", "95% interval"):
        table.add_column(heading, justify="right")
    for metric, score in result.scores.items():
        digits = 4 if metric == "threshold" else 2
        low, high = score.ci95
        table.add_row(_NAMES[metric], f"{score.value:.{digits}f}", f"{low:.{digits}f} to {high:.{digits}f}")
    console.print(table)
