"""How long a run would take, from a few steps of it: ``fmicl train --dry-run --time``."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from transformers import TrainerCallback

from fmicl_text.recipe.schema import Recipe
from fmicl_text.runs.folder import RunFolder
from fmicl_text.training.build import build_trainer
from fmicl_text.training.inputs import load_inputs

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


def seconds_per_step(recipe: Recipe) -> float:
    """Train a few steps in a temporary folder, and return the median of a step's seconds.

    Raises:
        InputError: As :func:`fmicl_text.training.train.train`.
    """
    recipe = recipe.model_copy(update={"train": recipe.train | _NOTHING_ELSE})
    clock = _Clock()
    with tempfile.TemporaryDirectory() as scratch:
        trainer = build_trainer(recipe, load_inputs(recipe), recipe.seeds[0], RunFolder(Path(scratch)))
        trainer.add_callback(clock)
        trainer.train()
    return median(later - earlier for earlier, later in zip(clock.times, clock.times[1:], strict=False))
