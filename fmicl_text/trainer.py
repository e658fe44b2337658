"""The sentence-transformers trainer, keeping also what the loss owns in its checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformerTrainer
from torch import nn

from fmicl_text.losses import ContrastiveLoss

LOSS_FILE = "loss.safetensors"


class ContrastiveTrainer(SentenceTransformerTrainer):
    """``SentenceTransformerTrainer`` that saves and restores a :class:`ContrastiveLoss`'s head, kernel and alpha.

    Needed only where such a loss is resumed from a checkpoint: the parent saves the encoder alone. A loss inside a
    wrapper such as ``MatryoshkaLoss`` is found there.

    Raises:
        ValueError: On resuming, if the checkpoint's loss has other parts than this one.
    """

    def _contrastive_loss(self) -> ContrastiveLoss | None:
        modules = self.loss.modules() if isinstance(self.loss, nn.Module) else ()
        return next((module for module in modules if isinstance(module, ContrastiveLoss)), None)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        loss = self._contrastive_loss()
        if loss is not None and (state := loss.own_state()):
            save_file(state, Path(output_dir or self.args.output_dir) / LOSS_FILE)

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        super()._load_from_checkpoint(checkpoint_path)
        file = Path(checkpoint_path) / LOSS_FILE
        if (loss := self._contrastive_loss()) is not None:
            loss.load_own_state(load_file(file, device=str(self.args.device)) if file.is_file() else {})
