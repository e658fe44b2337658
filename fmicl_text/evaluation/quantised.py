"""Embeddings in 8 bits or 1 bit a dimension, by sentence-transformers' ``quantize_embeddings``, and what they score."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from sentence_transformers.util import quantize_embeddings
from torch import nn

from fmicl_text.evaluation.scored_model import ScoredModel

Precision = Literal["int8", "binary"]
"""A whole number of 8 bits for each dimension, or whether it is above 0."""


def quantised(embeddings: np.ndarray, precision: Precision, ranges: np.ndarray | None) -> np.ndarray:
    """Return what is stored of embeddings ``(n, D)``: int8 ``(n, D)``; binary, with 8 dimensions each, ``(n, D / 8)``.

    Args:
        embeddings: Of any floating type.
        precision: What is stored.
        ranges: For int8, least and most of each dimension, ``(2, D)``; what lies beyond has the outermost number.
    """
    stored = quantize_embeddings(embeddings, precision, ranges=ranges)
    assert isinstance(stored, np.ndarray)  # of one array
    return stored


@contextmanager
def quantising(scored: ScoredModel, precision: Precision, ranges: np.ndarray | None) -> Iterator[ScoredModel]:
    """Have an encoder give what is stored of its embeddings, within this context; the arguments are as above.

    Yields:
        The encoder with another revision, by which mteb keeps results.
    """
    state = hashlib.sha256(b"" if ranges is None else ranges.tobytes()).hexdigest()[:12]
    scored.encoder.append(_Quantiser(precision, ranges))
    try:
        yield scored._replace(revision=scored.revision and f"{scored.revision}-{precision}-{state}")
    finally:
        scored.encoder.pop(-1)


class _Quantiser(nn.Module):
    """The last module of an encoder: numbers whose cosines are those of the stored vectors.

    Of binary these are 1 and -1, whose cosine is ``1 - 2 h / D`` with ``h`` the Hamming distance of the bits.
    """

    def __init__(self, precision: Precision, ranges: np.ndarray | None) -> None:
        super().__init__()
        self.precision, self.ranges = precision, ranges

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """Return the features with other sentence embeddings ``(B, D)``."""
        embeddings = features["sentence_embedding"]
        stored = quantised(embeddings.float().cpu().numpy(), self.precision, self.ranges)
        if self.precision == "binary":
            packed: np.ndarray = stored.view(np.uint8) ^ np.uint8(0x80)  # (B, D / 8)
            stored = 2 * np.unpackbits(packed, axis=1, count=embeddings.shape[1]).astype(np.int8) - 1  # (B, D)
        return features | {"sentence_embedding": torch.from_numpy(stored).to(embeddings)}
