"""``fmicl eval mteb``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fmicl_text.bars import bars_are_shown, silence_model_files
from fmicl_text.cli.eval.command import load_scored, show
from fmicl_text.cli.eval.options import add_output_arguments, result_files
from fmicl_text.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from fmicl_text.evaluation.mteb.plan import PlannedTask
    from fmicl_text.evaluation.mteb.selection import Selection


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("models", metavar="MODEL", nargs="+", help="model folder, run folder, Hub id or sample:minilm")
    tasks = parser.add_mutually_exclusive_group(required=True)
    tasks.add_argument("--tasks", metavar="A,B", help="public tasks by name, such as STSBenchmark,SciFact")
    tasks.add_argument("--benchmark", metavar="NAME", help='a public benchmark, such as "MTEB(eng, v2)"')
    tasks.add_argument("--suite", type=Path, metavar="FILE", help="your own tasks over local files, in YAML")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="read the data set OWNER/NAME from the files in DIR/OWNER/NAME"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan and stop")
    parser.add_argument("--submission", type=Path, metavar="DIR", help="also write the files mteb's leaderboard takes")
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Tasks and benchmarks of mteb, and your own tasks, scored by mteb; results are kept in mteb's cache."""
    from fmicl_text.evaluation.kinds.mteb import require_mteb

    require_mteb()
    from fmicl_text.cli.console import Console
    from fmicl_text.evaluation.items import write_result
    from fmicl_text.evaluation.mteb.model import wrapped
    from fmicl_text.evaluation.mteb.plan import plan
    from fmicl_text.evaluation.mteb.run import evaluate
    from fmicl_text.evaluation.mteb.submission import check_submittable, write_submission

    silence_model_files()
    with contextlib.redirect_stdout(sys.stderr):  # whatever a library may print
        selection = _selection(args)
        files = result_files(args.output, args.models, selection.name, args.overwrite)
        models = [wrapped(load_scored(name, args)) for name in args.models]
        if args.submission:
            check_submittable(models, selection)
        plans = [plan(model, selection, args.batch_size) for model in models]
        console = Console(stderr=True)
        console.print(f"plan for {selection.name}, with the minutes that encoding may take:")
        console.print(_plan_table(args.models, selection, plans))
        if args.dry_run:
            return 0
        results = []
        for name, model, file in zip(args.models, models, files, strict=True):
            result = evaluate(model, selection, args.batch_size, bars_are_shown(), name)
            measured = result.measured()
            results.append(measured.result)
            if file is not None:
                write_result(measured, file)
            if args.submission:
                write_submission(result, args.submission)
    show(args, results)
    if args.submission:
        command = f"mteb submit-results --output-folder {args.submission}"
        Console(stderr=True).print(f"to propose them to the leaderboard: {command}", soft_wrap=True)
    return 1 if any(result.missing for result in results) else 0


def _selection(args: argparse.Namespace) -> Selection:
    from fmicl_text.evaluation.mteb.selection import select_benchmark, select_suite, select_tasks

    if args.suite is not None:
        if args.data is not None:
            raise InputError("--data is for public tasks; a suite names its own files")
        return select_suite(args.suite)
    if args.benchmark is not None:
        return select_benchmark(args.benchmark, args.data)
    return select_tasks([name.strip() for name in args.tasks.split(",")], args.data)


def _plan_table(models: list[str], selection: Selection, plans: list[list[PlannedTask]]) -> Table:
    from rich.table import Table

    table = Table()
    table.add_column("task")
    table.add_column("holds")
    for model in models:
        table.add_column(model, justify="right")
    for of_task in zip(*plans, strict=True):
        name, load = of_task[0].name, of_task[0].load
        cells = ["no data" if name in selection.absent else _minutes(planned) for planned in of_task]
        table.add_row(name, load.size if load else "unknown", *cells)
    table.add_section()
    table.add_row("total where known", "", *(_shown(sum(task.minutes or 0 for task in of_model)) for of_model in plans))
    return table


def _minutes(planned: PlannedTask) -> str:
    if planned.finished:
        return "finished"
    return "unknown" if planned.minutes is None else _shown(planned.minutes)


def _shown(minutes: float) -> str:
    return f"{minutes:,.0f}" if minutes >= 10 else f"{minutes:.1f}"
