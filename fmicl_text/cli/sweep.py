"""``fmicl sweep``: find the divergence, width and balance that your data wants."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fmicl_text.bars import disable_bars, silence_model_files
from fmicl_text.cli.parser import completed_by, recipe_names
from fmicl_text.cli.train import shown_log
from fmicl_text.errors import InputError
from fmicl_text.quiet import quietened

if TYPE_CHECKING:
    from fmicl_text.recipe.schema import Recipe
    from fmicl_text.sweep.estimate import Estimate
    from fmicl_text.sweep.plan import Plan
    from fmicl_text.sweep.sweep import Swept

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    recipe = parser.add_argument(
        "recipe", help="a recipe file, or the name of a shipped recipe (see `fmicl recipe list`)"
    )
    completed_by(recipe_names, recipe)
    parser.add_argument(
        "--space",
        metavar="FILE",
        help="what to try: a YAML file, or text or images, which are shipped; default the one that suits the recipe",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE[,VALUE...]",
        dest="overrides",
        help="override one key of the recipe; several values are tried, all combinations of them: "
        "--set loss.divergence=kl,js --set loss.sigma=0.2,0.3",
    )
    number = parser.add_mutually_exclusive_group()
    number.add_argument(
        "--trials",
        type=_whole,
        metavar="N",
        help="trials of each objective that is compared; default 8, or all of a grid",
    )
    number.add_argument(
        "--budget",
        type=_seconds,
        metavar="TIME",
        help="as many trials as fit in a time, such as 2h; finalists included",
    )
    parser.add_argument("--finalists", type=_whole, default=3, metavar="N", help="train the best N again; default 3")
    parser.add_argument("--seeds", type=_whole, default=3, metavar="N", help="seeds of each finalist; default 3")
    parser.add_argument("--halving", action="store_true", help="stop trials that are behind early (successive halving)")
    parser.add_argument("--keep", type=_count, default=1, metavar="N", help="trials that keep their weights; default 1")
    parser.add_argument(
        "--workers", type=_whole, default=1, metavar="N", help="processes on this machine; GPUs in turn"
    )
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="where trials are kept: postgresql+psycopg://..., mysql+pymysql://..., or a file that ends in .journal; "
        "default an SQLite file in the folder",
    )
    parser.add_argument(
        "--worker", action="store_true", help="join a sweep that another process leads, by the same options"
    )
    parser.add_argument("--leader", type=int, help=argparse.SUPPRESS)  # the process that started this worker
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="the folder; default runs/NAME-sweep")
    parser.add_argument("--dry-run", action="store_true", help="show what would be tried, and how long it would take")
    parser.add_argument("--json", action="store_true", help="print the verdict, or the plan, as JSON and nothing else")
    parser.add_argument("-v", "--verbose", action="store_true", help="also show the progress within each trial")


def run(args: argparse.Namespace) -> int:
    """Sweep, and print the verdict."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise InputError('fmicl sweep needs Optuna: pip install "fmicl-text[sweep]"') from None
    if not args.verbose:
        disable_bars()
    within_trials = logging.NOTSET if args.verbose else logging.WARNING
    with shown_log(), quietened("fmicl_text.training", within_trials):
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    from fmicl_text.sweep.sweep import join, sweep

    if args.worker and args.json and not args.dry_run:
        raise InputError("--json: a worker has no verdict to print; give it to the process that leads")
    silence_model_files()
    plan = _plan(args)
    if args.dry_run:
        from fmicl_text.sweep.estimate import estimate

        _print_estimate(estimate(plan), args.json)
    elif args.worker:
        join(plan, args.leader)
    else:
        swept = sweep(plan, ["-m", "fmicl_text", "sweep", *_worker_arguments(args, plan)])
        _print(swept, args.json)
    return 0


def _plan(args: argparse.Namespace) -> Plan:
    from fmicl_text.recipe.file import load_recipe
    from fmicl_text.recipe.new import is_data
    from fmicl_text.sweep.arms import arms_of
    from fmicl_text.sweep.plan import Plan
    from fmicl_text.sweep.space import Part, read_grid, read_space

    if is_data(args.recipe):
        raise InputError(f"{args.recipe} is no recipe: `fmicl recipe new {args.recipe}` writes one from it")
    grid, overrides = read_grid(args.overrides)
    recipe = load_recipe(args.recipe, overrides, imports=True)
    named = args.space or (None if grid.keys else _default_space(recipe))
    parts = (
        [Part({**part.keys, **grid.keys}, {**part.places, **grid.places}) for part in read_space(named)]
        if named
        else [grid]
    )
    folder = args.output or Path("runs") / f"{recipe.name}-sweep"
    return Plan(
        recipe,
        arms_of(recipe, parts),
        folder,
        args.storage or f"sqlite:///{(folder / 'sweep.db').absolute()}",
        trials=args.trials,
        budget=args.budget,
        finalists=args.finalists,
        seeds=args.seeds,
        keep=args.keep,
        halving=args.halving,
        workers=args.workers,
    )


