"""Loads a sentence encoder by name, or as a recipe describes it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmicl_text.data.samples import minilm_path
from fmicl_text.encoders.images import image_size, new_encoder, reads_images, set_image_size, show_images_on_card
from fmicl_text.encoders.lora import EXTRA, add_lora, has_adapter, merge_adapter
from fmicl_text.encoders.pickles import files_of, refuse_pickles
from fmicl_text.encoders.prompts import pool_prompts, prompts_in_files, set_prompts
from fmicl_text.encoders.revisions import cached_snapshot, models_cache
from fmicl_text.encoders.section import ModelSection
from fmicl_text.encoders.static import new_static
from fmicl_text.errors import InputError
from fmicl_text.files import user_path
from fmicl_text.hub_errors import hub_problem
from fmicl_text.text import did_you_mean

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_SAFE = {"use_safetensors": True}  # weights in pickle files could run code


def load_model(
    name: str,
    revision: str | None = None,
    trust_remote_code: bool = False,
    options: Mapping[str, Any] | None = None,
) -> SentenceTransformer:
    """Load a sentence encoder; one without pooling of its own gets mean pooling.

    Weights must be safetensors.

    Args:
        name: A model folder, a run folder (its ``model/`` is taken), a Hub id, or ``sample:minilm``.
        revision: Revision on the Hub.
        trust_remote_code: Run code that comes with the model.
        options: Of ``from_pretrained`` of transformers, such as ``dtype``.

    Raises:
        InputError: There is no such model, it cannot be loaded, its weights are pickled (with the command that converts
            them), or it needs code of its own that is not trusted.
    """
    from sentence_transformers import SentenceTransformer

    place = locate(name)
    options = _SAFE | dict(options or {})
    with _explained(name, place, revision, options):
        model = SentenceTransformer(place, revision=revision, trust_remote_code=trust_remote_code, model_kwargs=options)
    model.model_card_data.local_files_only = True  # otherwise each save asks the Hub for a model of this name
    if reads_images(model):
        show_images_on_card(model)
    return model


def load_encoder(section: ModelSection) -> SentenceTransformer:
    """Load the encoder that a recipe describes, or make a new one.

    A base that is an adapter is merged into its own base, and trains as a whole.

    Raises:
        InputError: As :func:`load_model`, and if what the recipe asks for is not to be had of the encoder.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from torch import nn

    options = _options(section)
    if section.base is None:
        model = new_encoder(section)
    elif section.tokenizer is not None:
        model = new_static(section, locate(section.tokenizer))
    elif section.pooling is None:
        with _of_the_base():
            model = load_model(section.base, section.revision, section.trust_remote_code, options)
    else:
        code = section.trust_remote_code
        hub = {"revision": section.revision, "trust_remote_code": code, "cache_dir": models_cache()}
        options = _SAFE | options
        with _of_the_base(), _explained(section.base, place := locate(section.base), section.revision, options):
            transformer = Transformer(place, model_kwargs=options | hub, config_kwargs=hub, processor_kwargs=hub)
            prompts, pooled = prompts_in_files(place, section.revision)
        pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode=section.pooling, include_prompt=pooled)
        model = SentenceTransformer(modules=[transformer, pooling], trust_remote_code=code, **prompts)
        model.model_card_data.local_files_only = True  # as above
    if section.prompts is not None:
        set_prompts(model, section.prompts)
    if section.include_prompt is not None:
        pool_prompts(model, section.include_prompt)
    if section.max_seq_length is not None:
        check_positions(model, section.max_seq_length)
        try:
            model.max_seq_length = section.max_seq_length
        except AttributeError:
            raise InputError(
                f"model.max_seq_length: {section.base} reads texts of any length, as static embeddings do; leave it out"
            ) from None
    if section.base is not None and section.image_size is not None:
        set_image_size(model, section.image_size)
    if section.head == "mlp":
        width = model.get_embedding_dimension()
        model.append(Dense(width, width, activation_function=nn.Tanh()))
    if section.lora is not None:
        add_lora(model, section.lora, section.revision)
    elif has_adapter(model):
        merge_adapter(model)  # otherwise its weights would not train
    for name in section.freeze or []:
        _freeze(model, name)
    return model


@contextmanager
def _of_the_base() -> Iterator[None]:
    """Put the recipe's key before an error about its base model, where the error has no other key."""
    try:
        yield
    except InputError as error:
        problems = [problem if problem.startswith("model.") else f"model.base: {problem}" for problem in error.problems]
        raise InputError(problems) from error


