"""MoCo's queue: earlier keys of a slowly moving copy of the encoder, as further negatives.

He, Fan, Wu, Xie, Girshick, "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020,
arXiv 1911.05722; for sentences: Cao et al., "Exploring the Impact of Negative Samples of Contrastive Learning: A Case
Study of Sentence Embedding" (MoCoSE), Findings of ACL 2022, arXiv 2202.13093.

Shapes: ``B`` rows of a batch, ``D`` dimensions, ``Q`` rows of the queue.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fmicl_text.features import Features

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class MomentumQueue(nn.Module):
    """A moving average of the encoder and its train-only head, and the keys it made last.

    Args:
        model: The encoder.
        head: Its train-only head, if it has one.
        size: ``Q``, rows of the queue; at first it is empty.
        momentum: Share of the moving average that each training step keeps.

    Raises:
        ValueError: If ``size`` is not positive, or ``momentum`` not in [0, 1].
    """

    vectors: Tensor
    texts: Tensor
    pushed: Tensor

    def __init__(self, model: SentenceTransformer, head: nn.Module | None, size: int, momentum: float) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"queue must be at least 1 row, got {size!r}")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1], got {momentum!r}")
        self.momentum = momentum
        self.encoder = copy.deepcopy(model).requires_grad_(False)
        self.head = copy.deepcopy(head).requires_grad_(False) if head is not None else None
        self.register_buffer("vectors", torch.zeros(size, model.get_embedding_dimension()))  # (Q, D)
        self.register_buffer("texts", torch.zeros(size, 2, dtype=torch.long))  # (Q, 2), both texts of a pair
        self.register_buffer("pushed", torch.zeros((), dtype=torch.long))  # rows pushed since the beginning

    @torch.no_grad()
    def keys(self, model: nn.Module, head: nn.Module | None, columns: list[Features]) -> list[Tensor]:
        """Move the average on, in training, and encode anchors and positives with it: unit vectors ``(B, D)`` each.

        Args:
            model: The encoder as it is now, possibly wrapped for several processes.
            head: Its head.
            columns: Tokenised columns: one for dropout views, which is encoded twice, else anchors and positives.
        """
        if self.training:
            self._follow(self.encoder, getattr(model, "module", model))
            if self.head is not None and head is not None:
                self._follow(self.head, head)
        keys = []
        for column in (columns * 2)[:2] if len(columns) == 1 else columns[:2]:
            embeddings = self.encoder(dict(column))["sentence_embedding"].float()  # (B, D)
            keys.append(normalize(self.head(embeddings) if self.head is not None else embeddings, dim=1))
        return keys

    def _follow(self, average: nn.Module, now: nn.Module) -> None:
        for mean, parameter in zip(average.parameters(), now.parameters(), strict=True):
            mean.lerp_(parameter.to(mean.dtype), 1 - self.momentum)

    def rows(self) -> tuple[Tensor, Tensor]:
        """Return the keys that wait, ``(<= Q, D)``, and the texts of their pairs, ``(<= Q, 2)``."""
        filled = min(int(self.pushed), len(self.vectors))
        return self.vectors[:filled].clone(), self.texts[:filled].clone()  # push() writes in place

    def push(self, keys: list[Tensor], texts: Tensor) -> None:
        """Let keys queue up in place of the oldest.

        Args:
            keys: Unit vectors ``(B, D)`` of anchors and positives.
            texts: Text identities ``(B, K)`` of their pairs.
        """
        vectors = torch.cat(keys)[-len(self.vectors) :]  # (2B, D)
        both = texts.expand(-1, 2).repeat(len(keys), 1)[-len(self.vectors) :]  # (2B, 2)
        places = (torch.arange(len(vectors), device=vectors.device) + self.pushed) % len(self.vectors)
        self.vectors[places] = vectors
        self.texts[places] = both
        self.pushed += len(vectors)

    def extra_repr(self) -> str:
        """Say how long the queue is."""
        return f"{len(self.vectors)} rows, momentum {self.momentum}"
