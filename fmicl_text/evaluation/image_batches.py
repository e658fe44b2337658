"""Images of a data set, some at a time, for an encoder in eval mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from torch import Tensor


def image_batches(rows: Dataset, size: int, batch_size: int, show_progress: bool = False) -> Iterator[Tensor]:
    """Yield images in order, uint8 ``(B, S, S, 3)``.

    Args:
        rows: A column ``image``, pixels.
        size: ``S``, width and height.
        batch_size: ``B``; the last batch may be smaller.
        show_progress: Draw a progress bar on standard error.
    """
    import torch
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    starts = range(0, len(rows), batch_size)
    for start in track(starts, "Embedding", console=console, disable=not show_progress, transient=True):
        part = rows[start : start + batch_size]["image"]
        yield torch.from_numpy(np.frombuffer(b"".join(part), np.uint8).reshape(len(part), size, size, 3).copy())


@contextmanager
def eval_mode(model: SentenceTransformer) -> Iterator[None]:
    """Put an encoder in eval mode, and each module back in the mode that it was in."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, was in training.items():
            module.training = was
