"""The mathematics of f-MICL and its relatives on unit vectors; torch only.

Read in this order: :mod:`divergences` (what a density ratio is worth), :mod:`kernels` (the density ratio
of a pair), :mod:`pairs` and :mod:`batch` (which pairs are negatives), :mod:`reduce` (means and log-sum-exps over
pairs), :mod:`objectives` (the equation of one paper each), :mod:`devices` (one batch over several processes).
"""

from fmicl_text.core.batch import NEGATIVES, Batch, as_batch
from fmicl_text.core.devices import across_devices
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
from fmicl_text.core.objectives.alignment_uniformity import alignment_uniformity
from fmicl_text.core.objectives.alpha import Alpha
from fmicl_text.core.objectives.asymmetric_infonce import asymmetric_infonce
from fmicl_text.core.objectives.contextual_infonce import contextual_infonce
from fmicl_text.core.objectives.dcl import dcl
from fmicl_text.core.objectives.dhel import dhel
from fmicl_text.core.objectives.dv import fmicl_dv
from fmicl_text.core.objectives.fmicl import fmicl
from fmicl_text.core.objectives.focal_infonce import focal_infonce
from fmicl_text.core.objectives.hcl import hcl
from fmicl_text.core.objectives.infonce import infonce
from fmicl_text.core.objectives.kcl import kcl
from fmicl_text.core.objectives.kernel_infonce import (
    kernel_infonce,
    kernel_infonce_concatenated,
    kernel_infonce_mixed,
)
from fmicl_text.core.objectives.ntxent import ntxent
from fmicl_text.core.objectives.spectral import spectral
from fmicl_text.core.pairs import Rows
from fmicl_text.core.reduce import tile_memory
from fmicl_text.core.regions import SCHEDULES, Adaptation, Annealing, Region

__all__ = [
    "DIVERGENCES",
    "JEFFREYS",
    "JS",
    "KL",
    "NEGATIVES",
    "NEYMAN",
    "PEARSON",
    "RKL",
    "SCHEDULES",
    "SH",
    "VLC",
    "Adaptation",
    "Alpha",
    "Annealing",
    "Batch",
    "CosineCritic",
    "CosineKernel",
    "Divergence",
    "ExponentialKernel",
    "FocalKernel",
    "GaussianKernel",
    "InverseMultiquadricKernel",
    "Kernel",
    "Region",
    "RieszKernel",
    "Rows",
    "SumKernel",
    "across_devices",
    "alignment_uniformity",
    "as_batch",
    "asymmetric_infonce",
    "contextual_infonce",
    "dcl",
    "dhel",
    "divergence_named",
    "fmicl",
    "fmicl_dv",
    "focal_infonce",
    "hcl",
    "infonce",
    "kcl",
    "kernel_infonce",
    "kernel_infonce_concatenated",
    "kernel_infonce_mixed",
    "kernel_named",
    "ntxent",
    "spectral",
    "tile_memory",
    "tsallis",
]
