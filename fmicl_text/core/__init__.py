"""The mathematics of f-MICL on unit vectors; torch only.

Read in this order: :mod:`divergences` (what a density ratio is worth), :mod:`kernels` (the density ratio
of a pair), :mod:`pairs` (which pairs are negatives), :mod:`reduce` (means and log-sum-exps over pairs),
:mod:`objectives` (the equation of one paper each).
"""

from fmicl_text.core.divergences import (
    DIVERGENCES,
    JEFFREYS,
    JS,
    KL,
    NEYMAN,
    PEARSON,
    RKL,
    SH,
    VLC,
    Divergence,
    divergence_named,
    tsallis,
)
from fmicl_text.core.kernels import CosineCritic, CosineKernel, GaussianKernel, Kernel, kernel_named
from fmicl_text.core.objectives.alpha import Alpha
from fmicl_text.core.objectives.fmicl import fmicl
from fmicl_text.core.objectives.infonce import infonce
from fmicl_text.core.pairs import NEGATIVES, Rows

__all__ = [
    "DIVERGENCES",
    "JEFFREYS",
    "JS",
    "KL",
    "NEGATIVES",
    "NEYMAN",
    "PEARSON",
    "RKL",
    "SH",
    "VLC",
    "Alpha",
    "CosineCritic",
    "CosineKernel",
    "Divergence",
    "GaussianKernel",
    "Kernel",
    "Rows",
    "divergence_named",
    "fmicl",
    "infonce",
    "kernel_named",
    "tsallis",
]
