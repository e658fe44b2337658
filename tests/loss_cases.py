"""Every loss in every variant, over the smallest encoder there is; for the tests of what all losses have in common."""

from __future__ import annotations

from typing import Any

import torch
from loss_table import LOSS_TABLE
from torch import Tensor, nn

from fmicl_text.losses import LOSSES, SentenceLoss

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    variant: (name, arguments) for name, loss in LOSS_TABLE.items() for variant, arguments in loss.trained.items()
}
"""Name of a variant -> name of the loss and its arguments."""
PAIRWISE = [case for case, (name, _) in CASES.items() if LOSS_TABLE[name].columns == 2]
"""Variants that can do with pairs; the other one needs a third column."""
DIMENSIONS, VOCABULARY = 6, 20

Features = dict[str, Tensor]


class MeanOfTokens(nn.Module):
    """An encoder in float64: the mean of learned token vectors, with dropout."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, DIMENSIONS, dtype=torch.float64)
        self.dropout = nn.Dropout(dropout)
        self.encoded: list[int] = []  # rows of each forward pass

    def get_embedding_dimension(self) -> int:
        return DIMENSIONS

    def forward(self, features: Features) -> Features:
        mask = features["attention_mask"].unsqueeze(2)  # (B, L, 1)
        vectors = self.tokens(features["input_ids"]) * mask  # (B, L, D)
        self.encoded.append(len(vectors))
        return {"sentence_embedding": self.dropout(vectors.sum(dim=1) / mask.sum(dim=1))}


def build(case: str, dropout: float = 0.0, seed: int = 0, **common: Any) -> SentenceLoss:
    """The loss over a fresh encoder, which is the same for every seed; the loss's own weights follow the seed."""
    name, arguments = CASES[case]
    torch.manual_seed(0)
    model = MeanOfTokens(dropout)
    torch.manual_seed(seed)
    return LOSSES[name](model, **arguments, **common).double().train()


def batch(rows: int, columns: int, seed: int, distinct: bool = False) -> list[Features]:
    """Tokenised columns of texts of one to four tokens; unless distinct, some occur more than once."""
    generator = torch.Generator().manual_seed(seed)
    pool = rows * columns if distinct else max(2, rows * columns * 2 // 3)
    tokens = torch.randint(1, VOCABULARY, (pool, 4), generator=generator)
    mask = (torch.arange(4) < torch.randint(1, 5, (pool, 1), generator=generator)).long()
    order = torch.randperm(pool, generator=generator)
    drawn = order if distinct else torch.randint(0, pool, (rows * columns,), generator=generator)
    return [{"input_ids": (tokens * mask)[part], "attention_mask": mask[part]} for part in drawn.chunk(columns)]


def part(features: list[Features], rows: slice) -> list[Features]:
    """Some rows of every column."""
    return [{key: value[rows] for key, value in column.items()} for column in features]


def total(terms: dict[str, Tensor] | Tensor) -> Tensor:
    return torch.stack(list(terms.values())).sum() if isinstance(terms, dict) else terms


def gradients(loss: nn.Module) -> dict[str, Tensor]:
    """Gradient of every parameter that has one, by its name without wrappers, and then none."""
    found = {
        name.replace("model.module.", "model."): parameter.grad.clone()
        for name, parameter in loss.named_parameters()
        if parameter.grad is not None
    }
    loss.zero_grad()
    assert any(gradient.abs().sum() > 0 for gradient in found.values())
    return found


def value_and_gradients(loss: nn.Module, features: list[Features]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    terms = loss([dict(column) for column in features], None)
    total(terms).backward()
    return {name: term.detach() for name, term in terms.items()}, gradients(loss)
