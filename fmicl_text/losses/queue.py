"""MoCo's moving average of the encoder, whose keys are the positives, and its queue of earlier keys as negatives.

He, Fan, Wu, Xie, Girshick, "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020,
arXiv 1911.05722; for sentences: Cao et al., "Exploring the Impact of Negative Samples of Contrastive Learning: A Case
Study of Sentence Embedding" (MoCoSE), Findings of ACL 2022, arXiv 2202.13093; without a queue: Chen, Xie, He, "An
Empirical Study of Training Self-Supervised Vision Transformers" (MoCo v3), ICCV 2021, arXiv 2104.02057.

Shapes: ``B`` rows of a batch, ``D`` dimensions, ``Q`` rows of the queue.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from fmicl_text.losses.length_groups import encode
from fmicl_text.losses.vectors import unit_vectors

_HALF = (torch.bfloat16, torch.float16)


class MomentumQueue(nn.Module):
    """A moving average of an encoder and its train-only head, and its latest keys.

    Args:
        encoder: Encodes a batch to ``(B, D)``, or to features with a ``sentence_embedding``.
        head: Its train-only head, if it has one.
        size: ``Q``, rows of the queue; at first it is empty. 0 for the moving average alone.
        momentum: Share of the moving average that a training step keeps, in [0, 1].
        dimensions: ``D``.

    Attributes:
        precision: Half precision in which keys are encoded by autocast, or None: that of the encoder's weights, unless
            training says another. The average itself is in float32, as half precision would round its steps away.
    """

    vectors: Tensor
    texts: Tensor
    pushed: Tensor

    def __init__(
        self, encoder: nn.Module, head: nn.Sequential | None, size: int, momentum: float, dimensions: int
    ) -> None:
        super().__init__()
        self.momentum = momentum
        self.precision = next((p.dtype for p in encoder.parameters() if p.dtype in _HALF), None)
        self.encoder = _in_float32(copy.deepcopy(encoder)).requires_grad_(False).train()  # loaded ones are in eval mode
        self.head = copy.deepcopy(head).requires_grad_(False) if head is not None else None
        floating = (value.dtype for value in encoder.state_dict().values() if value.is_floating_point())
        dtype = torch.float64 if torch.float64 in floating else torch.float32
        # Each process has rows of its own, so they are no part of the state that is the same on all.
        own: dict[str, Any] = {"persistent": False}
        self.register_buffer("vectors", torch.zeros(size, dimensions, dtype=dtype), **own)  # (Q, D)
        self.register_buffer("texts", torch.zeros(size, 2, dtype=torch.long), **own)  # (Q, 2), both texts of a pair
        self.register_buffer("pushed", torch.zeros((), dtype=torch.long), **own)  # rows pushed since the beginning
        self._filled = 0  # rows that are not empty, known without asking the device

    @torch.no_grad()
    def follow(self, encoder: nn.Module, head: nn.Sequential | None, momentum: float | None = None) -> None:
        """Update the average: ``average = momentum * average + (1 - momentum) * now``.

        Args:
            encoder: The encoder as it is now, possibly wrapped for several processes.
            head: Its head.
            momentum: Of this step; default as the queue was made.
        """
        share = self.momentum if momentum is None else momentum
        now = [*encoder.parameters(), *(head.parameters() if head is not None else ())]
        average = [*self.encoder.parameters(), *(self.head.parameters() if self.head is not None else ())]
        for mean, parameter in zip(average, now, strict=True):
            mean.lerp_(parameter.to(mean.dtype), 1 - share)

    @torch.no_grad()
    def keys(self, batches: Sequence[Any]) -> list[Tensor]:
        """Encode anchors and positives with the moving average: unit vectors ``(B, D)`` each.

        Args:
            batches: What the encoder reads: one batch for dropout views, which is encoded twice, else anchors and
                positives.
        """
        both = [*batches, *batches] if len(batches) == 1 else batches[:2]
        # An encoder may write its output among the features, which the encoder that trains reads next.
        given = [dict(batch) if isinstance(batch, dict) else batch for batch in both]
        with torch.autocast(self.vectors.device.type, self.precision) if self.precision else nullcontext():
            encoded = [encode(self.encoder, batch) for batch in given]  # (B, D) each
        return [unit_vectors(embeddings, self.head) for embeddings in encoded]

    def rows(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys in the queue, ``(<= Q, D)``, and the identities of their pairs, ``(<= Q, K)``.

        Args:
            like: Vectors ``(B, D)`` of the batch that is compared with them.

        Raises:
            ValueError: If they have another number of dimensions.
        """
        if like.shape[1] != self.vectors.shape[1]:
            raise ValueError(
                f"the queue holds vectors of {self.vectors.shape[1]} dimensions, got {like.shape[1]}: "
                "a queue does not go with MatryoshkaLoss or Matryoshka2dLoss"
            )
        return self.vectors[: self._filled].to(like), self.texts[: self._filled]

    @torch.no_grad()
    def push(self, keys: list[Tensor], texts: Tensor) -> None:
        """Add keys, which replace the oldest.

        Args:
            keys: Unit vectors ``(B, D)`` of anchors and positives.
            texts: Identities ``(B, K)`` of their pairs: of both texts, and of groups where there are any.
        """
        if not len(self.vectors):
            return
        vectors = torch.cat(keys)[-len(self.vectors) :]  # (2B, D)
        width = max(texts.shape[1], self.texts.shape[1])
        self.texts, texts = widened(self.texts, width), widened(texts, width)
        both = texts.repeat(len(keys), 1)[-len(self.vectors) :]  # (2B, K)
        places = (torch.arange(len(vectors), device=vectors.device) + self.pushed) % len(self.vectors)
        self.vectors[places] = vectors.to(self.vectors.dtype)
        self.texts[places] = both
        self.pushed += len(vectors)
        self._filled = min(self._filled + len(vectors), len(self.vectors))

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
        self.texts = widened(self.texts, state["texts"].shape[1])
        for name, value in self.waiting().items():
            value.copy_(state[name])
        self._filled = min(int(self.pushed), len(self.vectors))

    def extra_repr(self) -> str:
        """Return size and momentum, for ``print``."""
        return f"{len(self.vectors)} rows, momentum {self.momentum}"


