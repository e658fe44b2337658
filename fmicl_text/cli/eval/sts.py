"""``fmicl eval sts``."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from typing import TYPE_CHECKING

from fmicl_text.cli.eval.options import add_output_arguments, result_files

if TYPE_CHECKING:
    from fmicl_text.cli.console import Console
    from fmicl_text.evaluation.sts import StsResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("models", metavar="MODEL", nargs="+", help="model folder, run folder, Hub id or sample:minilm")
    parser.add_argument(
        "--suite",
        default="sts7",
        metavar="NAME|FILE",
        help="sts7 (SimCSE's protocol, the default), sts7-mteb, stsb, stsb-dev, or the YAML file of a suite",
    )
    parser.add_argument(
        "--data", metavar="DIR|sample:stsb", help="folder of Parquet files, or the sample package; default the Hub"
    )
    parser.add_argument(
        "--bf16", action="store_true", help="twice as fast where the CPU or GPU has bfloat16; less exact"
    )
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Spearman correlation between the cosine of two sentences and what people say of them."""
    from fmicl_text.cli.console import Console
    from fmicl_text.evaluation.items import write_result
    from fmicl_text.evaluation.sts import evaluate
    from fmicl_text.evaluation.suites import load_suite

    suite = load_suite(args.suite)
    files = result_files(args.output, args.models, suite.name, args.overwrite)
    documents = []
    for model, file in zip(args.models, files, strict=True):
        with contextlib.redirect_stdout(sys.stderr):  # whatever a library may print
            result = evaluate(model, suite, args.data, args.batch_size, sys.stderr.isatty(), bf16=args.bf16)
        documents.append(result.document())
        if not args.json:
            _print(Console(), result)
        if file is not None:
            write_result(result, file)
    if args.json:
        print(json.dumps(documents if len(documents) > 1 else documents[0], indent=2, allow_nan=False))
    return 0


def _print(console: Console, result: StsResult) -> None:
    """Print what was measured, soft-wrapped since a path cut in two cannot be copied, and the table of scores."""
    from rich.table import Table

    console.print(f"{result.model} on {result.suite.name}", soft_wrap=True)
    console.print(result.suite.protocol)
    table = Table()
    table.add_column("task")
    for heading in ("n", "Spearman x100", "95% interval"):
        table.add_column(heading, justify="right")
    for task in result.suite.tasks:
        if score := result.tasks.get(task.name):
            low, high = score.ci95
            table.add_row(task.name, f"{score.n:,}", f"{score.spearman:.2f}", f"{low:.2f} to {high:.2f}")
        else:
            table.add_row(task.name, "", "missing", "")
    table.add_section()
    if result.average is not None and result.average_ci95 is not None:
        low, high = result.average_ci95
        table.add_row("average", "", f"{result.average:.2f}", f"{low:.2f} to {high:.2f}")
    else:
        table.add_row("average", "", "not shown", "")
    console.print(table)
    for name, reason in result.missing.items():
        console.print(f"{name} is missing: {reason}", soft_wrap=True)
