"""A sweep from its plan to its verdict: trials, finalists, the winner, the page."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from fmicl_text.errors import InputError, RunFailedError, RunInterrupted
from fmicl_text.files import cannot_write, write_json, write_text
from fmicl_text.recipe.file import dump_recipe
from fmicl_text.report import read_report, write_report
from fmicl_text.sweep.board import Board
from fmicl_text.sweep.finalists import finalists, is_trained, runs_of
from fmicl_text.sweep.pictures import chapter
from fmicl_text.sweep.plan import FINALISTS, Plan, judged
from fmicl_text.sweep.slots import slots
from fmicl_text.sweep.verdict import Verdict, verdict
from fmicl_text.sweep.worker import Worker
from fmicl_text.training.criterion import Criterion
from fmicl_text.training.inputs import load_inputs
from fmicl_text.training.interruption import Interruption

logger = logging.getLogger(__name__)

_PAUSE = 2.0
"""Seconds between two looks at the trials, which take a query or more an arm."""


@dataclass(frozen=True)
class Swept:
    """The outcome of a sweep.

    Attributes:
        verdict: What it found.
        recipe: The winner as a recipe.
        model: The winner's model, of its first seed.
        page: The report.
    """

    verdict: Verdict
    recipe: Path
    model: Path
    page: Path


def sweep(plan: Plan, command: Sequence[str] = ()) -> Swept:
    """Do everything of a sweep that is not done yet.

    Args:
        plan: What to do.
        command: Arguments of ``python`` that start a worker of this sweep, by :func:`join` with this process as its
            leader; needed for more than one.

    Raises:
        InputError: The recipe or its data cannot be used, the storage cannot be reached or has another sweep of this
            name, or another process leads this sweep.
        RunFailedError: Too few trials have a score.
        RunInterrupted: On SIGINT or SIGTERM; the same call continues.
    """
    plan, criterion, warnings = _judged(plan)
    with _leading(plan.folder), _board(plan, criterion) as board:
        for warning in warnings:
            logger.warning(warning)
        _mark(plan.folder, board)
        worker = Worker(plan, board, criterion)
        board.note(done=False)
        with _workers(plan, command) as started:
            number = plan.number()
            if number is None and board.facts.get("budget") == plan.budget:
                number = board.facts.get("trials")
            if number is None:
                for arm in plan.arms:
                    board.plan(arm.name, plan.planned(arm, 1))
                _finish(worker, board, started)
                number = affordable(plan, board)
            board.note(trials=number, budget=plan.budget)
            for arm in plan.arms:
                board.plan(arm.name, plan.planned(arm, number))
            _finish(worker, board, started)
            board.plan_runs(FINALISTS, runs_of(plan, finalists(plan, board)))
            _finish(worker, board, started)
            _train_missing_finals(plan, board, worker)
            board.note(done=True)
        found = verdict(plan, board, criterion, warnings)
        return _written(plan, board, criterion, found)


def join(plan: Plan, leader: int | None = None) -> None:
    """Work on a sweep that another process leads, until it is done.

    Args:
        plan: What to do.
        leader: Number of the process that leads if it has started this one, which then ends with it.

    Raises:
        InputError: As :func:`sweep`.
        RunInterrupted: On SIGINT or SIGTERM; the trial goes back into the queue.
    """
    plan, criterion, _ = _judged(plan)
    with _board(plan, criterion) as board:
        Worker(plan, board, criterion).work(until_done=True, leader=leader)


def _judged(plan: Plan) -> tuple[Plan, Criterion, list[str]]:
    recipe, criterion, warnings = judged(plan.recipe, load_inputs(plan.recipe, mine=False))
    return replace(plan, recipe=recipe), criterion, warnings


@contextmanager
def _leading(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write("the sweep", folder, error) from error
    try:
        with FileLock(folder / ".lock", timeout=0), Interruption(folder):
            yield
    except Timeout:
        raise InputError(f"another process leads the sweep in {folder}; --worker joins it") from None
    except RunInterrupted as error:
        raise RunInterrupted(
            error.signal, f"{error.signal.name}: what was trained is kept; to continue, give the same command again"
        ) from None


@contextmanager
def _board(plan: Plan, criterion: Criterion) -> Iterator[Board]:
    halving = plan.recipe.evaluate.every_steps if plan.halving else None
    arms = [*(arm.name for arm in plan.arms), FINALISTS]
    better = bool(criterion.metric.higher_is_better)
    digest = f"{plan.digest} {criterion.logged}"
    board = Board(plan.recipe.name, plan.storage, plan.folder, arms, better, digest, halving, plan.recipe.seeds[0])
    try:
        yield board
    finally:
        board.close()


def _mark(folder: Path, board: Board) -> None:
    """Note in a folder which sweep it has; refuse one with the runs of another, which would be taken for its own."""
    file, number = folder / ".sweep", board.facts.get("number") or secrets.token_hex(8)
    known = file.read_text() if file.is_file() else None
    if (known != number) if known else ((folder / "trials").is_dir() and not board.trials()):
        raise InputError(f"{folder} has the runs of another sweep; give this one another folder with --output")
    board.note(number=number)
    write_text(file, number)


@contextmanager
def _workers(plan: Plan, command: Sequence[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start workers on this machine if there are to be several, and stop them at the end or with this process."""
    started = []
    try:
        if plan.workers > 1:
            for slot in slots(plan.workers):
                started.append(subprocess.Popen([sys.executable, *command], env=os.environ | slot))
        yield started
    except BaseException:
        for process in started:
            process.send_signal(signal.SIGTERM)  # they write a checkpoint first
        raise
    finally:
        for process in started:
            process.wait()


