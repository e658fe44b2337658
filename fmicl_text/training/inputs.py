"""What a run reads, loaded and checked before its first step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from fmicl_text.data.mining import mined
from fmicl_text.data.sources import load_heldout, load_train
from fmicl_text.data.streams import Stream, load_stream
from fmicl_text.errors import InputError
from fmicl_text.evaluation.pair_sets import PairSet, stsb_pair_set
from fmicl_text.evaluation.suites import Pairs, load_pairs, load_suite, stsb_pairs
from fmicl_text.recipe.schema import Recipe
from fmicl_text.training.processes import in_first_process

if TYPE_CHECKING:
    from datasets import Dataset

_NO_SUITES = ("heldout", "geometry")
"""What ``evaluate.after`` may name beside suites."""


@dataclass(frozen=True)
class Inputs:
    """Training rows, held-out pairs, the STS-B dev pairs that choose the checkpoint, and those of the geometry."""

    train: Dataset | Stream
    heldout: Dataset | None
    development: Pairs | None
    geometry: PairSet | None


def load_inputs(recipe: Recipe, mine: bool = True) -> Inputs:
    """Load training rows, held-out rows and the development pairs, and check that every suite's data is there.

    Args:
        recipe: The recipe.
        mine: Whether to mine the hard negatives that it asks for, which takes a while.

    Raises:
        InputError: All that is missing or broken, at once.
    """
    section = recipe.evaluate
    problems: list[str] = []
    loaded: dict[str, Any] = {}
    steps: dict[str, Callable[[], Any]] = {
        "train": lambda: load_stream(recipe.data) if recipe.data.streaming else _train_rows(recipe, mine),
        "heldout": lambda: load_heldout(recipe.data, recipe.seeds[0]),
        "development": lambda: stsb_pairs("dev", section.data) if section.during else None,
        **{name: partial(_complete, name, section.data) for name in section.after if name not in _NO_SUITES},
        "geometry": lambda: stsb_pair_set(section.data) if "geometry" in section.after else None,
    }
    for name, step in steps.items():
        try:
            loaded[name] = step()
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(list(dict.fromkeys(problems)))
    return Inputs(loaded["train"], loaded["heldout"], loaded["development"], loaded["geometry"])


def _train_rows(recipe: Recipe, mine: bool) -> Dataset:
    """Load the rows to train on; of several processes the first mines, and the others find the result in the cache."""
    rows = load_train(recipe.data, recipe.seeds[0])
    if recipe.data.mine is None or not mine:
        return rows
    add_negatives = partial(mined, rows, recipe.data.mine, recipe.model, recipe.data.train)
    in_first_process(add_negatives)
    return add_negatives()


def _complete(suite: str, data: str | None) -> None:
    """A run that ends without the figures it was started for is caught before it starts."""
    _, missing = load_pairs(load_suite(suite), data)
    if missing:
        raise InputError([f"evaluate.after: {suite}: {task} is missing: {why}" for task, why in missing.items()])
