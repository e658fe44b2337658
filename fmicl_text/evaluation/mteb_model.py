"""A sentence encoder as mteb knows it: wrapped, named, and told apart from every other state of its weights."""

from __future__ import annotations

import warnings
from pathlib import Path

from huggingface_hub import snapshot_download
from mteb.models import SentenceTransformerEncoderWrapper
from sentence_transformers import SentenceTransformer

from fmicl_text.encoder import load_model, locate
from fmicl_text.evaluation.local_revision import folder_revision

LOCAL = "local"
"""Owner of the names of models that are not on the Hub."""


def load_for_mteb(name: str) -> SentenceTransformerEncoderWrapper:
    """Load a model by what :func:`fmicl_text.encoder.load_model` takes, and wrap it.

    mteb keeps results by name and revision. The revision is the Hub's commit, or for a folder a digest of the files
    that decide an embedding (weights, tokeniser, prompts, maximum length): the model of a run that was trained anew
    is another model. Nothing but the model itself is asked of the Hub.

    Raises:
        InputError: There is no such model, or it does not load.
    """
    model = load_model(name)
    place = locate(name)
    if (folder := Path(place)).is_dir():
        identity = {
            "name": f"{LOCAL}/{name.replace(':', '-') if name.startswith('sample:') else Path(name).resolve().name}",
            "revision": folder_revision(folder, ignored={".md"}),
        }
    else:
        identity = {"name": place, "revision": Path(snapshot_download(place, local_files_only=True)).name}
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
