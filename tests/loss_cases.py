"""Every loss in every variant, over the smallest encoder there is; for the tests of what all losses have in common."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fmicl_text.losses import LOSSES, ContrastiveLoss

LEARNED = {"learn_kernel": True}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "fmicl": ("fmicl", {"sigma": 0.6, "alpha": 3.0} | LEARNED),
    "fmicl-within": ("fmicl", {"divergence": "js", "sigma": 0.6, "negatives": "within"}),
    "fmicl-both": ("fmicl", {"divergence": "pearson", "sigma": 0.8, "negatives": "both"} | LEARNED),
    "fmicl-auto": ("fmicl", {"sigma": 0.6, "alpha": "auto"} | LEARNED),
    "fmicl-dv": ("fmicl", {"sigma": 0.6, "shift": "dv"}),
    "infonce": ("infonce", {"temperature": 0.2} | LEARNED),
    "infonce-symmetric": ("infonce", {"kernel": "gaussian", "sigma": 0.5, "symmetric": True}),
    "ntxent": ("ntxent", LEARNED),
    "alignment-uniformity": ("alignment-uniformity", {"power": 1.0}),
    "spectral": ("spectral", {}),
    "kernel-infonce": ("kernel-infonce", LEARNED),
    "kernel-infonce-sum": ("kernel-infonce", {"mix": "sum", "second_temperature": 0.3} | LEARNED),
    "kernel-infonce-losses": ("kernel-infonce", {"kernel": "exponential", "mix": "losses"} | LEARNED),
    "kernel-infonce-concatenation": ("kernel-infonce", {"mix": "concatenation"} | LEARNED),
    "dhel": ("dhel", LEARNED),
    "kcl": ("kcl", {}),
    "kcl-log": ("kcl", {"kernel": "log"}),
    "dcl": ("dcl", LEARNED),
    "dclw": ("dcl", {"weight_sigma": 0.5} | LEARNED),
    "focal-infonce": ("focal-infonce", {"temperature": 0.2}),
    "hcl": ("hcl", LEARNED),
    "asymmetric-infonce": ("asymmetric-infonce", LEARNED),
    "contextual-infonce": ("contextual-infonce", LEARNED),
}
"""Name of a variant -> name of the loss and its arguments."""
PAIRWISE = [name for name in CASES if name != "contextual-infonce"]
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


def build(case: str, dropout: float = 0.0, seed: int = 0, **common: Any) -> ContrastiveLoss:
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
