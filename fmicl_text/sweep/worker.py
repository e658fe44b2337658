"""A worker: takes one trial after the other and trains it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fmicl_text.encoders.kept import KeptEncoder
from fmicl_text.errors import InputError, RunFailedError
from fmicl_text.files import read_json
from fmicl_text.recipe.schema import Recipe
from fmicl_text.runs.folder import RunFolder
from fmicl_text.sweep.arms import UNSET
from fmicl_text.sweep.board import RUN, Board, note_seconds
from fmicl_text.sweep.board import Trial as Best
from fmicl_text.sweep.finalists import finalists, has_settings, trial_and_seed
from fmicl_text.sweep.plan import FINALISTS, Plan
from fmicl_text.sweep.progress import progress
from fmicl_text.sweep.space import Values
from fmicl_text.training.criterion import Criterion
from fmicl_text.training.non_finite import NonFiniteError
from fmicl_text.training.provenance import changes, pinned
from fmicl_text.training.train import Prepared, prepare, train_on

if TYPE_CHECKING:
    from optuna import Trial

logger = logging.getLogger(__name__)

_REFUSED = (InputError, NonFiniteError, torch.OutOfMemoryError)
"""What is about the settings of a trial, and no reason to end the sweep."""
_PAUSE = 1.0
"""Seconds between two looks at a board with nothing to do."""


class Worker:
    """Trains the trials of a sweep; what they read, the encoder among it, is loaded once.

    Args:
        plan: The sweep.
        board: Its trials.
        criterion: The score that chooses.
    """

    def __init__(self, plan: Plan, board: Board, criterion: Criterion) -> None:
        self._plan = plan
        self._board = board
        self._criterion = criterion
        self._prepared: dict[str, Prepared] = {}
        self._encoder = KeptEncoder()

    def work(self, until_done: bool = False, leader: int | None = None) -> None:
        """Train whatever waits, until nothing does and nothing runs elsewhere.

        Args:
            until_done: Stay until the whole sweep is done.
            leader: Number of the process that started this one, to end when that has ended.
        """
        while leader is None or os.getppid() == leader:
            arm = self._board.next_arm()
            if arm is not None:
                self._take(arm)
            elif self._board.facts.get("done") if until_done else not self._is_running():
                return
            else:
                time.sleep(_PAUSE)

    def _is_running(self) -> bool:
        return any(trial.state == "running" for trial in self._board.trials())

    def _take(self, arm: str) -> None:
        trial = self._board.run(arm, self._final if arm == FINALISTS else self._trial(arm), _REFUSED)
        tidy(self._plan, self._board)
        if trial is not None:
            logger.info(progress(trial, self._board, self._criterion))

    def _trial(self, name: str) -> Any:
        from optuna import TrialPruned

        arm = self._plan.arm(name)

        def train(trial: Trial, place: int) -> float:
            whole = self._plan.planned(arm, 1)[0] if place == 0 else None  # the default, or the first of a grid

            def choice(key: str, values: Values) -> Any:
                return values.suggest(trial, key) if whole is None or key in whole else UNSET

            settings = arm.choose(choice)
            recipe = self._plan.trial_recipe(arm, settings)
            folder = self._plan.trial_folder(f"{name}-{place:03}")
            halving = [Halving(trial, self._criterion)] if self._plan.halving else []
            resume = folder.recipe.is_file()
            try:
                train_on(self._inputs(recipe), recipe, folder.path, resume=resume, callbacks=halving)
            except TrialPruned:
                folder.write_manifest("interrupted")  # as `fmicl train --resume` would continue it
                raise
            note_seconds(trial, read_json(folder.manifest)["seconds"])
            return during_score(folder)

        return train

    def _final(self, trial: Trial, place: int) -> float:
        name, seed = trial_and_seed(trial.user_attrs[RUN])
        best = next((one for one in finalists(self._plan, self._board) if one.name == name), None)
        if best is None:
            raise InputError(f"{name} is no finalist any more: a later trial was better")
        if seed not in self._plan.final_seeds:
            raise InputError(f"seed {seed} is not asked for any more")
        folder = self.train_final(best, seed)
        note_seconds(trial, read_json(folder.manifest)["seconds"])
        return during_score(folder)

    def train_final(self, best: Best, seed: int) -> RunFolder:
        """Train the settings of an arm's best trial with a seed of the finalists, and return the run's folder."""
        recipe = self._plan.final_recipe(self._plan.arm(best.arm), best.settings, seed)
        folder = self._plan.final_folder(best.arm, seed)
        resume = has_settings(folder, recipe)
        other = folder.recipe.is_file() and not resume  # of a trial that was the best until there were more
        train_on(self._inputs(recipe), recipe, folder.path, resume=resume, overwrite=other)
        return folder

    def _inputs(self, recipe: Recipe) -> Prepared:
        """Return what a recipe reads, which is the same for most trials."""
        reads = {"model", "data"}
        if any(source.views == "group" for source in recipe.data.sources.values()):  # pairs that the seed draws
            reads.add("seeds")
        key = recipe.model_dump_json(include=reads | {"evaluate"})
        if key not in self._prepared:
            # Finalists are measured by more than trials are, and read the same besides.
            name = f"origin {hashlib.sha256(recipe.model_dump_json(include=reads).encode()).hexdigest()[:16]}"
            at_known = pinned(recipe, self._board.facts.get(name, {}))
            self._prepared[key] = prepare(at_known, self._encoder.load)
            self._refuse_other_data(name, self._prepared[key].origin)
        return self._prepared[key]

    def _refuse_other_data(self, name: str, origin: dict[str, Any]) -> None:
        """Stop where the data or the base model is another one than for trials before: their scores do not compare."""
        known, origin = self._board.facts.get(name, {}), json.loads(json.dumps(origin))
        if found := changes(known, origin):
            raise RunFailedError(
                f"{'; '.join(found)}, and trials do not compare; put back what there was, or begin another sweep with "
                "--set name=NAME"
            )
        self._board.note(**{name: origin | {"data": known.get("data", {}) | origin["data"]}})


class Halving(TrainerCallback):
    """Stops a trial whose score, at a step where those of its arm are compared, is not among the best third.

    Asynchronous successive halving (Li et al., MLSys 2020), by Optuna.

    Args:
        trial: The trial.
        criterion: The score.
    """

    def __init__(self, trial: Trial, criterion: Criterion) -> None:
        self._trial = trial
        self._criterion = criterion

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **kwargs: Any,
    ) -> None:
        """Report the score.

        Raises:
            TrialPruned: The trial is behind.
        """
        from optuna import TrialPruned

        self._trial.report(metrics[f"eval_{self._criterion.logged}"], state.global_step)
        if state.global_step < state.max_steps and self._trial.should_prune():
            raise TrialPruned


def during_score(folder: RunFolder) -> float:
    """Return the best score that was measured in a run, in its unit."""
    best = folder.read_manifest()[1].best
    if best is None or not best.model_extra:
        raise InputError(f"{folder.path}: nothing was measured during training")
    return float(next(iter(best.model_extra.values())))


def tidy(plan: Plan, board: Board) -> None:
    """Delete the checkpoints of all trials that have ended, and the weights of all but the best."""
    ended = [t for t in board.trials() if t.state not in ("waiting", "running")]
    trials = [trial for trial in ended if trial.arm != FINALISTS]
    kept = {trial.name for trial in board.best(trials)[: plan.keep]}
    for trial in trials:
        folder = plan.trial_folder(trial.name)
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
        if trial.name not in kept:
            shutil.rmtree(folder.model, ignore_errors=True)
    for trial in ended:
        if trial.run is not None:
            name, seed = trial_and_seed(trial.run)
            arm, _, _ = name.rpartition("-")
            shutil.rmtree(plan.final_folder(arm, seed).checkpoints, ignore_errors=True)
