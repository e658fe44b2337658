"""What a run reads, loaded and checked before its first step."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fmicl_text.data.formats import ending
from fmicl_text.data.images import DIGITS, Images, load_train_images
from fmicl_text.data.mining import mined
from fmicl_text.data.mixture import SourceSection
from fmicl_text.data.section import DataSection
from fmicl_text.data.sources import load_heldout, load_train
from fmicl_text.data.streams import Stream, load_stream
from fmicl_text.data.texts import TO_TRAIN_ON_IMAGES, ImagesError
from fmicl_text.encoders import images, lora
from fmicl_text.encoders.openvino import require_openvino
from fmicl_text.encoders.section import ModelSection
from fmicl_text.encoders.text import images_of, load_encoder
from fmicl_text.errors import InputError
from fmicl_text.evaluation.kind import Evaluation, Given, Loaded
from fmicl_text.files import user_path
from fmicl_text.recipe.schema import Recipe
from fmicl_text.recipe.training_arguments import LARS
from fmicl_text.training.criterion import Choice, Criterion, choose
from fmicl_text.training.processes import in_first_process

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

LoadEncoder = Callable[[ModelSection], "SentenceTransformer"]


@dataclass(frozen=True)
class Inputs:
    """Training rows, held-out pairs, and the evaluations with their data.

    Attributes:
        train: What is trained on, by the name of its source; the name of a single one is empty.
        skipped: How many rows were left out because their images are broken.
        heldout: Pairs held out from training, by the name of their source.
        choice: What chooses the checkpoint, and why.
        after: Name of a result -> the evaluation, of ``evaluate.after``.
        load_encoder: Loads the encoder of a training, which changes it.
    """

    train: Mapping[str, Dataset | Stream]
    heldout: Mapping[str, Dataset]
    choice: Choice
    after: Mapping[str, Loaded]
    skipped: int = 0
    load_encoder: LoadEncoder = load_encoder

    @property
    def during(self) -> Criterion | None:
        """The score that chooses the checkpoint."""
        return self.choice.criterion


def load_inputs(recipe: Recipe, mine: bool = True, load_encoder: LoadEncoder = load_encoder) -> Inputs:
    """Load training rows, held-out rows and the data of every evaluation.

    Args:
        recipe: The recipe.
        mine: Whether to mine the hard negatives that it asks for, which takes a while.
        load_encoder: What loads the encoder of each training.

    Raises:
        InputError: Everything that is missing or broken, at once; of evaluations, if the held-out rows can be loaded.
            First of all, if a library that the recipe needs is not installed.
        ImagesError: If images are to be read as texts, before an evaluation of texts asks the Hub for its data.
    """
    require_extras(recipe)
    section = recipe.evaluate
    problems: list[str] = []

    def attempt(step: Callable[[], Any]) -> Any:
        try:
            return step()
        except ImagesError:
            raise
        except InputError as error:
            problems.extend(error.problems)

    train: dict[str, Dataset | Stream] = {}
    skipped = 0
    for name, source in recipe.data.sources.items():
        if source.views == "augment":
            train[name], skipped = attempt(partial(_train_images, source, recipe.model)) or (None, 0)
        else:
            train[name] = attempt(partial(_train_rows, source, recipe, mine))
    heldout = attempt(partial(load_heldouts, recipe))
    if heldout is None:
        raise InputError(list(dict.fromkeys(problems)))
    given = given_of(recipe, heldout)
    choice = attempt(lambda: choose(section, given))
    after = {asked.result_name: attempt(partial(_complete, asked, given)) for asked in section.after}
    if problems:
        raise InputError(list(dict.fromkeys(problems)))
    return Inputs(train, heldout, choice, after, skipped, load_encoder)


def require_extras(recipe: Recipe) -> None:
    """Refuse a recipe that needs a library of an extra which is not installed, before anything is loaded.

    Raises:
        InputError: With each key, and the command that installs what it needs.
    """
    needs = (
        (recipe.trains_on_images, "data.views: augment", "kornia", images.EXTRA),
        (recipe.uses_lars, f"train.optim: {LARS}", "pytorch_optimizer", images.EXTRA),
        (recipe.model.lora is not None, "model.lora:", "peft", lora.EXTRA),
    )
    problems = [
        f"{key} needs {library}: {extra}" for asked, key, library, extra in needs if asked and not find_spec(library)
    ]
    if problems:
        raise InputError(problems)
    if recipe.publish.converted:
        require_openvino("publish.exports")


def load_heldouts(recipe: Recipe) -> dict[str, Dataset]:
    """Return the held-out pairs of each source that has any.

    Raises:
        InputError: The first that cannot be loaded.
    """
    loaded = {name: load_heldout(source, recipe.seeds[0]) for name, source in recipe.data.sources.items()}
    return {name: pairs for name, pairs in loaded.items() if pairs is not None}


def given_of(recipe: Recipe, heldout: Mapping[str, Dataset]) -> Given:
    """Return what a recipe provides to its evaluations."""
    own = {name: source.prompts for name, source in recipe.data.sources.items() if isinstance(source, SourceSection)}
    prompts = {name: of_source for name, of_source in own.items() if of_source is not None}
    size = images_of(recipe.model) if recipe.trains_on_images else None
    augment = recipe.data.augment if isinstance(recipe.data, DataSection) else None
    return Given(recipe.evaluate.data, heldout, prompts, size, augment)


def _train_images(source: DataSection, model: ModelSection) -> Images:
    """Load the images to train on; of several processes the first decodes, and the others find them in the cache."""
    load = partial(load_train_images, source, images_of(model))
    in_first_process(load)
    return load()


def _train_rows(source: DataSection, recipe: Recipe, mine: bool) -> Dataset | Stream:
    """Load the rows to train on; of several processes the first mines, and the others find the result in the cache."""
    if source.train == DIGITS or ending(source.train) == ".zip" or os.path.isdir(user_path(source.train)):
        raise ImagesError(f"{source.train}: only images are read from there, not texts; {TO_TRAIN_ON_IMAGES}")
    if source.streaming:
        return load_stream(source)
    rows = load_train(source, recipe.seeds[0])
    if source.mine is None or not mine:
        return rows
    add_negatives = partial(mined, rows, source.mine, recipe.model, source.train)
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
