"""How long a run would take, from a few steps of it and one evaluation of each kind."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from transformers import TrainerCallback

from fmicl_text.evaluation.dimensions import measure_at
from fmicl_text.evaluation.kind import Effort
from fmicl_text.evaluation.scored_model import ScoredModel
from fmicl_text.recipe.schema import Recipe
from fmicl_text.runs.folder import RunFolder
from fmicl_text.training.build import build_trainer
from fmicl_text.training.criterion import EvaluationInTraining
from fmicl_text.training.inputs import Inputs, load_inputs
from fmicl_text.training.trainer import ContrastiveTrainer

STEPS = 6
"""How many steps are run; the first one, which includes setting up, does not count."""
_NOTHING_ELSE = {
    "max_steps": STEPS,
    "save_strategy": "no",
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "report_to": "none",
}


class _Clock(TrainerCallback):
    """Notes when a step ends."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Note it."""
        self.times.append(time.perf_counter())


@dataclass(frozen=True)
class Times:
    """Seconds of the parts of a run.

    Attributes:
        step: A step of training.
        during: One evaluation by what chooses the checkpoint; 0 if nothing does.
        after: Each of ``evaluate.after``, by the name of its result, at all of ``evaluate.dims``.
    """

    step: float
    during: float
    after: Mapping[str, float]


def times(recipe: Recipe, results: bool = True) -> Times:
    """Train a few steps in a temporary folder, then measure once by each evaluation of a run.

    Args:
        recipe: The recipe.
        results: Whether also by ``evaluate.after``.

    Raises:
        InputError: As :func:`fmicl_text.training.train.train`.
    """
    inputs = load_inputs(recipe)
    step, trainer = _train(recipe, inputs)
    during = 0.0
    if inputs.during is not None:
        during = _seconds(partial(EvaluationInTraining(inputs.during), trainer.model))
    scored, after = ScoredModel(trainer.model, "the model in training", None), {}
    for name, loaded in inputs.after.items() if results else ():
        after[name] = _seconds(partial(measure_at, loaded, scored, Effort(), recipe.evaluate.dims))
    return Times(step, during, after)


def _train(recipe: Recipe, inputs: Inputs) -> tuple[float, ContrastiveTrainer]:
    recipe = recipe.model_copy(update={"train": recipe.train | _NOTHING_ELSE})
    clock = _Clock()
    with tempfile.TemporaryDirectory() as scratch:
        trainer = build_trainer(recipe, inputs, recipe.seeds[0], RunFolder(Path(scratch)))
        trainer.add_callback(clock)
        trainer.train()
    return median(later - earlier for earlier, later in zip(clock.times, clock.times[1:], strict=False)), trainer


def _seconds(evaluate: Callable[[], object]) -> float:
    begun = time.perf_counter()
    evaluate()
    return time.perf_counter() - begun
