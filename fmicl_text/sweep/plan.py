"""What a sweep does: which settings, how often, where; and how much time and space that takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmicl_text.errors import InputError
from fmicl_text.evaluation.kind import Evaluation, Loaded
from fmicl_text.evaluation.kinds.geometry import GeometryOfPairs
from fmicl_text.evaluation.registry import evaluation
from fmicl_text.recipe.file import dump_recipe
from fmicl_text.recipe.schema import Recipe
from fmicl_text.runs.folder import RunFolder
from fmicl_text.sweep.arms import OWN, Arm, Settings, without_results
from fmicl_text.sweep.label_free import agreement
from fmicl_text.training.criterion import Criterion
from fmicl_text.training.inputs import Inputs

FINALISTS = "finalists"
"""Where the best settings are trained again, each with several seeds."""
TRIALS = 8
"""Of each arm, where neither a number, a budget nor a grid decides it."""
_MOST_OF_A_GRID = 10_000
_FEW = 0.01  # of the items that judge: those that happen to be in two data sets


@dataclass(frozen=True)
class Plan:
    """A sweep.

    Attributes:
        recipe: What is varied.
        arms: What is compared; the first is InfoNCE.
        folder: Where everything goes.
        storage: Where the trials are kept; see :class:`fmicl_text.sweep.board.Board`.
        trials: Of each arm; a grid that is smaller has fewer, and InfoNCE then no more.
        budget: Seconds in place of a number of trials, of all workers together; decided after the first round.
        finalists: How many arms are trained again, besides InfoNCE and the recipe's own setting.
        seeds: How many seeds each of them gets.
        keep: How many trials keep their weights.
        halving: Whether trials that are behind are stopped early.
        workers: Processes on this machine.
    """

    recipe: Recipe
    arms: Sequence[Arm]
    folder: Path
    storage: str
    trials: int | None = None
    budget: float | None = None
    finalists: int = 3
    seeds: int = 3
    keep: int = 1
    halving: bool = False
    workers: int = 1

    @property
    def digest(self) -> str:
        """Digest of what is tried: a sweep that goes on tries the same."""
        arms = [(arm.name, arm.loss, {key: str(values) for key, values in arm.tuned.items()}) for arm in self.arms]
        return hashlib.sha256((dump_recipe(self.recipe) + json.dumps(arms)).encode()).hexdigest()[:16]

    @property
    def final_seeds(self) -> list[int]:
        """Seeds of the finalists: none that chose them."""
        first = max(self.recipe.seeds) + 1
        return list(range(first, first + self.seeds))

    def arm(self, name: str) -> Arm:
        """Return an arm by its name."""
        return next(arm for arm in self.arms if arm.name == name)

    def number(self) -> int | None:
        """Return how many trials an arm has; None if the budget is to decide it."""
        if self.budget is not None:
            return None
        return self._at_most(self.trials) if self.trials is not None else self._largest or TRIALS

    @property
    def _largest(self) -> int | None:
        """Size of the largest grid of what is compared with InfoNCE, or of InfoNCE alone; None if any has no end."""
        compared = [arm for arm in self.arms if not arm.is_infonce and arm.name != OWN] or self.arms[:1]
        grids = [arm.grid(_MOST_OF_A_GRID) for arm in compared]
        sizes = [len(grid) for grid in grids if grid is not None]
        return max(sizes) if len(sizes) == len(grids) else None

    def _at_most(self, number: int) -> int:
        """Return a number of trials that InfoNCE has no more of than anything else."""
        return number if self._largest is None else min(number, self._largest)

    def planned(self, arm: Arm, number: int) -> list[Settings]:
        """Return what is fixed of each trial of an arm: all of a grid that fits, else the first, its default."""
        if arm.name == OWN:
            return [{}]
        default = arm.default(self.recipe)
        grid = arm.grid(_MOST_OF_A_GRID)
        if grid is not None:
            grid.sort(key=lambda settings: settings != default)
            default = grid[0]
        return grid if grid is not None and len(grid) <= number else [default, *({} for _ in range(number - 1))]

    def is_default(self, name: str, settings: Mapping[str, Any]) -> bool:
        """Return whether settings of an arm are those that it has when nothing is tuned; a grid may be without them."""
        arm = self.arm(name)
        return arm.recipe(self.recipe, settings) == arm.recipe(self.recipe, {})

    def trial_recipe(self, arm: Arm, settings: Mapping[str, Any]) -> Recipe:
        """Return the recipe of a trial."""
        return without_results(arm.recipe(self.recipe, settings), self.recipe.seeds[0])

    def trial_folder(self, name: str) -> RunFolder:
        """Return the run folder of a trial."""
        return RunFolder(self.folder / "trials" / name)

    def final_recipe(self, arm: Arm, settings: Mapping[str, Any], seed: int) -> Recipe:
        """Return the recipe of a finalist: everything that judges is measured."""
        recipe = without_results(arm.recipe(self.recipe, settings), seed)
        evaluate = recipe.evaluate.model_copy(update={"after": self.recipe.evaluate.after})
        return recipe.model_copy(update={"evaluate": evaluate})

    def final_folder(self, arm: str, seed: int | None = None) -> RunFolder:
        """Return the folder of a finalist, or of one of its seeds."""
        folder = self.folder / FINALISTS / arm
        return RunFolder(folder if seed is None else folder / f"seed-{seed}")

    def runs(self, number: int) -> int:
        """Return how many runs there are: trials, then finalists."""
        trials = sum(len(self.planned(arm, number)) for arm in self.arms)
        return trials + self.most_finalists * self.seeds

    def affordable(self, each: float) -> int:
        """Return how many trials each arm can have within the budget, finalists included.

        Args:
            each: Seconds of a run.
        """
        assert self.budget is not None  # there is a number of trials otherwise
        trials = self.budget * self.workers / each - self.most_finalists * self.seeds
        return self._at_most(max(int((trials - 1) / (len(self.arms) - 1)), 1))  # the recipe as it is has one

    @property
    def most_finalists(self) -> int:
        """How many finalists there are, with InfoNCE and the recipe's own setting."""
        return min(self.finalists + 2, len(self.arms))

    def bytes(self, parameters: int) -> int:
        """Return about how much space is needed at most.

        Weights are float32. A run that trains has up to three checkpoints of weights and two moments, and the model;
        all that stays of it is the model, of finalists and of the trials that are kept.
        """
        weights = 4 * parameters
        return weights * (self.workers * (3 * 3 + 1) + self.keep + self.most_finalists * self.seeds + 1)