def _in_float32(encoder: nn.Module) -> nn.Module:
    """Make float32 of the weights that are in half precision."""
    for values in (*encoder.parameters(), *encoder.buffers()):
        if values.dtype in _HALF:
            values.data = values.data.float()
    return encoder


def queue_warning(size: int, batch: int, rows: int | None) -> str | None:
    """Return why a queue of this size is of little use, if it is: each step adds two keys of each row of its batch.

    Keys of the anchor's own datum are never its negatives; those of all others count as often as they are there.

    Args:
        size: ``Q``, keys that the queue holds.
        batch: ``B``, rows of a batch on each process.
        rows: Rows of an epoch on each process; None if that is not known.
    """
    within = "" if rows is None else f", and at most {2 * rows:,}, the keys of an epoch"
    if rows is not None and 2 * rows <= 2 * batch:
        return f"an epoch has {2 * rows:,} keys, no more than a batch, so a queue repeats them; leave it out"
    if size <= 2 * batch:
        return (
            f"holds {size:,} keys, no more than the last batch has ({batch:,} rows, two keys each); set some multiple "
            f"of {2 * batch:,}{within}"
        )
    if rows is not None and size > 2 * rows:
        return (
            f"holds {size:,} keys, and an epoch has {2 * rows:,} ({rows:,} rows, two keys each): more of them are "
            f"outdated copies, which count again; set at most {2 * rows:,}"
        )
    return None


def widened(texts: Tensor, width: int) -> Tensor:
    """Repeat the last identity of each row ``(B, K)`` until there are ``width``."""
    return torch.cat([texts, texts[:, -1:].expand(-1, width - texts.shape[1])], dim=1)
