"""One line for each trial that ends: its settings and score, the best so far, and the time left."""

from __future__ import annotations

from statistics import mean

from fmicl_text.report.cells import number
from fmicl_text.sweep.board import Board, Trial
from fmicl_text.sweep.plan import FINALISTS
from fmicl_text.training.callbacks import duration
from fmicl_text.training.criterion import Criterion


def progress(trial: Trial, board: Board, criterion: Criterion) -> str:
    """Return the line of a trial that has just ended."""
    final = trial.arm == FINALISTS
    trials = [one for one in board.trials() if (one.arm == FINALISTS) == final]
    # Others may have ended since, at other workers: each is counted once, in the order of their ends.
    ended = [one for one in trials if one.ended is not None and one.ended <= (trial.ended or 0.0)]
    what, name = ("final run", str(trial.run)) if final else ("trial", _named(trial))
    parts = [f"{what} {len(ended)} of {len(trials)}: {name}: {outcome(trial, criterion)}"]
    if not final and (best := board.best(ended)):
        shown = number(best[0].score or 0.0, criterion.metric.unit)
        parts.append(f"best so far {shown} ({_named(best[0])})")
    times = [one.took for one in trials if one.took is not None and one.score is not None]
    running = sum(one.state == "running" for one in trials) + 1
    if times and len(ended) < len(trials):
        parts.append(f"about {duration(mean(times) * (len(trials) - len(ended)) / running)} left")
    return "; ".join(parts)


def _named(trial: Trial) -> str:
    return f"{trial.arm}: {trial.described}" if trial.described else trial.arm


def outcome(trial: Trial, criterion: Criterion) -> str:
    """Return how a trial ended, in words."""
    if trial.state == "pruned":
        return "stopped early, as others of its kind are ahead"
    if trial.score is None:
        return f"failed: {(trial.why or 'unknown').splitlines()[0]}"
    took = f" in {duration(trial.seconds)}" if trial.seconds is not None else ""
    return f"{criterion.name} {criterion.metric.name} {number(trial.score, criterion.metric.unit)}{took}"
