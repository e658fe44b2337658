"""A sentence encoder wrapped for mteb, with a name and a revision that identify its weights."""

from __future__ import annotations

import warnings
from pathlib import Path

from mteb.models import SentenceTransformerEncoderWrapper
from sentence_transformers import SentenceTransformer

from fmicl_text.encoders.images import require_texts
from fmicl_text.encoders.text import locate
from fmicl_text.evaluation.scored_model import ScoredModel, scored_model
from fmicl_text.quiet import quietened

LOCAL = "local"
"""Owner of the names of models that are not on the Hub."""
IN_TRAINING = "in-training"
"""Revision of a model whose weights are not those of a folder or a commit."""


def load_for_mteb(name: str) -> SentenceTransformerEncoderWrapper:
    """Load a model by what :func:`fmicl_text.encoders.text.load_model` takes, and wrap it.

    mteb keeps results by name and :func:`~fmicl_text.evaluation.scored_model.model_revision`: the model of a run that
    was trained again is another model. The Hub is asked for nothing but the model itself.

    Raises:
        InputError: There is no such model, or it does not load.
    """
    return wrapped(scored_model(name))


def wrapped(scored: ScoredModel) -> SentenceTransformerEncoderWrapper:
    """Wrap a model that is loaded; one without a revision is in training, and its results are not kept.

    Raises:
        InputError: It is an encoder of images.
    """
    require_texts(scored.encoder)
    name, model = scored.name, scored.encoder
    if scored.revision is None:
        place = f"{LOCAL}/{IN_TRAINING}"
    elif Path(place := locate(name)).is_dir():
        local = name.replace(":", "-") if name.startswith("sample:") else Path(name).resolve().name
        place = f"{LOCAL}/{local}"
    identity = {"name": place, "revision": scored.revision or IN_TRAINING}
    # mteb warns of encoders, such as static ones, whose vocabulary it cannot count; see `_size`.
    with warnings.catch_warnings(), quietened("mteb"):
        warnings.simplefilter("ignore", FutureWarning)  # mteb uses names that sentence-transformers has deprecated
        wrapper = SentenceTransformerEncoderWrapper(model)
    wrapper.mteb_model_meta = wrapper.mteb_model_meta.model_copy(update=identity | _size(model))
    return wrapper


def _size(model: SentenceTransformer) -> dict[str, float]:
    parameters = list(model.parameters())
    return {
        "n_parameters": sum(parameter.numel() for parameter in parameters),
        "memory_usage_mb": sum(parameter.nbytes for parameter in parameters) / 2**20,
    }
