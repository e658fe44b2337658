"""From the ``loss:`` sections of a recipe to its losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmicl_text.errors import InputError
from fmicl_text.losses.registry import Undeclared
from fmicl_text.losses.sentences import SentenceLoss
from fmicl_text.recipe.schema import Recipe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def build_losses(recipe: Recipe, model: SentenceTransformer) -> dict[str, SentenceLoss]:
    """Build a loss over an encoder for each source of a recipe, by its name; the name of a single one is empty.

    What a loss measures, learns or keeps in a queue is then of the rows of its source alone.

    Raises:
        InputError: If a loss refuses its settings.
    """
    return {name: build_loss(recipe, model, name) for name in recipe.data.sources}


def build_loss(recipe: Recipe, model: SentenceTransformer, source: str = "") -> SentenceLoss:
    """Build the loss of a recipe, or of one of several sources by its name, over an encoder.

    Raises:
        InputError: If the loss refuses its settings.
    """
    objective = recipe.loss_of(source)
    key = "loss" if objective is recipe.loss else f"data.train: {source}: loss"
    if isinstance(objective, Undeclared):
        raise InputError(
            f'{key}.objective: "{objective.objective}" is declared by {", ".join(recipe.imports)}, which was not run; '
            "`fmicl train --allow-imports` runs it"
        )
    head = "mlp" if recipe.model.head == "mlp-train-only" else None
    parts = {"head": head, "projector": recipe.model.projector, "predictor": recipe.model.predictor}
    if given := {name: part for name, part in parts.items() if part is not None}:
        objective = type(objective).of(key, objective.model_dump() | given)
    try:
        return SentenceLoss(model, objective)
    except ValueError as error:
        raise InputError(f"{key}: {error}") from error
