"""The mathematics of f-MICL and its relatives on unit vectors; torch only.

Read in this order: :mod:`divergence` and the folder :mod:`divergences` (the critic and the penalty of a pair),
:mod:`kernels` (the density ratio of a pair), :mod:`pairs` and :mod:`batch` (which pairs are negatives), :mod:`tiles`
and :mod:`reduce` (means and log-sum-exps over pairs), :mod:`objectives` (the equation of one paper in each),
:mod:`devices` (one batch over several processes). Modules here import torch and the standard library only. Names are
imported when they are first used; listing :data:`DIVERGENCES`, :data:`KERNELS` or :data:`OBJECTIVES` needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fmicl_text.core.registry import modules_in

# ruff: noqa: F401
if TYPE_CHECKING:  # the same names, for type checkers
    from fmicl_text.core.alpha import Alpha
    from fmicl_text.core.balance import balance_cosine_of, measured_temperature
    from fmicl_text.core.batch import NEGATIVES, Batch, as_batch
    from fmicl_text.core.conjugate import Conjugate
    from fmicl_text.core.devices import across_devices
    from fmicl_text.core.divergence import DIVERGENCES, Divergence, divergence_named, register_divergence
    from fmicl_text.core.divergences.tsallis import tsallis
    from fmicl_text.core.kernels import (
        CosineCritic,
        CosineKernel,
        ExponentialKernel,
        FocalKernel,
        GaussianKernel,
        InverseMultiquadricKernel,
        Kernel,
        RieszKernel,
        SumKernel,
        kernel_named,
    )
    from fmicl_text.core.pairs import Rows
    from fmicl_text.core.regions import SCHEDULES, Adaptation, Annealing, Region
    from fmicl_text.core.registry import KERNELS, register_kernel
    from fmicl_text.core.tiles import tile_memory

OBJECTIVES = modules_in("fmicl_text.core.objectives")
"""Names of the objectives: functions of this package, each from the module of its name in ``core/objectives``."""

_CONSTANTS = {name.upper(): name for name in modules_in("fmicl_text.core.divergences") if name != "tsallis"}
_EXPORTS = {
    "alpha": ("Alpha",),
    "balance": ("balance_cosine_of", "measured_temperature"),
    "batch": ("NEGATIVES", "Batch", "as_batch"),
    "conjugate": ("Conjugate",),
    "devices": ("across_devices",),
    "divergence": ("DIVERGENCES", "Divergence", "divergence_named", "register_divergence"),
    "divergences.tsallis": ("tsallis",),
    "kernels": (
        "CosineCritic",
        "CosineKernel",
        "ExponentialKernel",
        "FocalKernel",
        "GaussianKernel",
        "InverseMultiquadricKernel",
        "Kernel",
        "RieszKernel",
        "SumKernel",
        "kernel_named",
    ),
    "pairs": ("Rows",),
    "tiles": ("tile_memory",),
    "regions": ("SCHEDULES", "Adaptation", "Annealing", "Region"),
    "registry": ("KERNELS", "register_kernel"),
}
_PLACES = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = ["OBJECTIVES", *_CONSTANTS, *_PLACES, *OBJECTIVES]


def __getattr__(name: str) -> Any:
    """Import an exported name when it is first used."""
    if name in _CONSTANTS:
        from fmicl_text.core.divergence import DIVERGENCES

        return DIVERGENCES[_CONSTANTS[name]]
    place = f"objectives.{name}" if name in OBJECTIVES else _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'fmicl_text.core' has no attribute {name!r}")
    return getattr(importlib.import_module(f"fmicl_text.core.{place}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
