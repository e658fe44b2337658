"""What the model card says about the base model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fmicl_text.encoders.revisions import models_cache
from fmicl_text.encoders.section import ModelSection
from fmicl_text.files import user_path
from fmicl_text.hub.private import is_local, last_part
from fmicl_text.recipe.schema import LANGUAGE

_SAMPLES = {"sample:minilm": "sentence-transformers/all-MiniLM-L6-v2"}


@dataclass(frozen=True)
class BaseModel:
    """The base model: its name, its Hub id if it has one, and what its card says, if the card is local."""

    name: str
    hub_id: str | None
    license: str | None = None
    language: tuple[str, ...] = ()


def as_hub_id(name: str) -> str | None:
    """Return the name if it is a valid repository name, else ``None``."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name


def describe_base(section: ModelSection) -> BaseModel:
    """Describe a recipe's base model from its folder or the Hub's cache; nothing is downloaded."""
    from huggingface_hub import ModelCard, try_to_load_from_cache

    from fmicl_text.data.samples import minilm_path
    from fmicl_text.encoders.text import locate

    base = section.base
    if base is None:
        return BaseModel(section.called, None)
    if section.tokenizer is not None:
        tokenizer = last_part(section.tokenizer) if is_local(section.tokenizer) else section.tokenizer
        return BaseModel(f"a new static embedding over the tokenizer of {tokenizer}", None)
    here = is_local(base) or Path(base).is_dir()
    hub_id = None if here else as_hub_id(_SAMPLES.get(base) or locate(base))
    name = last_part(base) if here else hub_id or base
    try:
        if base in _SAMPLES:
            card: object = minilm_path() / "README.md"
        elif here:
            card = user_path(base) / "README.md"
        else:
            card = try_to_load_from_cache(
                locate(base), "README.md", cache_dir=models_cache(), revision=section.revision
            )
        if not isinstance(card, (str, Path)) or not Path(card).is_file():
            return BaseModel(name, hub_id)
        data = ModelCard.load(card, ignore_metadata_errors=True).data
    except Exception:  # a foreign card may be broken in any way, and is optional
        return BaseModel(name, hub_id)
    language = data.language or []
    language = [language] if isinstance(language, str) else language
    codes = tuple(code for code in map(str, language) if re.fullmatch(LANGUAGE, code))
    return BaseModel(name, hub_id, data.license if isinstance(data.license, str) else None, codes)