def _default_space(recipe: Recipe) -> str:
    return "images" if recipe.trains_on_images else "text"


def _worker_arguments(args: argparse.Namespace, plan: Plan) -> list[str]:
    """Return the arguments of a worker of the same sweep, which this process leads."""
    given = ["--space", args.space] if args.space else []
    for override in args.overrides:
        given += ["--set", override]
    given += ["--verbose"] * args.verbose + ["--halving"] * args.halving
    numbers = {"trials": args.trials, "finalists": args.finalists, "seeds": args.seeds, "keep": args.keep}
    given += [f"--{name}={number}" for name, number in numbers.items() if number is not None]
    given += ["--output", str(plan.folder), "--storage", plan.storage, "--worker", f"--leader={os.getpid()}"]
    return [args.recipe, *given]


def _print_estimate(found: Estimate, as_json: bool) -> None:
    """Print what would be tried, how long it would take, and how much space it would need."""
    from rich.table import Table

    from fmicl_text.cli.console import Console
    from fmicl_text.training.callbacks import duration

    if as_json:
        print(json.dumps(asdict(found), indent=2))
        return
    console = Console()
    table = Table()
    for heading in ("objective", "trials", "tuned"):
        table.add_column(heading)
    for arm in found.arms:
        tuned = "; ".join(f"{key} {values}" for key, values in arm.tuned.items())
        table.add_row(arm.name, str(arm.trials), tuned or "nothing")
    console.print(table)
    first, *others = found.judges
    timed = {"a step": found.times.step, "what chooses": found.times.during, **found.times.after}
    lines = {
        "chooses": found.chooses,
        "judges": first + (f"; also measured: {', '.join(others)}" if others else ""),
        "finalists": f"at most {found.finalists}, seeds {', '.join(map(str, found.seeds))}",
        "runs": f"{found.runs:,} of {found.steps:,} steps on {found.device}, each measured {found.evaluations} time(s)",
        "time": f"about {duration(found.seconds)} with {found.workers} worker(s), without loading, saving and drawing",
        "timed": ", ".join(f"{name} {_short(seconds)}" for name, seconds in timed.items()),
        "space": f"about {found.bytes / 1e6:,.0f} MB at most",
        "folder": found.folder,
    }
    for key, line in lines.items():
        console.print(f"  {key:<10}{line}", soft_wrap=True)
    for warning in found.warnings:
        console.print(f"  warning   {warning}", soft_wrap=True)


def _short(seconds: float) -> str:
    from fmicl_text.training.callbacks import duration

    return duration(seconds) if seconds >= 10 else f"{seconds:.2g} s"


def _print(swept: Swept, as_json: bool) -> None:
    from rich.table import Table

    from fmicl_text.cli.console import Console

    files = {"page": swept.page, "recipe": swept.recipe, "model": swept.model}
    if as_json:
        print(json.dumps({name: str(path) for name, path in files.items()} | asdict(swept.verdict), indent=2))
        return
    console = Console()
    headings, rows = swept.verdict.table()
    table = Table()
    table.add_column("finalist", no_wrap=True)
    for heading in headings[:-2]:
        table.add_column(heading)
    for name, cells in rows:
        table.add_row(name, *cells[:-2])
    console.print(table)
    for name, (*_, found, settings) in rows:
        console.print(f"{name}: {found}; {settings or 'as in the recipe'}", soft_wrap=True)
    console.print(swept.verdict.summary, soft_wrap=True)
    for warning in swept.verdict.warnings:
        console.print(f"note: {warning}", soft_wrap=True)
    for name, path in files.items():
        console.print(f"{name:<9}{path}", soft_wrap=True)


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text}")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more, got {text}")
    return int(text)


def _seconds(text: str) -> float:
    if not (match := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)) or not float(match[1]):
        raise argparse.ArgumentTypeError(f"must be a number above 0 and s, m, h or d, such as 90m or 2h, got {text}")
    return float(match[1]) * _UNITS[match[2]]
