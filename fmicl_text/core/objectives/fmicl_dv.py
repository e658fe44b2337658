"""f-MICL in the form of Donsker and Varadhan: Lu et al., TMLR 2023, arXiv 2402.10150, on InfoNCE."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fmicl_text.core.batch import Terms
from fmicl_text.core.objectives.fmicl import fmicl


def fmicl_dv(x: Tensor, y: Tensor, extra: Tensor | None = None, **settings: Any) -> Terms:
    """Return the terms of :func:`fmicl_text.core.fmicl` with ``shift="batch"``, by the name it has in older code."""
    return fmicl(x, y, extra, shift="batch", **settings)
