"""What takes the place of the settings of ``MultipleNegativesRankingLoss``, for those who swap it for another loss."""

from __future__ import annotations

import math
from collections.abc import Container
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmicl_text.losses.objective import Objective

_INSTEAD: dict[str, dict[str, str]] = {
    "similarity_fct": {"": "leave it out: pairs are compared by the cosine"},
    "directions": {
        "negatives": 'chooses the pairs ("cross", "anchor" or "both")',
        "symmetric": "adds the direction from positives to anchors",
    },
    "partition_mode": {},
    "hardness_mode": {"region": 'keeps only the hardest negatives ("ball" or "ring")'},
    "hardness_strength": {"region": 'keeps only the hardest negatives ("ball" or "ring")'},
    "mini_batch_num_tokens": {"mini_batch_size": "bounds the memory, in rows"},
    "show_progress_bar": {"": "leave it out"},
}
"""Setting of ``MultipleNegativesRankingLoss`` -> settings here that are nearest to it, or advice under no name."""


def instead_of(name: str, own: Container[str]) -> str:
    """Return what takes the place of a setting; empty if it is none of that loss's.

    Args:
        name: Of the setting.
        own: Names of the settings of the loss that it was given to.
    """
    if name not in _INSTEAD:
        return ""
    of = "is a setting of MultipleNegativesRankingLoss, which this loss has not"
    others = [f"{other} {meaning}".strip() for other, meaning in _INSTEAD[name].items() if not other or other in own]
    return "; ".join([of, *others])


def instead_of_scale(scale: Any, objective: type[Objective]) -> str:
    """Return which setting of an objective takes the place of ``scale``, and its value."""
    meaning = "scale is MultipleNegativesRankingLoss's name for the inverse of the temperature"
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
        return f"{meaning}; this loss has no scale"
    usual = objective.model_validate({})
    widths = {"sigma": scale**-0.5, "temperature": 1 / scale, "t": scale / 2}
    for name, value in widths.items():
        if getattr(usual, name, None) is not None:
            return f"{meaning}; scale={scale:g} is {name}={value:.4g} here"
    return f"{meaning}; this loss has none"
