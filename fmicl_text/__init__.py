"""f-MICL and the contrastive losses around it, for fine-tuning sentence encoders."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.2.0"

_EXPORTS = {
    "ContrastiveLoss": "fmicl_text.losses",
    "SentenceLoss": "fmicl_text.losses",
    "Region": "fmicl_text.core",
    "Annealing": "fmicl_text.core",
    "Adaptation": "fmicl_text.core",
    "ContrastiveTrainer": "fmicl_text.training.trainer",
    "Recipe": "fmicl_text.recipe.schema",
    "load_recipe": "fmicl_text.recipe.file",
    "new_recipe": "fmicl_text.recipe.new",
    "train": "fmicl_text.training.train",
    "evaluate": "fmicl_text.evaluation.evaluate",
    "plot_geometry": "fmicl_text.runs.plots",
    "read_report": "fmicl_text.report",
    "write_report": "fmicl_text.report",
    "publish": "fmicl_text.hub",
}


def __dir__() -> list[str]:
    """Return all exported names, for completion."""
    return __getattr__("__all__")


def __getattr__(name: str) -> Any:
    """Import an exported name when it is first used, so that ``fmicl --help`` need not wait for torch."""
    if name == "__all__":
        return ["__version__", *_EXPORTS, *importlib.import_module("fmicl_text.losses").loss_names()]
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    losses = importlib.import_module("fmicl_text.losses")
    if name in losses.loss_names():
        return getattr(losses, name)
    raise AttributeError(f"module 'fmicl_text' has no attribute {name!r}")
