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

from fmicl_text.losses.features import Features
from fmicl_text.losses.vectors import unit_vectors

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

    def __init__(self, model: SentenceTransformer, head: nn.Sequential | None, size: int, momentum: float) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"queue must be at least 1 row, got {size!r}")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be in [0, 1], got {momentum!r}")
        self.momentum = momentum
        self.encoder = copy.deepcopy(model).requires_grad_(False).train()  # loaded encoders begin in eval mode
        self.head = copy.deepcopy(head).requires_grad_(False) if head is not None else None
        # Each process has rows of its own, so they are no part of the state that is the same on all.
        own = {"persistent": False}
        self.register_buffer("vectors", torch.zeros(size, model.get_embedding_dimension()), **own)  # (Q, D)
        self.register_buffer("texts", torch.zeros(size, 2, dtype=torch.long), **own)  # (Q, 2), both texts of a pair
        self.register_buffer("pushed", torch.zeros((), dtype=torch.long), **own)  # rows pushed since the beginning

    @torch.no_grad()
    def follow(self, model: nn.Module, head: nn.Sequential | None) -> None:
        """Move the average on: ``average = momentum * average + (1 - momentum) * now``.

        Args:
            model: The encoder as it is now, possibly wrapped for several processes.
            head: Its head.
        """
        now = [*model.parameters(), *(head.parameters() if head is not None else ())]
        average = [*self.encoder.parameters(), *(self.head.parameters() if self.head is not None else ())]
        for mean, parameter in zip(average, now, strict=True):
            mean.lerp_(parameter.to(mean.dtype), 1 - self.momentum)

    @torch.no_grad()
    def keys(self, columns: list[Features]) -> list[Tensor]:
        """Encode anchors and positives with the moving average: unit vectors ``(B, D)`` each.

        Args:
            columns: Tokenised columns: one for dropout views, which is encoded twice, else anchors and positives.
        """
        chosen = columns * 2 if len(columns) == 1 else columns[:2]
        return [unit_vectors(self.encoder(dict(column))["sentence_embedding"], self.head) for column in chosen]

    def rows(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys that wait, ``(<= Q, D)``, and the texts of their pairs, ``(<= Q, 2)``.

        Args:
            like: Vectors ``(B, D)`` of the batch that is to meet them.

        Raises:
            ValueError: If they have another number of dimensions.
        """
        if like.shape[1] != self.vectors.shape[1]:
            raise ValueError(
                f"the queue holds keys of {self.vectors.shape[1]} dimensions, got {like.shape[1]}: "
                "a queue does not go with MatryoshkaLoss"
            )
        filled = min(int(self.pushed), len(self.vectors))
        return self.vectors[:filled].to(like), self.texts[:filled]

    @torch.no_grad()
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

    def waiting(self) -> dict[str, Tensor]:
        """State of the rows, which are this process's own, for a checkpoint."""
        return {"vectors": self.vectors, "texts": self.texts, "pushed": self.pushed}

    @torch.no_grad()
    def load_waiting(self, state: dict[str, Tensor]) -> None:
        """Restore :meth:`waiting`.

        Raises:
            ValueError: If the queue that was saved has another size.
        """
        if state["vectors"].shape != self.vectors.shape:
            saved, here = tuple(state["vectors"].shape), tuple(self.vectors.shape)
            raise ValueError(f"the saved queue has (rows, dimensions) {saved}, this one has {here}")
        for name, value in self.waiting().items():
            value.copy_(state[name])

    def extra_repr(self) -> str:
        """Say how long the queue is."""
        return f"{len(self.vectors)} rows, momentum {self.momentum}"
