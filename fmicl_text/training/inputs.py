"""What a run reads, loaded and checked before its first step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from fmicl_text.data.images import Images, load_train_images
from fmicl_text.data.mining import mined
from fmicl_text.data.sources import load_heldout, load_train
from fmicl_text.data.streams import Stream, load_stream
from fmicl_text.encoders.text import images_of
from fmicl_text.errors import InputError
from fmicl_text.evaluation.kind import Evaluation, Given, Loaded
from fmicl_text.recipe.schema import Recipe
from fmicl_text.training.criterion import Choice, Criterion, choose
from fmicl_text.training.processes import in_first_process

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Inputs:
    """Training rows, held-out pairs, and the evaluations with their data.

    Attributes:
        train: What is trained on.
        skipped: How many rows were left out because their images are broken.
        heldout: Pairs held out from training.
        choice: What chooses the checkpoint, and why.
        after: Name of a result -> the evaluation, of ``evaluate.after``.
    """

    train: Dataset | Stream
    heldout: Dataset | None
    choice: Choice
    after: Mapping[str, Loaded]
    skipped: int = 0

    @property
    def during(self) -> Criterion | None:
        """The score that chooses the checkpoint."""
        return self.choice.criterion


def load_inputs(recipe: Recipe, mine: bool = True) -> Inputs:
    """Load training rows, held-out rows and the data of every evaluation.

    Args:
        recipe: The recipe.
        mine: Whether to mine the hard negatives that it asks for, which takes a while.

    Raises:
        InputError: Everything that is missing or broken, at once; of evaluations, if the held-out rows can be loaded.
    """
    section = recipe.evaluate
    problems: list[str] = []

    def attempt(step: Callable[[], Any]) -> Any:
        try:
            return step()
        except InputError as error:
            problems.extend(error.problems)

    skipped = 0
    if recipe.data.views == "augment":
        train, skipped = attempt(lambda: _train_images(recipe)) or (None, 0)
    else:
        train = attempt(lambda: load_stream(recipe.data) if recipe.data.streaming else _train_rows(recipe, mine))
    heldout = attempt(lambda: load_heldout(recipe.data, recipe.seeds[0]))
    if heldout is None and recipe.data.heldout is not None:
        raise InputError(list(dict.fromkeys(problems)))
    size = images_of(recipe.model) if recipe.data.views == "augment" else None
    given = Given(section.data, heldout, size, recipe.data.augment)
    choice = attempt(lambda: choose(section, given))
    after = {asked.result_name: attempt(partial(_complete, asked, given)) for asked in section.after}
    if problems:
        raise InputError(list(dict.fromkeys(problems)))
    return Inputs(train, heldout, choice, after, skipped)


def _train_images(recipe: Recipe) -> Images:
    """Load the images to train on; of several processes the first decodes, and the others find them in the cache."""
    size = images_of(recipe.model)
    load = partial(load_train_images, recipe.data, size)
    in_first_process(load)
    return load()


def _train_rows(recipe: Recipe, mine: bool) -> Dataset:
    """Load the rows to train on; of several processes the first mines, and the others find the result in the cache."""
    rows = load_train(recipe.data, recipe.seeds[0])
    if recipe.data.mine is None or not mine:
        return rows
    add_negatives = partial(mined, rows, recipe.data.mine, recipe.model, recipe.data.train)
    in_first_process(add_negatives)
    return add_negatives()


def _complete(asked: Evaluation, given: Given) -> Loaded:
    """Load an evaluation, and refuse one that would end without some of its figures, before training starts."""
    loaded = asked.load(given)
    if loaded.missing:
        raise InputError(
            [f"evaluate.after: {asked.name}: {task} is missing: {why}" for task, why in loaded.missing.items()]
        )
    return loaded
