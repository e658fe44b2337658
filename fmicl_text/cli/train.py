"""``fmicl train``: run a recipe."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from fmicl_text.bars import disable_bars, silence_model_files
from fmicl_text.cli.parser import completed_by, recipe_names
from fmicl_text.errors import InputError, RunFailedError

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    from fmicl_text.cli.console import Console
    from fmicl_text.recipe.schema import Recipe
    from fmicl_text.training.plan import Plan, PlannedSource
    from fmicl_text.training.results import TrainResult
    from fmicl_text.training.timing import Times


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    recipe = parser.add_argument(
        "recipe",
        help="a recipe file, the name of a shipped recipe (see `fmicl recipe list`), a run folder (repeats the run, or "
        "with --resume continues it), or a file of texts (trained by the recipe that `fmicl recipe new` writes)",
    )
    completed_by(recipe_names, recipe)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override one key of the recipe, for example --set loss.divergence=js; may be repeated",
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="the run folder; default runs/NAME")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="load and check everything and show what would run, without writing anything",
    )
    parser.add_argument(
        "--time", action="store_true", help="with --dry-run: train a few steps and estimate the time of the whole run"
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in the run folder")
    parser.add_argument("--overwrite", action="store_true", help="first delete the run in the folder")
    parser.add_argument(
        "--allow-imports",
        action="store_true",
        help="run the Python files that the recipe of a run folder imports; only if you have read them",
    )
    parser.add_argument(
        "--num-processes",
        type=int,
        metavar="N",
        help="train in N processes on this machine, one per GPU; the same as `accelerate launch -m fmicl_text train`",
    )
    parser.add_argument(
        "--accelerate-config",
        type=Path,
        metavar="FILE",
        help="take the number of processes from a file of `accelerate config`; sharding (FSDP, DeepSpeed) is refused",
    )
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("-v", "--verbose", action="store_true", help="also show what the libraries log")
    volume.add_argument("-q", "--quiet", action="store_true", help="show only warnings, errors and the result")


def run(args: argparse.Namespace) -> int:
    """Train, and print the results."""
    if args.quiet:
        disable_bars()
    with shown_log(args.verbose, args.quiet):
        return _run(args)


@contextmanager
def shown_log(verbose: bool = False, quiet: bool = False) -> Iterator[None]:
    """Show on standard error what the package logs: phases and progress as well as warnings."""
    logger = logging.getLogger(None if verbose else "fmicl_text")
    handler, level = logging.StreamHandler(sys.stderr), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _run(args: argparse.Namespace) -> int:
    from fmicl_text.cli.console import Console
    from fmicl_text.recipe.accelerate import processes_of, refuse_sharding
    from fmicl_text.recipe.file import load_recipe, places_named
    from fmicl_text.recipe.new import is_data

    refuse_sharding()
    if args.accelerate_config is not None:
        if args.num_processes is not None:
            raise InputError("--accelerate-config has the number of processes; leave --num-processes out")
        args.num_processes = processes_of(args.accelerate_config)
    folder = _run_folder(Path(args.recipe))
    allowed = folder is None or args.allow_imports
    written = folder / "recipe.yaml" if folder else args.recipe
    if is_data(args.recipe):
        recipe = _recipe_for(args.recipe, args.overrides)
    else:
        recipe = load_recipe(written, args.overrides, imports=allowed)
    if recipe.imports and not allowed:
        raise InputError(
            f"{folder}: the recipe of this run imports {', '.join(recipe.imports)}; "
            "--allow-imports runs that code, if you have read it"
        )
    if args.num_processes is not None and not args.dry_run:
        return _launch(args)
    if args.time and not args.dry_run:
        raise InputError("--time goes with --dry-run")
    console = Console(quiet=os.environ.get("RANK", "0") != "0")  # of several processes, only the first prints
    with Console(stderr=True, quiet=args.quiet).status("loading libraries"):
        from fmicl_text.training import train as training
        from fmicl_text.training.plan import plan

        silence_model_files()
    with nullcontext() if is_data(args.recipe) else places_named(written, args.overrides):
        if args.dry_run:
            planned = plan(recipe)
            output = args.output or Path("runs") / recipe.name
            measured = None
            if args.time:
                from fmicl_text.training.timing import times

                measured = times(recipe, results=False)
            _print_plan(console, recipe.name, planned, output, recipe.seeds, measured)
        else:
            output = args.output or (folder if args.resume else None)
            result = training.train(recipe, output, resume=args.resume, overwrite=args.overwrite, repeats=folder)
            _print_result(console, result)
    return 0


def _recipe_for(data: str, overrides: list[str]) -> Recipe:
    """Return the recipe that ``fmicl recipe new`` writes for a file of texts, with overrides."""
    from fmicl_text.recipe.file import load_recipe
    from fmicl_text.recipe.new import new_recipe

    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "recipe.yaml"
        file.write_text(new_recipe(data), encoding="utf-8")
        return load_recipe(file, overrides)


def _run_folder(source: Path) -> Path | None:
    """Return the run folder in which a file is the recorded recipe, if it is one."""
    if source.is_dir():
        return source if (source / "recipe.yaml").is_file() else None
    folder = source.parent
    is_run = any(folder.glob("manifest.json")) or any(folder.glob("seed-*/manifest.json"))
    return folder if source.name == "recipe.yaml" and is_run else None


def _launch(args: argparse.Namespace) -> int:
    """Run the same command in several processes; return the exit status of the first that failed, or 0."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if args.num_processes < 1:
        raise InputError(f"--num-processes must be at least 1, got {args.num_processes}")
    command = ["-m", "fmicl_text", "train", args.recipe]
    for override in args.overrides:
        command += ["--set", override]
    if args.output is not None:
        command += ["--output", str(args.output)]
    command += [
        f"--{flag.replace('_', '-')}"
        for flag in ("resume", "overwrite", "allow_imports", "verbose", "quiet")
        if getattr(args, flag)
    ]
    here = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=args.num_processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id=uuid4().hex,
        max_restarts=0,
    )
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the messages are below
    try:
        elastic_launch(here, sys.executable)(*command)
    except ChildFailedError as error:
        rank, failure = _cause(error)
        if failure.exitcode > 0:
            return failure.exitcode
        folder = args.output or (Path(args.recipe) if args.resume else None)
        again = f"; to continue: fmicl train --resume {shlex.quote(str(folder or 'FOLDER'))}"
        name = signal.Signals(-failure.exitcode).name
        raise RunFailedError(f"process {rank} of {args.num_processes} was ended by {name}{again}") from None
    except SignalException as error:  # the processes got the same signal, and have reported it
        return 128 + error.sigval
    return 0


