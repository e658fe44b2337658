"""f-MICL and the contrastive losses around it, for fine-tuning sentence encoders."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "ContrastiveLoss": "fmicl_text.losses",
    "FMICLLoss": "fmicl_text.losses",
    "InfoNCELoss": "fmicl_text.losses",
    "NTXentLoss": "fmicl_text.losses",
    "AlignmentUniformityLoss": "fmicl_text.losses",
    "SpectralContrastiveLoss": "fmicl_text.losses",
    "KernelInfoNCELoss": "fmicl_text.losses",
    "DHELLoss": "fmicl_text.losses",
    "KCLLoss": "fmicl_text.losses",
    "DCLLoss": "fmicl_text.losses",
    "FocalInfoNCELoss": "fmicl_text.losses",
    "HCLLoss": "fmicl_text.losses",
    "AsymmetricInfoNCELoss": "fmicl_text.losses",
    "ContextualInfoNCELoss": "fmicl_text.losses",
    "Region": "fmicl_text.core",
    "Annealing": "fmicl_text.core",
    "Adaptation": "fmicl_text.core",
    "ContrastiveTrainer": "fmicl_text.training.trainer",
    "train": "fmicl_text.training.train",
    "evaluate": "fmicl_text.evaluation.sts",
    "publish": "fmicl_text.hub",
}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    """Import an exported name when it is first used, so that ``fmicl --help`` need not wait for torch."""
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'fmicl_text' has no attribute {name!r}")