def check_positions(model: SentenceTransformer, tokens: int) -> None:
    """Refuse more tokens than a transformer's table of positions has; many have no such table.

    Raises:
        InputError: It has fewer.
    """
    from torch import nn

    for name, table in getattr(model[0], "model", model[0]).named_modules():
        if isinstance(table, nn.Embedding) and re.search(r"position|(^|\.)wpe$", name):
            padding = 0 if table.padding_idx is None else table.padding_idx + 1  # RoBERTa counts from after it
            if tokens > (most := table.num_embeddings - padding):
                raise InputError(f"model.max_seq_length: the encoder has positions for {most} tokens, got {tokens}")


def _options(section: ModelSection) -> dict[str, Any]:
    """Return what transformers is told of how to hold and compute the model.

    Raises:
        InputError: If that needs a GPU, and there is none.
    """
    import torch

    attention = section.attn_implementation
    if attention is None:
        return {"dtype": section.dtype}
    if attention.startswith("flash") and not torch.cuda.is_available():
        raise InputError(f"model.attn_implementation: {attention} needs a GPU; sdpa runs everywhere")
    return {"dtype": section.dtype, "attn_implementation": attention}


def images_of(section: ModelSection) -> int:
    """Return width and height of the images that the encoder of a recipe reads.

    Raises:
        InputError: As :func:`load_encoder`, and if it reads no images.
    """
    return section.image_size or image_size(load_encoder(section))


def _freeze(model: SentenceTransformer, name: str) -> None:
    inner = getattr(model[0], "model", model[0])
    parts = dict(inner.named_modules())
    if name not in parts or not name:
        raise InputError(f'model.freeze: no part "{name}"{did_you_mean(name, parts)}; it is the name of a module')
    parts[name].requires_grad_(False)


def locate(name: str) -> str:
    """Return the folder or Hub id behind a name, which :func:`load_model` explains.

    An id without an owner is one of ``sentence-transformers``, as the library of that name has it, except for the first
    models of ``transformers``, such as ``bert-base-uncased``.

    Raises:
        InputError: If the name is a path and there is no such folder.
    """
    if name == "sample:minilm":
        return str(minilm_path())
    if name.startswith("sample:"):
        raise InputError(f'no sample "{name.removeprefix("sample:")}" of encoders; there is minilm')
    folder = user_path(name)
    if os.path.isfile(folder / "model" / "modules.json"):
        folder /= "model"
    if os.path.isdir(folder):
        return str(folder)
    if name.startswith((".", "/", "~")):
        raise InputError(f"no model folder {name!r}")  # a path is never the name of a model on the Hub
    return name if "/" in name else _with_owner(name)


def _with_owner(name: str) -> str:
    """Return what ``SentenceTransformer`` makes of an id without an owner; other loaders take the bare one."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import ORIGINAL_TRANSFORMER_MODELS

    exempt = name.lower() in ORIGINAL_TRANSFORMER_MODELS
    return name if exempt else f"{SentenceTransformer.default_huggingface_organization}/{name}"


@contextmanager
def _explained(name: str, place: str, revision: str | None, options: Mapping[str, Any]) -> Iterator[None]:
    """Refuse pickles (in a folder before anything is read) and turn errors of loading into input errors."""
    here = os.path.isdir(place)
    if here:
        refuse_pickles(name, place, files_of(Path(place)))
    # Otherwise transformers asks a public service to convert a pickle, and loads the pull request that it opens.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    try:
        yield
    except Exception as error:  # transformers, safetensors and the Hub client each have their own
        if not here:
            if problem := hub_problem(error, place, "model", revision):
                raise InputError(f"no model {name!r}, not a folder here: {problem}") from error
            refuse_pickles(name, place, _listed(place, revision))
        if "trust_remote_code" in str(error):
            raise InputError(
                f"the model {name!r} brings Python code of its own, which is not run; if you have read it and trust "
                "it, train from it with model.trust_remote_code: true in the recipe, and evaluate it with "
                "--trust-remote-code"
            ) from error
        first = str(error).partition("\n")[0]
        if "attn_implementation" in options and "attention" in str(error).lower():
            raise InputError(f"model.attn_implementation: {options['attn_implementation']}: {first}") from error
        if isinstance(error, ImportError) and "peft" in str(error):
            raise InputError(f"the model {name!r} is an adapter, which needs peft: {EXTRA}") from error
        where = "the folder holds none" if here else "not a folder here, and not found on the Hub"
        raise InputError(f"no model {name!r} ({where}): {first}") from error
    if not here:
        refuse_pickles(name, place, files_of(cached_snapshot(place, revision)))


def _listed(repo: str, revision: str | None) -> list[str]:
    """Return the names of a repository's files; none if the Hub cannot be reached."""
    from huggingface_hub import list_repo_files

    try:
        return list_repo_files(repo, revision=revision)
    except Exception:  # the error of loading says more
        return []
