"""A sentence encoder wrapped for mteb, with a name and a revision that identify its weights."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

from mteb.models import SentenceTransformerEncoderWrapper
from sentence_transformers import SentenceTransformer

from fmicl_text.encoders.images import require_texts
from fmicl_text.encoders.text import locate
from fmicl_text.evaluation.mteb.registered import loaded_otherwise
from fmicl_text.evaluation.scored_model import ScoredModel
from fmicl_text.quiet import quietened

logger = logging.getLogger(__name__)

LOCAL = "local"
"""Owner of the names of models that are not on the Hub."""
IN_TRAINING = "in-training"
"""Revision of a model whose weights are not those of a folder or a commit."""
_EXPERIMENT = {"loaded_by": "fmicl-text"}
"""By what mteb keeps results apart that are not those of its own loader: see ``experiment_kwargs`` of its ModelMeta."""


def wrapped(scored: ScoredModel) -> SentenceTransformerEncoderWrapper:
    """Wrap a model that is loaded; one without a revision is in training, and its results are not kept.

    mteb keeps results by name and :func:`~fmicl_text.evaluation.scored_model.model_revision`: the model of a run that
    was trained again is another model. The Hub is asked for nothing.

    If mteb itself loads a model of the Hub otherwise, such as with prompts that its files do not have, the results here
    are not mteb's. They are then kept as an experiment, which mteb's own runs do not take for theirs, and this is said.

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
    identity: dict[str, Any] = {"name": place, "revision": scored.revision or IN_TRAINING}
    if otherwise := loaded_otherwise(place, model.prompts):
        identity["experiment_kwargs"] = _EXPERIMENT
        logger.warning(
            "mteb itself evaluates %s %s; here it is evaluated as its files have it: the scores are kept apart from "
            "mteb's, and are not to be compared with its leaderboard",
            place,
            otherwise,
        )
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
