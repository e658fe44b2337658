"""The error of a training that NaN or infinity stops: the step, the rows, and the last good checkpoint."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from fmicl_text.errors import RunFailedError
from fmicl_text.losses.features import Features

_SHOWN_TEXTS, _SHOWN_ROWS, _WIDTH = 5, 100, 80


class NonFiniteError(RunFailedError):
    """NaN or infinity occurred in training, which stopped before any weight was changed by it.

    Args:
        reason: What was not finite.
        step: See the attribute.
        rows: See the attribute.
        texts: Name of each offending row -> its texts.
        checkpoint: See the attribute.

    Attributes:
        step: The training step that could not be made, counted from 1.
        rows: Row numbers of the step's batch on this process, counted from 0; empty where the data has none.
        texts: The texts of the offending rows, those of a row in the order of the columns.
        checkpoint: The newest checkpoint without NaN or infinity in it, or ``None``.
    """

    def __init__(
        self, reason: str, step: int, rows: list[int], texts: dict[str, list[str]], checkpoint: Path | None
    ) -> None:
        self.step, self.rows, self.checkpoint = step, rows, checkpoint
        self.texts = list(texts.values())
        lines = [f"training stopped at step {step}: {reason}"]
        lines += [f"  {row}: {' | '.join(map(_shown, of_row))}" for row, of_row in texts.items()][:_SHOWN_TEXTS]
        lines += [f"  and {len(texts) - _SHOWN_TEXTS} more"] * (len(texts) > _SHOWN_TEXTS)
        if rows:
            more = f" and {len(rows) - _SHOWN_ROWS} more" * (len(rows) > _SHOWN_ROWS)
            lines.append(f"rows of the batch: {', '.join(map(str, rows[:_SHOWN_ROWS]))}{more}")
        lines.append(f"last good checkpoint: {checkpoint or 'none yet'}")
        super().__init__("\n".join(lines))


def texts_of(columns: list[Features], tokenizer: Any) -> list[list[str]]:
    """Return the texts that the encoder read, one list per row of a batch; none if it does not read padded tokens.

    Args:
        columns: Tokenised columns of ``B`` rows.
        tokenizer: What made them.
    """

    def text(tokens: Tensor, mask: Tensor) -> str:
        return str(tokenizer.decode(tokens[mask.bool()], skip_special_tokens=True))

    padded = [column for column in columns if {"input_ids", "attention_mask"} <= column.keys()]
    of_columns = [list(map(text, column["input_ids"], column["attention_mask"])) for column in padded]
    return [list(of_row) for of_row in zip(*of_columns, strict=True)]


def _shown(text: str) -> str:
    """Quote and shorten a text; line breaks and control characters are escaped."""
    return repr(textwrap.shorten(text, _WIDTH, placeholder=" ..."))


def last_good_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint of a trainer's output folder whose weights are all finite, or ``None``."""
    checkpoints = [c for c in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if c.name.rpartition("-")[2].isdecimal()]
    newest_first = sorted(checkpoints, key=lambda c: int(c.name.rpartition("-")[2]), reverse=True)
    return next((c for c in newest_first if all(map(_all_finite, c.rglob("*.safetensors")))), None)


def _all_finite(file: Path) -> bool:
    with safe_open(file, "pt") as tensors:
        return all(torch.isfinite(tensors.get_tensor(name)).all() for name in tensors.keys())  # noqa: SIM118
