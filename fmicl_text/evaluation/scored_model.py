"""The encoder that is evaluated, its name in results, and the state of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fmicl_text.encoders import revisions
from fmicl_text.encoders.text import load_model, locate

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class ScoredModel(NamedTuple):
    """An encoder, its name in results and messages, and its revision if it was loaded by name."""

    encoder: SentenceTransformer
    name: str
    revision: str | None


def scored_model(model: SentenceTransformer | str, name: str | None = None) -> ScoredModel:
    """Load an encoder given by name; one that is loaded already has no revision that could be known.

    Args:
        model: An encoder, or what :func:`fmicl_text.encoders.text.load_model` takes.
        name: Its name in results, if not that by which it is loaded.

    Raises:
        InputError: There is no such model, or it does not load.
    """
    if not isinstance(model, str):
        return ScoredModel(model, name or "SentenceTransformer", None)
    return ScoredModel(load_model(model), name or model, model_revision(model))


def model_revision(name: str) -> str:
    """Return the :func:`fmicl_text.encoders.revisions.model_revision` of a model by its name; it has been loaded."""
    return revisions.model_revision(locate(name))
