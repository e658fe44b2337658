"""Training and encoding without a trainer: a run takes seconds, and setting up a trainer would take as long.

The steps are those of ``SentenceTransformerTrainer`` (a test compares the weights after training): AdamW without weight
decay, gradients clipped to norm 1, linear warm-up and decay, bfloat16 by autocast where asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from eval.benchmarks.default_loss.jobs import BATCH_SIZE

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Features = dict[str, Any]
WARMUP = 0.1
"""Share of the steps in which the learning rate rises."""
_TEXTS_AT_ONCE = 128


def precision(device: str) -> torch.dtype:
    """Return bfloat16 on a GPU that has it, else float32."""
    return torch.bfloat16 if device.startswith("cuda") and torch.cuda.is_bf16_supported() else torch.float32


def tokenised(model: SentenceTransformer, texts: list[str]) -> Features:
    """Return texts as the encoder reads them, on its device."""
    features = model.preprocess(texts)
    return {name: v.to(model.device) if isinstance(v, Tensor) else v for name, v in features.items()}


def batches(model: SentenceTransformer, columns: Sequence[list[str]], steps: int, seed: int) -> list[list[Features]]:
    """Return ``steps`` tokenised batches of full size, drawn epoch by epoch in an order of the seed's."""
    rows = len(columns[0])
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    size = min(BATCH_SIZE, rows)
    while len(order) < steps * size:
        epoch = torch.randperm(rows, generator=generator).tolist()
        order += epoch[: rows - rows % size]  # a last batch that is not full is left out
    drawn = [order[step * size : (step + 1) * size] for step in range(steps)]
    return [[tokenised(model, [column[row] for row in batch]) for column in columns] for batch in drawn]


def train(
    model: SentenceTransformer,
    loss: nn.Module,
    data: Sequence[list[Features]],
    learning_rate: float,
    dtype: torch.dtype,
) -> list[float]:
    """Train an encoder for a step a batch; return the loss of each step."""
    from transformers import get_linear_schedule_with_warmup

    model.train()
    # The encoder is a part of the loss, which may have parameters beside it.
    parameters = [p for p in nn.ModuleList([model, loss]).parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0, fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, int(WARMUP * len(data)), len(data))
    losses = []
    for columns in data:
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            value = loss([dict(column) for column in columns], None)
        if isinstance(value, dict):
            value = torch.stack(list(value.values())).sum()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(value.detach())
    return torch.stack(losses).tolist()


@dataclass(frozen=True)
class Tokenised:
    """Texts ready to be encoded: batches of texts of like length, and where each text went."""

    batches: list[Features]
    places: Tensor

    @classmethod
    def of(cls, model: SentenceTransformer, texts: list[str]) -> Tokenised:
        """Return the texts, tokenised on the encoder's device."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        parts = [order[start : start + _TEXTS_AT_ONCE] for start in range(0, len(order), _TEXTS_AT_ONCE)]
        batches = [tokenised(model, [texts[i] for i in part]) for part in parts]
        return cls(batches, torch.tensor(order, device=model.device).argsort())


@torch.inference_mode()
def encode(model: SentenceTransformer, texts: Tokenised, dtype: torch.dtype) -> Tensor:
    """Return unit vectors of the texts, ``(n, D)`` in float32."""
    model.eval()
    with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        vectors = [model(dict(batch))["sentence_embedding"].float() for batch in texts.batches]
    return normalize(torch.cat(vectors), dim=1)[texts.places]
