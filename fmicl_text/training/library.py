"""The one private method of a library that training calls; the trainer overrides it for adapters."""

from __future__ import annotations

from pathlib import Path

from sentence_transformers import SentenceTransformerTrainer


def load_weights(trainer: SentenceTransformerTrainer, checkpoint: Path) -> None:
    """Put the weights of a checkpoint into the trainer's encoder, as resuming does.

    The public constructor of the encoder would refuse modules whose classes are the user's own. If the method changes,
    ``load_best_model_at_end`` fails.
    """
    trainer._load_from_checkpoint(str(checkpoint))
