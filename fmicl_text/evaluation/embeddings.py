"""Embedding the texts of an evaluation: each distinct one once, in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fmicl_text.encoders.images import require_texts
from fmicl_text.errors import InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_TOKENIZED = 1024  # texts tokenised at a time to measure them


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Embeddings ``rows`` ``(N, D)`` of ``N`` distinct texts; ``index`` says which row is a text's."""

    index: dict[str, int]
    rows: np.ndarray

    def of(self, texts: Sequence[str]) -> np.ndarray:
        """Return the embeddings of these texts: ``(n, D)``."""
        return self.rows[[self.index[text] for text in texts]]


def embed(
    model: SentenceTransformer,
    texts: Iterable[str],
    batch_size: int = 128,
    show_progress: bool = False,
    bf16: bool = False,
) -> Embeddings:
    """Encode each distinct text once, to the model's own maximum length.

    A batch is padded to its longest text. ``encode`` sorts by characters; texts of as many characters differ in
    tokens, and on STS a third of what is computed is padding. So they are sorted by tokens here, which leaves 2%.

    Args:
        model: The encoder.
        texts: Any number of texts; those that are the same are encoded once.
        batch_size: Texts encoded at a time.
        show_progress: Draw a progress bar on standard error.
        bf16: Run matrix products in bfloat16 (autocast) instead of the model's own precision.

    Raises:
        InputError: ``bf16`` on a CPU that has no instructions for it, where it would be slower and less exact; an
            encoder of images.
    """
    import torch
    from rich.console import Console
    from rich.progress import track

    from fmicl_text.evaluation.linear import OneDnnLinear

    require_texts(model)
    if bf16 and model.device.type == "cpu" and not cpu_has_bfloat16():
        raise InputError("this CPU has no bfloat16 instructions: leave bf16 out, float32 is faster here")
    ordered = _longest_first(model, list(dict.fromkeys(texts)))
    batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16), OneDnnLinear():
        rows = [
            model.encode(batch, batch_size=batch_size, show_progress_bar=False)
            for batch in track(batches, "Embedding", console=Console(stderr=True), disable=not show_progress)
        ]
    return Embeddings({text: row for row, text in enumerate(ordered)}, np.concatenate(rows))


def cpu_has_bfloat16() -> bool:
    """Tell whether this CPU multiplies in bfloat16; emulating it is several times slower than float32."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def _longest_first(model: SentenceTransformer, texts: list[str]) -> list[str]:
    """Sort texts by their number of tokens; or by characters for a model that does not pad."""
    texts = sorted(texts, key=len, reverse=True)
    lengths: list[int] = []
    for start in range(0, len(texts), _TOKENIZED):
        chunk = texts[start : start + _TOKENIZED]
        mask = model.preprocess(chunk).get("attention_mask")
        if mask is None or len(mask) != len(chunk):  # of a static model, or one that joins texts in one sequence
            return texts
        lengths += mask.sum(dim=1).tolist()
    return [texts[i] for i in sorted(range(len(texts)), key=lengths.__getitem__, reverse=True)]