def _finish(worker: Worker, board: Board, started: Sequence[subprocess.Popen[bytes]]) -> None:
    """Return when nothing waits or runs any more; work here if no worker was started, or none is left."""
    while any(process.poll() is None for process in started):
        if all(trial.state not in ("waiting", "running") for trial in board.trials()):
            return
        time.sleep(_PAUSE)
    if started:
        logger.warning("none of the %d workers is left; going on in this process", len(started))
    worker.work()


def affordable(plan: Plan, board: Board) -> int:
    """Return how many trials each arm can have within the budget, by the time that those so far took."""
    took = [trial.took for trial in board.trials() if trial.took is not None and trial.score is not None]
    if not took:
        raise RunFailedError("no trial of the first round has ended well, so a budget cannot be planned")
    each = sum(took) / len(took)
    number = plan.affordable(each)
    logger.info("%.0f s a trial: %d trials of each of %d arms", each, number, len(plan.arms))
    return number


def _train_missing_finals(plan: Plan, board: Board, worker: Worker) -> None:
    """Train the finalists' runs that are not in this folder, as workers elsewhere have trained them."""
    for trial in finalists(plan, board):
        for seed in plan.final_seeds:
            if not is_trained(plan, trial, seed):
                worker.train_final(trial, seed)


def _written(plan: Plan, board: Board, criterion: Criterion, found: Verdict) -> Swept:
    """Write the winner's recipe and model, everything as JSON, and the page."""
    settings = next(trial.settings for trial in finalists(plan, board) if trial.arm == found.winner)
    recipe, model = plan.folder / "winner.yaml", plan.folder / "winner"
    write_text(recipe, dump_recipe(plan.arm(found.winner).recipe(plan.recipe, settings)))
    shutil.rmtree(model, ignore_errors=True)
    shutil.copytree(plan.final_folder(found.winner, plan.final_seeds[0]).model, model)
    trials = [asdict(trial) for trial in board.trials()]
    write_json(plan.folder / "sweep.json", {"verdict": asdict(found), "trials": trials})
    report = read_report([plan.final_folder(row.arm).path for row in found.rows], seeds=plan.final_seeds)
    page = write_report(report, plan.folder, overwrite=True, chapters=[chapter(plan, board, criterion, found)])
    return Swept(found, recipe, model, page)
