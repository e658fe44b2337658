"""From the ``loss:`` section of a recipe to the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmicl_text.errors import InputError
from fmicl_text.losses.registry import Undeclared
from fmicl_text.losses.sentences import SentenceLoss
from fmicl_text.recipe.schema import Recipe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def build_loss(recipe: Recipe, model: SentenceTransformer) -> SentenceLoss:
    """Build the loss of a recipe over an encoder.

    Raises:
        InputError: If the loss refuses its settings.
    """
    objective = recipe.loss
    if isinstance(objective, Undeclared):
        raise InputError(
            f'loss.objective: "{objective.objective}" is declared by {", ".join(recipe.imports)}, which was not run; '
            "`fmicl train --allow-imports` runs it"
        )
    head = "mlp" if recipe.model.head == "mlp-train-only" else None
    parts = {"head": head, "projector": recipe.model.projector, "predictor": recipe.model.predictor}
    if given := {name: part for name, part in parts.items() if part is not None}:
        objective = type(objective).of("loss", objective.model_dump() | given)
    try:
        return SentenceLoss(model, objective)
    except ValueError as error:
        raise InputError(f"loss: {error}") from error
