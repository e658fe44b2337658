"""A sentence encoder as mteb knows it: wrapped, named, and told apart from every other state of its weights."""

from __future__ import annotations

import warnings
from pathlib import Path

from mteb.models import SentenceTransformerEncoderWrapper
from sentence_transformers import SentenceTransformer

from fmicl_text.encoders.text import load_model, locate
from fmicl_text.evaluation.scored_model import model_revision

LOCAL = "local"
"""Owner of the names of models that are not on the Hub."""


def load_for_mteb(name: str) -> SentenceTransformerEncoderWrapper:
    """Load a model by what :func:`fmicl_text.encoders.text.load_model` takes, and wrap it.

    mteb keeps results by name and :func:`~fmicl_text.evaluation.scored_model.model_revision`: the model of a run that
    was trained anew is another model. Nothing but the model itself is asked of the Hub.

    Raises:
        InputError: There is no such model, or it does not load.
    """
    model = load_model(name)
    place = locate(name)
    if Path(place).is_dir():
        local = name.replace(":", "-") if name.startswith("sample:") else Path(name).resolve().name
        place = f"{LOCAL}/{local}"
    identity = {"name": place, "revision": model_revision(name)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # mteb uses names that sentence-transformers has given up
        wrapped = SentenceTransformerEncoderWrapper(model)
    wrapped.mteb_model_meta = wrapped.mteb_model_meta.model_copy(update=identity | _size(model))
    return wrapped


def _size(model: SentenceTransformer) -> dict[str, float]:
    parameters = list(model.parameters())
    return {
        "n_parameters": sum(parameter.numel() for parameter in parameters),
        "memory_usage_mb": sum(parameter.nbytes for parameter in parameters) / 2**20,
    }
