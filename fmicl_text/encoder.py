"""Loading a sentence encoder: by name, or as a recipe describes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fmicl_text.errors import InputError
from fmicl_text.recipe import ModelSection
from fmicl_text.samples import minilm_path

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_SAFE = {"use_safetensors": True}  # weights in pickle files could run code


def load_model(name: str, revision: str | None = None) -> SentenceTransformer:
    """Load a sentence encoder; one without pooling of its own gets mean pooling.

    Weights must be safetensors, and code that comes with a model is not run.

    Args:
        name: A model folder, a run folder (its ``model/`` is taken), a Hub id, or ``sample:minilm``.
        revision: Revision on the Hub.

    Raises:
        InputError: There is no such model, or it does not load.
    """
    from sentence_transformers import SentenceTransformer

    place = locate(name)
    try:
        return SentenceTransformer(place, revision=revision, model_kwargs=dict(_SAFE))
    except Exception as error:  # transformers, safetensors and the Hub client each have their own
        raise _cannot_load(name, place, error) from error


def load_encoder(section: ModelSection) -> SentenceTransformer:
    """Load the encoder of a recipe with the pooling, length and head it asks for.

    Raises:
        InputError: As :func:`load_model`.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from torch import nn

    if section.pooling is None:
        model = load_model(section.base, section.revision)
    else:
        place, hub = locate(section.base), {"revision": section.revision}
        try:
            transformer = Transformer(place, model_kwargs=_SAFE | hub, config_kwargs=hub, processor_kwargs=hub)
        except Exception as error:  # as above
            raise _cannot_load(section.base, place, error) from error
        pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode=section.pooling)
        model = SentenceTransformer(modules=[transformer, pooling])
    if section.max_seq_length is not None:
        model.max_seq_length = section.max_seq_length
    if section.head == "mlp":
        width = model.get_embedding_dimension()
        model.append(Dense(width, width, activation_function=nn.Tanh()))
    return model


def locate(name: str) -> str:
    """Return the folder or Hub id behind a name, which :func:`load_model` explains.

    Raises:
        InputError: If the name is a path and there is no such folder.
    """
    if name == "sample:minilm":
        return str(minilm_path())
    folder = Path(name).expanduser()
    if (folder / "model" / "modules.json").is_file():
        folder /= "model"
    if folder.is_dir():
        return str(folder)
    if name.startswith((".", "/", "~")):
        raise InputError(f"no model folder {name!r}")  # or it would be looked for on the Hub
    return name


def _cannot_load(name: str, place: str, error: Exception) -> InputError:
    where = "the folder holds none" if Path(place).is_dir() else "not a folder here, and not found on the Hub"
    return InputError(f"no model {name!r} ({where}): {str(error).partition(chr(10))[0]}")
