"""Whose Python code is run: that of a run's model is trusted as far as the run's recipe trusts it."""

from __future__ import annotations

import logging

from fmicl_text.errors import InputError
from fmicl_text.files import user_path
from fmicl_text.recipe.file import load_recipe
from fmicl_text.runs.folder import RunFolder

logger = logging.getLogger(__name__)


def trusts_code(name: str) -> bool:
    """Whether a model is that of a run whose recipe has ``model.trust_remote_code: true``; a warning then says so.

    Args:
        name: What a command calls the model: a run folder, that of a seed, or ``model/`` in one of these. No other name
            is trusted, nor is a folder that has a recipe beside weights, as what is published, nor a damaged recipe.
    """
    path = user_path(name)
    run = RunFolder(path.parent if path.name == "model" else path)
    if not (run.manifest.is_file() and (run.model / "modules.json").is_file()):
        return False
    recipe = next((file for file in (run.recipe, RunFolder(run.path.parent).recipe) if file.is_file()), None)
    try:
        if recipe is None or not load_recipe(recipe).model.trust_remote_code:
            return False
    except InputError:  # most models have no code, and can be scored without their recipe
        return False
    logger.warning("%s: Python code that comes with it is run: %s has model.trust_remote_code", name, recipe)
    return True
