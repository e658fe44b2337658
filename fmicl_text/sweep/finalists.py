"""The settings that are trained again with several seeds: the best of an arm each."""

from __future__ import annotations

from collections.abc import Sequence

from fmicl_text.errors import RunFailedError
from fmicl_text.sweep.arms import OWN
from fmicl_text.sweep.board import Board, Trial
from fmicl_text.sweep.plan import FINALISTS, Plan


def finalists(plan: Plan, board: Board) -> list[Trial]:
    """Return the best trial of each finalist, InfoNCE first, the recipe's own setting last.

    Raises:
        RunFailedError: No trial of InfoNCE, or of anything else, has a score; with the reasons.
    """
    trials = [trial for trial in board.trials() if trial.arm != FINALISTS]
    best: dict[str, Trial] = {}
    for trial in board.best(trials):
        best.setdefault(trial.arm, trial)
    infonce, own = best.pop(plan.arms[0].name, None), best.pop(OWN, None)
    if infonce is None or (not best and own is None):
        reasons = dict.fromkeys(f"{trial.name}: {trial.why}" for trial in trials if trial.why)
        raise RunFailedError("\n".join(["too few trials have a score for a verdict", *list(reasons)[:5]]))
    chosen = [infonce, *list(best.values())[: plan.finalists]]
    known = [plan.arm(trial.arm).recipe(plan.recipe, trial.settings) for trial in chosen]
    if own is not None and plan.arm(OWN).recipe(plan.recipe, {}) not in known:
        chosen.append(own)
    return chosen


def runs_of(plan: Plan, arms: Sequence[str]) -> list[str]:
    """Return the runs of finalists: arm and seed, as their folders."""
    return [f"{arm}/seed-{seed}" for seed in plan.final_seeds for arm in arms]
