"""Held-out parts of a job, and how an encoder's vectors score on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fmicl_text.evaluation.items import Items, digest


@dataclass(frozen=True)
class Retrieval:
    """Queries and the documents among which each must find those of its own group.

    Attributes:
        queries: ``n`` texts.
        groups: Group of each query.
        documents: ``m`` distinct texts; None if the queries are searched themselves, each without itself.
        document_groups: Group of each document; None with ``documents``. Every query has a document of its group.
    """

    queries: list[str]
    groups: list[int]
    documents: list[str] | None = None
    document_groups: list[int] | None = None

    @property
    def texts(self) -> list[str]:
        """All texts to encode, queries first."""
        return self.queries + (self.documents or [])

    def items(self, vectors: Tensor) -> dict[str, Items]:
        """Return what each query scored, given unit vectors ``(n + m, D)`` of :attr:`texts`.

        ``map`` is average precision (the reciprocal rank where one document is right), ``accuracy@1`` whether the
        nearest document is right.
        """
        n = len(self.queries)
        queries, documents = vectors[:n], vectors[n:] if self.documents else vectors
        cosines = queries @ documents.T  # (n, m)
        device = vectors.device
        groups = torch.tensor(self.groups, device=device)
        of_documents = groups if self.document_groups is None else torch.tensor(self.document_groups, device=device)
        right = groups[:, None] == of_documents  # (n, m)
        if self.documents is None:
            cosines.fill_diagonal_(-torch.inf)
            right.fill_diagonal_(False)
        found = right.gather(1, cosines.argsort(dim=1, descending=True)).double()  # (n, m), best document first
        places = torch.arange(1, found.shape[1] + 1, device=device)
        precision = (found * found.cumsum(dim=1) / places).sum(dim=1) / found.sum(dim=1)  # (n,)
        source = digest(self.texts)
        return {
            "map": Items("mean", precision.cpu().numpy(), source=source),
            "accuracy@1": Items("mean", found[:, 0].cpu().numpy(), source=source),
        }

    def document(self) -> dict[str, Any]:
        """Return plain values, for a file."""
        return {"kind": "retrieval", **vars(self)}


@dataclass(frozen=True)
class Similarity:
    """Pairs of sentences with a gold score of their similarity.

    Attributes:
        sentences1: ``n`` texts.
        sentences2: ``n`` texts.
        scores: Gold, ``(n,)``.
    """

    sentences1: list[str]
    sentences2: list[str]
    scores: list[float]

    @property
    def texts(self) -> list[str]:
        """All texts to encode."""
        return self.sentences1 + self.sentences2

    def items(self, vectors: Tensor) -> dict[str, Items]:
        """Return the cosine of each pair beside its gold score, given unit vectors ``(2n, D)`` of :attr:`texts`."""
        first, second = vectors.chunk(2)
        cosines = (first * second).sum(dim=1).cpu().numpy()
        return {"spearman": Items("spearman", cosines, np.array(self.scores), digest(self.texts))}

    def document(self) -> dict[str, Any]:
        """Return plain values, for a file."""
        return {"kind": "similarity", **vars(self)}


HeldOut = Retrieval | Similarity


def held_out_of(document: dict[str, Any]) -> HeldOut:
    """Return what :meth:`Retrieval.document` or :meth:`Similarity.document` wrote."""
    values = dict(document)
    return {"retrieval": Retrieval, "similarity": Similarity}[values.pop("kind")](**values)