def _cause(error: ChildFailedError) -> tuple[int, ProcessFailure]:
    """Return which process failed first, and how; one that was killed before those that lost contact with it.

    They may end before the launcher looks, and then all seem to have failed at the same time.
    """
    killed = [(rank, failure) for rank, failure in error.failures.items() if failure.exitcode < 0]
    return killed[0] if killed else error.get_first_failure()


def _print_plan(console: Console, name: str, plan: Plan, output: Path, seeds: list[int], times: Times | None) -> None:
    console.print(f"{name} would run:", style="bold")
    reads = "texts of any length" if plan.max_seq_length is None else f"{plan.max_seq_length} tokens"
    reads = reads if plan.image_size is None else f"images of {plan.image_size} pixels"
    trained = "" if plan.trained == plan.parameters else f", of which {plan.trained:,} train"
    lines = {
        "encoder": f"{plan.parameters:,} parameters{trained}, {plan.dimensions} dimensions, {reads}",
        **({"adapter": plan.adapter} if plan.adapter else {}),
        **_planned_data(plan),
        "training": f"{plan.steps:,} steps of {plan.batch} rows on {plan.device}, {plan.precision}",
    }
    if plan.loading is not None:
        lines["loading"] = plan.loading
    lines["weights"] = plan.weights
    if plan.after:
        at = f", also at {', '.join(map(str, plan.dims))} dimensions" if plan.dims else ""
        lines["results"] = ", ".join(plan.after) + at
    if plan.publish is not None:
        lines["publish"] = plan.publish
    from fmicl_text.runs.folder import RunFolder

    taken = RunFolder(output).manifest.is_file()
    lines["folder"] = str(output) + (" (holds a run: --resume or --overwrite)" if taken else "")
    lines["seeds"] = ", ".join(map(str, seeds))
    if times is not None:
        total = (times.step * plan.steps + times.during * plan.evaluations) * len(seeds)
        evaluations = (
            f" and {times.during:.2g} s for each of {plan.evaluations} evaluations" if plan.evaluations else ""
        )
        lines["time"] = f"about {total / 60:,.1f} min, at {times.step:.2g} s a step{evaluations}, results not counted"
    if plan.remote_code:
        lines["code"] = "Python code that comes with the model is run (model.trust_remote_code)"
    if plan.imports:
        lines["imports"] = f"Python code of the recipe is run: {', '.join(plan.imports)}"
    for key, line in lines.items():
        console.print(f"  {key:<9} {line}", soft_wrap=True)
    for warning in plan.warnings:
        console.print(f"  warning   {warning}", soft_wrap=True)


