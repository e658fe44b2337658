"""Which parts of an embedding are trained as embeddings of their own: its first 256 numbers, its first 64.

Kusupati et al., "Matryoshka Representation Learning", NeurIPS 2022, arXiv 2205.13147.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from fmicl_text.section import Conflict, Section


class Matryoshka(Section):
    """The loss is the weighted sum of the objective's at each of these numbers of dimensions."""

    dims: Annotated[list[PositiveInt], Field(min_length=1)]
    """How many of an embedding's first numbers count; the encoder's own number of dimensions among them."""
    weights: list[PositiveFloat] | None = None
    """Weight of the loss at each of dims; default 1 each."""

    def conflicts(self) -> Iterator[Conflict]:
        """Each number of dimensions is named once, and has a weight if any has."""
        if len(set(self.dims)) < len(self.dims):
            yield ("dims",), f"must differ, got {self.dims}"
        if self.weights is not None and len(self.weights) != len(self.dims):
            yield ("weights",), f"must be as many as dims, {len(self.dims)}, got {len(self.weights)}"
