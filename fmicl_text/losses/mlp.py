"""Layers that only training has: a projector between encoder and loss, and a predictor after it.

Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (SimCLR), ICML 2020, arXiv
2002.05709; Chen, Xie, He, "An Empirical Study of Training Self-Supervised Vision Transformers" (MoCo v3), ICCV 2021,
arXiv 2104.02057.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt

from fmicl_text.section import Section

if TYPE_CHECKING:
    from torch import nn


class Mlp(Section):
    """Linear layers with ReLU between them."""

    widths: Annotated[list[PositiveInt], Field(min_length=1)]
    """Output dimensions of each layer, such as [2048, 128]."""
    batch_norm: Literal["none", "hidden", "all"] = "none"
    """BatchNorm after no layer, after all but the last, or after all; the last then without scale and shift."""

    def build(self, dimensions: int) -> nn.Sequential:
        """Return new layers for vectors of so many dimensions.

        A layer before a BatchNorm has no bias, which the BatchNorm would take out again.
        """
        from torch import nn

        layers: list[nn.Module] = []
        for number, width in enumerate(self.widths, 1):
            last = number == len(self.widths)
            normalised = self.batch_norm == "all" or (self.batch_norm == "hidden" and not last)
            layers.append(nn.Linear(dimensions, width, bias=not normalised))
            if normalised:
                layers.append(nn.BatchNorm1d(width, affine=not last))
            if not last:
                layers.append(nn.ReLU())
            dimensions = width
        return nn.Sequential(*layers)