def judged(recipe: Recipe, inputs: Inputs) -> tuple[Recipe, Criterion, list[str]]:
    """Return the recipe with something that judges, the score that chooses, and warnings where these are one.

    Raises:
        InputError: Nothing is measured in training, so no trial has a score.
    """
    criterion = inputs.during
    if criterion is None:
        raise InputError(
            f"evaluate.during: a sweep needs a score that chooses ({inputs.choice.why}); name held-out pairs "
            "(heldout), a file of pairs, a suite, knn, or without any labels {name: geometry, metric: ...}"
        )
    warnings = []
    during = recipe.evaluate.during
    chooses = during if isinstance(during, Evaluation) else evaluation(criterion.name)
    if isinstance(chooses, GeometryOfPairs):
        warnings.append(
            f"{chooses.name} {criterion.metric.name} chooses: no label says that it is right; "
            f"{agreement(criterion.metric)}; where evaluate.after has labels, the verdict says it of these final runs"
        )
    if not recipe.evaluate.after:
        evaluate = recipe.evaluate.model_copy(update={"after": [chooses.model_copy(update={"metric": None})]})
        why = f"evaluate.after is empty, so {chooses.name} judges what it chose itself: the verdict is too favourable"
        return recipe.model_copy(update={"evaluate": evaluate}), criterion, [*warnings, why]
    chosen_by = _items(criterion.loaded)
    for asked in recipe.evaluate.after:
        judging = _items(inputs.after[asked.result_name])
        shared = len(judging & chosen_by)
        if (judging and shared == len(judging)) or asked.model_copy(update={"metric": chooses.metric}) == chooses:
            same = "chooses and judges on the same data: the verdict is too favourable"
        elif shared > _FEW * len(judging):
            same = f"{shared:,} of the {len(judging):,} items that judge also choose: the verdict is too favourable"
        else:
            continue
        warnings.append(f"{asked.result_name}: {same}; name other data in evaluate.after")
    return recipe, criterion, warnings


def _items(loaded: Loaded) -> set[frozenset[str]]:
    """Return what an evaluation scores, whatever the names of its files and the order of rows and columns."""
    return {frozenset(item) for item in loaded.items()}
