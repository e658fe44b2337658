"""Models that mteb itself loads in another way than from their files alone, so that its scores of them are others."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import mteb
from mteb.models import SentenceTransformerEncoderWrapper

_OF_THE_MACHINE = {"device"}
"""Options of mteb's loaders that decide nothing about an embedding."""


def loaded_otherwise(name: str, prompts: Mapping[str, str | None]) -> str | None:
    """Return what mteb does that the files of a model do not say, in words that follow on "mteb evaluates it".

    mteb's registry has a loader and its options for about a thousand published models; any other model it loads from
    its files, as :func:`fmicl_text.encoders.text.load_model` does.

    Args:
        name: What mteb calls the model.
        prompts: Those of its files.

    Returns:
        None if mteb's own scores of the model are the same.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # a name that the model no longer has on the Hub
            registered = mteb.get_model_meta(name)
    except KeyError:
        return None
    if registered.loader is not SentenceTransformerEncoderWrapper:
        return "with a loader of its own"
    options = {key: value for key, value in registered.loader_kwargs.items() if key not in _OF_THE_MACHINE}
    theirs = options.pop("model_prompts", None)
    if options:
        return f"with options of its own ({', '.join(sorted(options))})"
    if theirs and _given(theirs) != _given(prompts):  # with none, it takes those of the files
        return "with prompts of its own"
    return None


def _given(prompts: Mapping[str, str | None]) -> dict[str, str]:
    return {name: prompt for name, prompt in prompts.items() if prompt}