def _planned_data(plan: Plan) -> dict[str, str]:
    """Return the lines about what is trained on and by which loss, one for each source if there are several."""
    if len(plan.sources) > 1:
        lines = {"data": f"{len(plan.sources)} sources; each batch is of one, drawn {plan.drawn}"}
        for name, source in plan.sources.items():
            parts = [_planned_rows(source), source.loss]
            parts += [f"weight {source.weight:g}"] if source.weight is not None else []
            parts += [f"prompts: {_planned_prompts(source)}"] if source.prompts else []
            parts += [f"negatives: {source.mining}"] if source.mining else []
            lines[f"  {name}"] = "; ".join(parts)
        return lines
    (source,) = plan.sources.values()
    lines = {"data": _planned_rows(source), "loss": source.loss}
    lines |= {"prompts": _planned_prompts(source)} if source.prompts else {}
    return lines | ({"negatives": source.mining} if source.mining else {})


def _planned_prompts(source: PlannedSource) -> str:
    return ", ".join(f"{json.dumps(prompt)} before {name}" for name, prompt in source.prompts.items())


def _planned_rows(source: PlannedSource) -> str:
    columns = ", ".join(source.columns)
    if source.buffer is not None:
        return f"a stream of {columns}, shuffled in a buffer of {source.buffer:,} rows"
    return f"{source.rows:,} rows of {columns}"


def _print_result(console: Console, result: TrainResult) -> None:
    """Print the table of scores, where things are, and the Python that uses the model."""
    from rich.table import Table

    from fmicl_text.training.results import scores

    before, after, summary = scores(result.before), scores(result.seeds[0].after), result.summary()
    if summary:
        several = len(result.seeds) > 1
        console.print(f"{result.folder}", soft_wrap=True)
        table = Table()
        table.add_column("score")
        if before:
            table.add_column("before", justify="right")
        table.add_column("after, mean ± sd" if several else "after", justify="right")
        if before:
            table.add_column("change", justify="right")
        for name, row in summary.items():
            score = after[name]
            mean = score.written(row["mean"]) + (f" ± {score.written(row['sd'])}" if several else "")
            cells = [mean]
            if name in before:
                change = row["mean"] - before[name].value
                cells = [score.written(before[name].value), mean, ("+" if change >= 0 else "") + score.written(change)]
            elif before:
                cells = ["", mean, ""]
            table.add_row(f"{name} ({score.unit})" if score.unit else name, *cells)
        console.print(table)
    for seed in result.seeds:
        console.print(f"model    {seed.folder.model}", soft_wrap=True)
        console.print(f"picture  {seed.folder.picture}", soft_wrap=True)
    if result.published is not None:
        console.print(f"on the Hub  {result.published.url}", soft_wrap=True)
    console.print("\nUse it:\n")
    model = result.model
    console.print("    from sentence_transformers import SentenceTransformer")
    if result.of_images:
        console.print("    from PIL import Image")
    console.print(f'    model = SentenceTransformer("{model}")', soft_wrap=True)
    inputs = 'Image.open("one.png"), Image.open("another.png")' if result.of_images else '"a sentence", "another one"'
    console.print(f"    embeddings = model.encode([{inputs}])", markup=False, soft_wrap=True)
