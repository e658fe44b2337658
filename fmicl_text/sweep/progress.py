"""One line for each trial that ends: its settings and score, the best so far, and the time left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import mean

from fmicl_text.report.cells import number
from fmicl_text.sweep.board import Board, Trial
from fmicl_text.sweep.plan import FINALISTS
from fmicl_text.training.callbacks import duration
from fmicl_text.training.criterion import Criterion


def progress(trials: Sequence[Trial], before: set[str], arm: str, criterion: Criterion, board: Board) -> Iterator[str]:
    """Yield a line for each trial of an arm that has ended since ``before``, the names of those that had not."""
    ended = [trial for trial in trials if trial.state not in ("waiting", "running")]
    stage = [trial for trial in trials if (trial.arm == FINALISTS) == (arm == FINALISTS)]
    done = sum(trial in ended for trial in stage)
    tried = [trial for trial in ended if trial.arm != FINALISTS]
    for trial in ended:
        if trial.arm != arm or trial.name not in before:
            continue
        what = "final run" if arm == FINALISTS else "trial"
        parts = [
            f"{what} {done} of {len(stage)}: {trial.arm}: {trial.described or 'as it is'}: {outcome(trial, criterion)}"
        ]
        if arm != FINALISTS and (best := board.best(tried)):
            shown = number(best[0].score or 0.0, criterion.metric.unit)
            parts.append(f"best so far {shown} ({best[0].arm}{': ' if best[0].described else ''}{best[0].described})")
        times = [one.seconds for one in stage if one.seconds is not None]
        running = sum(one.state == "running" for one in stage) + 1
        if times and done < len(stage):
            parts.append(f"about {duration(mean(times) * (len(stage) - done) / running)} left")
        yield "; ".join(parts)


def outcome(trial: Trial, criterion: Criterion) -> str:
    """Return how a trial ended, in words."""
    if trial.state == "pruned":
        return "stopped early, as others of its kind are ahead"
    if trial.score is None:
        return f"failed: {(trial.why or 'unknown').splitlines()[0]}"
    took = f" in {duration(trial.seconds)}" if trial.seconds is not None else ""
    return f"{criterion.name} {criterion.metric.name} {number(trial.score, criterion.metric.unit)}{took}"
