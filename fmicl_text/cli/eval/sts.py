"""``fmicl eval sts``."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fmicl_text.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

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
        "--output", type=Path, metavar="FILE|DIR", help="also write JSON: to FILE.json, or to a file a model in DIR"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace results that are there")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else; a list for several models")
    parser.add_argument("--batch-size", type=_positive, default=128, metavar="N", help="sentences at a time (128)")


def run(args: argparse.Namespace) -> int:
    """Spearman correlation between the cosine of two sentences and what people say of them."""
    from rich.console import Console

    from fmicl_text.evaluation.sts import evaluate
    from fmicl_text.evaluation.suites import load_suite
    from fmicl_text.files import write_json

    suite = load_suite(args.suite)
    files = _result_files(args.output, args.models, suite.name, args.overwrite)
    documents = []
    for model, file in zip(args.models, files, strict=True):
        with contextlib.redirect_stdout(sys.stderr):  # whatever a library may print
            result = evaluate(model, suite, args.data, args.batch_size, show_progress=sys.stderr.isatty())
        documents.append(result.document())
        if not args.json:
            _print(Console(), result)
        if file is not None:
            write_json(file, documents[-1])
    if args.json:
        print(json.dumps(documents if len(documents) > 1 else documents[0], indent=2, allow_nan=False))
    return 0


def _result_files(output: Path | None, models: list[str], suite: str, overwrite: bool) -> Sequence[Path | None]:
    """Return where the result of each model goes, before anything is computed.

    Raises:
        InputError: A result is there already, or two would go to the same file.
    """
    if output is None:
        return [None] * len(models)
    if output.suffix == ".json":
        files = [output] * len(models)
    else:
        files = [output / f"{suite}-{re.sub(r'[^A-Za-z0-9._-]+', '-', model).strip('-.')}.json" for model in models]
    problems = [
        f"{file} is there already; --overwrite replaces it" for file in files if file.exists() and not overwrite
    ]
    if len(set(files)) < len(files):
        problems.append(f"--output {output}: results of several models need a folder, and models of different names")
    if files[0].parent.is_file():
        problems.append(f"--output {output}: {files[0].parent} is a file; give a folder, or a file that ends in .json")
    if problems:
        raise InputError(list(dict.fromkeys(problems)))
    return files


def _print(console: Console, result: StsResult) -> None:
    """Print what was measured, soft-wrapped since a path cut in two cannot be copied, and the table of scores."""
    from rich.table import Table
    from rich.text import Text

    console.print(Text(f"{result.model} on {result.suite.name}"), soft_wrap=True)
    console.print(Text(result.suite.protocol))
    table = Table()
    table.add_column("task")
    for heading in ("n", "Spearman x100", "95% interval"):
        table.add_column(heading, justify="right")
    for task in result.suite.tasks:
        if score := result.tasks.get(task.name):
            low, high = score.ci95
            table.add_row(Text(task.name), f"{score.n:,}", f"{score.spearman:.2f}", f"{low:.2f} to {high:.2f}")
        else:
            table.add_row(Text(task.name), "", "missing", "")
    table.add_section()
    if result.average is not None:
        table.add_row("average", "", f"{result.average:.2f}", "")
    else:
        table.add_row("average", "", "not shown", "")
    console.print(table)
    for name, reason in result.missing.items():
        console.print(Text(f"{name} is missing: {reason}"), soft_wrap=True)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {number}")
    return number
