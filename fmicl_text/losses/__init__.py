"""The losses: declarations of objectives (``papers``), a loss on vectors, and its form for sentence-transformers.

May import ``core`` and what is below it. Importing this package, :mod:`~fmicl_text.losses.objective`, the registry or
a declaration imports no torch; the losses themselves do, when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from fmicl_text.losses.registry import objectives, register

_ELSEWHERE = {
    "ContrastiveLoss": "fmicl_text.losses.contrastive",
    "NonFiniteEmbeddings": "fmicl_text.losses.contrastive",
    "SentenceLoss": "fmicl_text.losses.sentences",
    "Mlp": "fmicl_text.losses.mlp",
    "Objective": "fmicl_text.losses.objective",
    "Paper": "fmicl_text.losses.objective",
}


def loss_names() -> list[str]:
    """Return the names of the loss classes, such as ``FMICLLoss``; each is an attribute of this package."""
    return [objective.loss_name for objective in objectives().values()]


def __getattr__(name: str) -> Any:
    """Import a class when it is first used; a loss class is made from the declaration of its objective."""
    if name in _ELSEWHERE:
        return getattr(importlib.import_module(_ELSEWHERE[name]), name)
    if name == "LOSSES":  # name in a recipe -> class
        return {key: __getattr__(objective.loss_name) for key, objective in objectives().items()}
    for objective in objectives().values():
        if name == objective.__name__:
            return objective
        if name == objective.loss_name:
            made = globals().get(name)
            if made is None or made.declaration is not objective:
                from fmicl_text.losses.sentences import bound

                made = globals()[name] = bound(objective, __name__)
            return made
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["LOSSES", "loss_names", "objectives", "register", *_ELSEWHERE]  # made when used
