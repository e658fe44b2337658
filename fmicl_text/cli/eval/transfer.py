"""``fmicl eval transfer``."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from typing import TYPE_CHECKING

from fmicl_text.cli.eval.options import add_output_arguments, result_files

if TYPE_CHECKING:
    from fmicl_text.cli.console import Console
    from fmicl_text.evaluation.transfer import TransferResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("models", metavar="MODEL", nargs="+", help="model folder, run folder, Hub id or sample:minilm")
    parser.add_argument(
        "--tasks", metavar="A,B", help="some of MR, CR, SUBJ, MPQA, SST2, TREC and MRPC; default all, which average"
    )
    parser.add_argument("--data", metavar="DIR", help="folder with transfer/mr.parquet and so on; default the Hub")
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """SentEval's seven classification tasks: logistic regression on frozen embeddings."""
    from fmicl_text.cli.console import Console
    from fmicl_text.evaluation.items import write_result
    from fmicl_text.evaluation.transfer import transfer
    from fmicl_text.evaluation.transfer_tasks import TASKS, choose_tasks

    tasks = choose_tasks([name.strip() for name in args.tasks.split(",")] if args.tasks else list(TASKS))
    files = result_files(args.output, args.models, "transfer", args.overwrite)
    documents = []
    for model, file in zip(args.models, files, strict=True):
        with contextlib.redirect_stdout(sys.stderr):  # whatever a library may print
            result = transfer(model, tasks, args.data, args.batch_size, show_progress=sys.stderr.isatty())
        documents.append(result.document())
        if not args.json:
            _print(Console(), result)
        if file is not None:
            write_result(result, file)
    if args.json:
        print(json.dumps(documents if len(documents) > 1 else documents[0], indent=2, allow_nan=False))
    return 0


def _print(console: Console, result: TransferResult) -> None:
    from rich.table import Table

    from fmicl_text.evaluation.transfer import PROTOCOL

    console.print(f"{result.model} on transfer", soft_wrap=True)
    console.print(PROTOCOL)
    table = Table()
    table.add_column("task")
    with_f1 = any(score.f1 is not None for score in result.tasks.values())
    for heading in ("n", "accuracy x100", "95% interval") + with_f1 * ("F1 x100", "95% interval"):
        table.add_column(heading, justify="right")
    for name, score in result.tasks.items():
        cells = [f"{score.n:,}", f"{score.accuracy:.2f}", "{:.2f} to {:.2f}".format(*score.ci95)]
        if score.f1_ci95 is not None:
            cells += [f"{score.f1:.2f}", "{:.2f} to {:.2f}".format(*score.f1_ci95)]
        table.add_row(name, *cells)
    for name in result.missing:
        table.add_row(name, "", "missing")
    table.add_section()
    if result.average is not None and result.average_ci95 is not None:
        table.add_row("average", "", f"{result.average:.2f}", "{:.2f} to {:.2f}".format(*result.average_ci95))
    else:
        table.add_row("average", "", "not shown")
    console.print(table)
    for name, reason in result.missing.items():
        console.print(f"{name} is missing: {reason}", soft_wrap=True)
