"""The settings that are trained again with several seeds: the best of an arm each."""

from __future__ import annotations

from collections.abc import Sequence

from fmicl_text.errors import RunFailedError
from fmicl_text.recipe.file import load_recipe
from fmicl_text.recipe.schema import Recipe
from fmicl_text.runs.folder import RunFolder
from fmicl_text.sweep.arms import OWN
from fmicl_text.sweep.board import Board, Trial
from fmicl_text.sweep.plan import FINALISTS, Plan
from fmicl_text.training.measure import is_measured
from fmicl_text.training.train import is_finished

_SEED = "/seed-"


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
        reasons = dict.fromkeys(f"{trial.name}: {trial.why.splitlines()[0]}" for trial in trials if trial.why)
        raise RunFailedError("\n".join(["too few trials have a score for a verdict", *list(reasons)[:5]]))
    chosen = [infonce, *list(best.values())[: plan.finalists]]
    known = [plan.arm(trial.arm).recipe(plan.recipe, trial.settings) for trial in chosen]
    if own is not None and plan.arm(OWN).recipe(plan.recipe, {}) not in known:
        chosen.append(own)
    return chosen


def runs_of(plan: Plan, chosen: Sequence[Trial]) -> list[str]:
    """Return the names of the finalists' runs: the trial whose settings each has, and its seed."""
    return [f"{trial.name}{_SEED}{seed}" for seed in plan.final_seeds for trial in chosen]


def trial_and_seed(run: str) -> tuple[str, int]:
    """Return the name of a trial, and the seed, from the name of a finalist's run."""
    trial, _, seed = run.rpartition(_SEED)
    return trial, int(seed)


def is_trained(plan: Plan, trial: Trial, seed: int) -> bool:
    """Whether a finalist's run is in this folder, undamaged, with all that judges it.

    It is not if another trial of its arm was the best then.
    """
    folder = plan.final_folder(trial.arm, seed)
    recipe = plan.final_recipe(plan.arm(trial.arm), trial.settings, seed)
    if not (has_settings(folder, recipe) and is_finished(folder)):
        return False
    return all(is_measured(folder.result(asked.result_name)) for asked in recipe.evaluate.after)


def has_settings(folder: RunFolder, recipe: Recipe) -> bool:
    """Whether the run in a folder, if there is one, has a recipe."""
    if not folder.recipe.is_file():
        return False
    begun = load_recipe(folder.recipe)
    return recipe.pinned_as(begun) == begun
