"""From the ``loss:`` sections of a recipe to its losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fmicl_text import losses
from fmicl_text.errors import InputError
from fmicl_text.losses.registry import Undeclared
from fmicl_text.losses.sentences import SentenceLoss
from fmicl_text.recipe.schema import Recipe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import nn


def build_losses(recipe: Recipe, model: SentenceTransformer) -> dict[str, SentenceLoss]:
    """Build a loss over an encoder for each source of a recipe, by its name; the name of a single one is empty.

    What a loss measures, learns or keeps in a queue is then of the rows of its source alone.

    Raises:
        InputError: If a loss refuses its settings.
    """
    return {name: build_loss(recipe, model, name) for name in recipe.data.sources}


def build_loss(recipe: Recipe, model: SentenceTransformer, source: str = "") -> SentenceLoss:
    """Build the loss of a recipe, or of one of several sources, at the encoder's own number of dimensions.

    Raises:
        InputError: If the loss refuses its settings.
    """
    objective = recipe.loss_of(source)
    key = recipe.loss_key(source)
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
        named: type[SentenceLoss] = getattr(losses, type(objective).loss_name)  # by which the model card calls it
        return named(model, **objective.model_dump(exclude={"objective", "matryoshka"}))
    except ValueError as error:
        raise InputError(f"{key}: {error}") from error


def at_dimensions(recipe: Recipe, loss: SentenceLoss, source: str = "") -> nn.Module:
    """Return the loss of a source at all numbers of dimensions that a recipe asks for, or as it is if none.

    Raises:
        InputError: If the encoder has fewer dimensions, or its own number is not among them; if the loss cannot be had
            at several.
    """
    matryoshka = recipe.matryoshka_of(source)
    if matryoshka is None:
        return loss
    own = getattr(recipe.loss_of(source), "matryoshka", None) is not None
    key = recipe.loss_key(source) if own else "loss"
    from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss

    check_dims(f"{key}.matryoshka.dims", matryoshka.dims, loss.model)
    width = loss.model.get_embedding_dimension()
    if width not in matryoshka.dims:
        raise InputError(
            f"{key}.matryoshka.dims: must have the encoder's own {width} dimensions among them, or its whole "
            f"embeddings are not trained; got {matryoshka.dims}"
        )
    if loss.uses_gradient_cache and any(True for _ in loss.own_parameters()):
        raise InputError(
            f"{recipe.loss_key(source)}.mini_batch_size: does not go with matryoshka where the loss learns, as by "
            "learn_kernel"
        )
    return MatryoshkaLoss(loss.model, loss, matryoshka.dims, matryoshka.weights)


def check_dims(key: str, dims: list[int], model: SentenceTransformer) -> None:
    """Raise an InputError if an encoder has fewer dimensions than a key of a recipe asks for."""
    width = model.get_embedding_dimension()
    if width is not None and max(dims, default=0) > width:
        raise InputError(f"{key}: the encoder has {width} dimensions, got {max(dims)}")


def loss_settings(recipe: Recipe, loss: SentenceLoss, source: str = "") -> dict[str, Any]:
    """Return the settings in force of a source's loss, those of its dimensions among them."""
    settings, matryoshka = loss.get_config_dict(), recipe.matryoshka_of(source)
    if matryoshka is None:
        return settings
    return settings | {"matryoshka": matryoshka.model_dump(exclude_none=True)}
