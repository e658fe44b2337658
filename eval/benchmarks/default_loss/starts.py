"""The encoders that training starts from, each with the learning rate that suits its kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fmicl_text.data.samples import minilm_path

if TYPE_CHECKING:
    from pathlib import Path

    from sentence_transformers import SentenceTransformer

MAX_LENGTH = 64


@dataclass(frozen=True)
class Start:
    """An encoder to start from.

    Attributes:
        learning_rate: Peak of the schedule.
        jobs: Names of the jobs it is used on; empty for all.
    """

    learning_rate: float
    jobs: tuple[str, ...] = ()


STARTS = {
    "minilm": Start(6e-5),
    "minilm-mlm": Start(6e-5, ("selqa", "questions-of-people", "dropout-wikipedia")),
    "static": Start(
        5e-3,
        (
            *("questions-of-things", "wikipedia", "captions"),
            *("crowd-inference", "entailment", "phrases", "reviews", "sentiment", "backwards"),
        ),
    ),
}
"""``minilm`` is all-MiniLM-L6-v2, a good encoder; ``minilm-mlm`` its weights as a masked language model again, whose
cosines are all high; ``static`` the word embeddings of all-MiniLM-L6-v2 alone."""


def load_start(name: str, models: Path | None, device: str) -> SentenceTransformer:
    """Load a start.

    Args:
        name: One of :data:`STARTS`.
        models: Folder with ``minilm-mlm`` and, where the sample package is not installed, ``minilm``.
        device: Where it goes.

    Raises:
        FileNotFoundError: ``models`` has no such folder.
    """
    from sentence_transformers import SentenceTransformer

    folder = "minilm-mlm" if name == "minilm-mlm" else "minilm"
    path = models / folder if models and (models / folder).is_dir() else None
    if path is None and folder == "minilm-mlm":
        raise FileNotFoundError(f"--models {models}: has no folder minilm-mlm")
    dtype = {"dtype": torch.float32}  # whatever the weights are stored in
    model = SentenceTransformer(str(path or minilm_path()), device=device, model_kwargs=dtype)
    model.max_seq_length = MAX_LENGTH
    return static_of(model, device) if name == "static" else model


def static_of(model: SentenceTransformer, device: str) -> SentenceTransformer:
    """Return the static encoder that averages the word embeddings of a transformer."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    words: torch.Tensor = model[0].auto_model.get_input_embeddings().weight.detach().float().cpu()  # (V, D)
    embedding = StaticEmbedding(model.tokenizer, embedding_weights=words.numpy())
    return SentenceTransformer(modules=[embedding], device=device)
