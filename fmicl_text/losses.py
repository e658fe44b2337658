"""The objectives as sentence-transformers losses.

They follow the library's contract: any of them takes the place of ``MultipleNegativesRankingLoss(model)`` in a
``SentenceTransformerTrainer``. What a loss owns beyond the encoder (a train-only head, a learned kernel width,
a running average) is optimised by the trainer, averaged over processes here, and kept in checkpoints by
:class:`fmicl_text.ContrastiveTrainer`; it is never part of the saved model.

Shapes: ``B`` rows of a batch, ``D`` dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import normalize

from fmicl_text.core import Alpha, divergence_named, fmicl, infonce, kernel_named
from fmicl_text.core.objectives.fmicl import check_float32_range
from fmicl_text.core.pairs import NEGATIVES
from fmicl_text.features import Features, text_ids, twice
from fmicl_text.terms import Terms

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class ContrastiveLoss(nn.Module, ABC):
    """A contrastive objective over a sentence encoder; :meth:`terms` is the objective.

    Inputs, recognised by the number of columns:

    - one column: **dropout views**. The texts are tokenised once and encoded in one forward pass of 2B rows;
      the two outputs of a text differ by their dropout masks and form the positive pair (SimCSE).
    - (anchor, positive) pairs.
    - (anchor, positive, negative_1, ..., negative_n) tuples; every negative is offered to every anchor.

    Texts that occur more than once in a batch are never each other's negatives.

    Args:
        model: The encoder.
        head: ``"mlp"`` puts a dense layer with tanh on top of the embeddings during training only, as
            unsupervised SimCSE does; default none.
    """

    def __init__(self, model: SentenceTransformer, head: Literal["mlp"] | None = None) -> None:
        super().__init__()
        if head not in (None, "mlp"):
            raise ValueError(f"head must be 'mlp' or None, got {head!r}")
        self.model = model
        width = model.get_embedding_dimension() if head else 0
        self.head = nn.Sequential(nn.Linear(width, width), nn.Tanh()) if head else None
        self._synchronised = False

    @abstractmethod
    def terms(
        self, x: Tensor, y: Tensor, extra: Tensor | None, texts: Tensor | None, extra_texts: Tensor | None
    ) -> dict[str, Tensor]:
        """Return the named scalar terms of the objective; arguments as in :func:`fmicl_text.core.fmicl`."""

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Terms:
        """Encode the columns and return the objective's terms; the trainer sums and logs them.

        Args:
            sentence_features: One tokenised column each.
            labels: Ignored; the objective has none.

        Raises:
            ValueError: If there is one column, and the encoder reads it as one run of tokens for all texts.
        """
        columns = list(sentence_features)
        ids = [text_ids(column) for column in columns]
        if len(columns) == 1:
            if "offsets" in columns[0]:
                raise ValueError("dropout views need an encoder with dropout; a static embedding has none: give pairs")
            both = self.model(twice(columns[0]))["sentence_embedding"]  # (2B, D)
            embeddings = list(both.chunk(2))
        else:
            embeddings = [self.model(column)["sentence_embedding"] for column in columns]
        return self._loss(embeddings, [i for i in ids if i is not None] if None not in ids else None)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Terms:
        """Return the objective's terms from the columns' embeddings, each ``(B, D)``.

        Args:
            embeddings: Anchors, positives, then explicit negatives. They need not be normalised.
            labels: Ignored.

        Raises:
            ValueError: If there are fewer than two columns.
        """
        return self._loss(embeddings, None)

    def _loss(self, embeddings: list[Tensor], ids: list[Tensor] | None) -> Terms:
        """Apply head and objective; ``ids`` are the text identities of the columns, one for dropout views."""
        if len(embeddings) < 2:
            raise ValueError(f"expected an anchor and a positive column at least, got {len(embeddings)} column(s)")
        if not self._synchronised:
            self._synchronise()
        with torch.autocast(embeddings[0].device.type, enabled=False):
            vectors = [e if e.dtype == torch.float64 else e.float() for e in embeddings]
            if self.head is not None:
                vectors = [_through_head(self.head, e) for e in vectors]
            x, y, *extra = (normalize(e, dim=1) for e in vectors)  # (B, D) each
            terms = self.terms(
                x,
                y,
                torch.cat(extra) if extra else None,
                torch.stack(ids[:2], dim=1) if ids else None,  # (B, 2); (B, 1) for dropout views
                torch.cat(ids[2:]) if ids and extra else None,
            )
        return Terms(terms)

    def _synchronise(self) -> None:
        """Make what the loss owns equal on all processes, and average its gradients from here on.

        The trainer wraps only the encoder in ``DistributedDataParallel``; the loss stands outside it.
        """
        self._synchronised = True
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return
        for name, parameter in self.named_parameters():
            if not name.startswith("model."):
                dist.broadcast(parameter.data, src=0)
                parameter.register_hook(_average_over_processes)

    def own_state(self) -> dict[str, Tensor]:
        """State of what the loss owns beyond the encoder, for a checkpoint."""
        return {key: value for key, value in self.state_dict().items() if not key.startswith("model.")}

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        """Restore :meth:`own_state`.

        Raises:
            ValueError: If the state belongs to a loss with other parts.
        """
        if state.keys() != self.own_state().keys():
            raise ValueError(
                f"the saved loss has {sorted(state)}, this one has {sorted(self.own_state())}: "
                "head, kernel or alpha were configured differently"
            )
        self.load_state_dict(state, strict=False)


def _through_head(head: nn.Sequential, embeddings: Tensor) -> Tensor:
    width = head[0].in_features
    if embeddings.shape[1] != width:
        raise ValueError(
            f"the head takes {width} dimensions, got {embeddings.shape[1]}: "
            "a train-only head does not go with MatryoshkaLoss"
        )
    return head(embeddings)


def _average_over_processes(gradient: Tensor) -> Tensor:
    gradient = gradient.contiguous()
    dist.all_reduce(gradient)
    return gradient / dist.get_world_size()


class FMICLLoss(ContrastiveLoss):
    r"""f-MICL: a mean over positive pairs plus a mean over negative pairs, with no softmax normaliser.

        loss = -mean f'(u) over positive pairs + alpha * mean (f* o f')(u) over negative pairs

    See :func:`fmicl_text.core.fmicl` for the equation and :class:`ContrastiveLoss` for the inputs. Being a sum
    of means, the expected loss does not depend on the batch size, and gradient accumulation keeps it.

    Args:
        model: The encoder.
        divergence: ``kl``, ``js``, ``pearson``, ``sh``, ``tsallis``, ``vlc``; for study ``rkl``, ``neyman``,
            ``jeffreys``, which the paper rules out. Default ``kl``, the paper's best on text.
        order: Order of ``tsallis``; default 2.
        kernel: ``gaussian`` (the paper's), ``cosine`` (``u = exp(s/tau)``), or ``cosine-critic`` (the cosine is the
            critic; clamped to the divergence's domain, for study).
        sigma: Width of the Gaussian kernel, default 0.25; ``sigma^2`` is the temperature.
        mu: Density ratio of coincident pairs under the Gaussian kernel, in (0, 2]; default 1.
        temperature: ``tau`` of the cosine kernels; default 0.05 of ``cosine``, 1 of ``cosine-critic``.
        learn_kernel: Whether the width is learned; it starts at the value given.
        alpha: Weight of the negative term: a number or ``"auto"``, see :class:`fmicl_text.core.Alpha`.
        balance_cosine: The cosine at which push and pull balance, ``alpha = 1 / u(balance_cosine)``; the
            default way to set alpha, at cosine 0.1, since it means the same for every divergence and width.
        negatives: ``cross`` (default), ``within`` (the paper's) or ``both``, see
            :data:`fmicl_text.core.pairs.NEGATIVES`. For dropout views ``cross`` and ``within`` have the same
            expectation, since the two views of a text are equal in law; for a question and its answer ``cross``
            compares what will be compared in use.
        head: As in :class:`ContrastiveLoss`.

    Raises:
        ValueError: If an argument is out of range, belongs to another kernel or divergence, or if the
            divergence overflows float32 under the kernel.

    Example::

        loss = FMICLLoss(model)  # in place of MultipleNegativesRankingLoss(model)
        trainer = SentenceTransformerTrainer(model=model, train_dataset=pairs, loss=loss)
    """

    def __init__(
        self,
        model: SentenceTransformer,
        divergence: str = "kl",
        *,
        order: float | None = None,
        kernel: Literal["gaussian", "cosine", "cosine-critic"] = "gaussian",
        sigma: float | None = None,
        mu: float | None = None,
        temperature: float | None = None,
        learn_kernel: bool = False,
        alpha: float | Literal["auto"] | None = None,
        balance_cosine: float | None = None,
        negatives: Literal["within", "cross", "both"] = "cross",
        head: Literal["mlp"] | None = None,
    ) -> None:
        super().__init__(model, head)
        if negatives not in NEGATIVES:
            raise ValueError(f"negatives must be one of {', '.join(NEGATIVES)}, got {negatives!r}")
        if alpha is None and balance_cosine is None:
            balance_cosine = 0.1
        self.divergence = divergence_named(divergence, order)
        self.kernel = kernel_named(
            kernel, sigma=sigma, mu=mu, temperature=temperature, learn=learn_kernel, divergence=self.divergence
        )
        check_float32_range(self.divergence, self.kernel)
        self.alpha = Alpha(alpha, balance_cosine)
        self.negatives = negatives
        self._config = {
            "divergence": self.divergence.title,
            "kernel": kernel,
            "temperature": self.kernel.initial_temperature,
            "mu": mu,
            "learn_kernel": learn_kernel,
            "alpha": alpha,
            "balance_cosine": balance_cosine,
            "negatives": negatives,
            "head": head,
        }

    def terms(
        self, x: Tensor, y: Tensor, extra: Tensor | None, texts: Tensor | None, extra_texts: Tensor | None
    ) -> dict[str, Tensor]:
        """Return the ``positive`` and the ``negative`` term of :func:`fmicl_text.core.fmicl`."""
        return fmicl(
            x,
            y,
            extra,
            divergence=self.divergence,
            kernel=self.kernel,
            alpha=self.alpha,
            negatives=self.negatives,
            texts=texts,
            extra_texts=extra_texts,
        )

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings, for the model card."""
        return self._config

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return """
@article{lu2023fmicl,
    title = {f-{MICL}: Understanding and Generalizing {InfoNCE}-based Contrastive Learning},
    author = {Yiwei Lu and Guojun Zhang and Sun Sun and Hongyu Guo and Yaoliang Yu},
    journal = {Transactions on Machine Learning Research},
    year = {2023},
    url = {https://openreview.net/forum?id=ZD03VUZmRx},
}
"""


class InfoNCELoss(ContrastiveLoss):
    """InfoNCE with in-batch negatives: ``MultipleNegativesRankingLoss`` with dropout views and a duplicate mask.

    See :func:`fmicl_text.core.infonce` for the equation and :class:`ContrastiveLoss` for the inputs.

    Args:
        model: The encoder.
        kernel: ``cosine`` (the usual) or ``gaussian``; the same objective with ``tau = sigma^2``.
        sigma: Width of the Gaussian kernel.
        mu: Scale of the Gaussian kernel; it cancels in the softmax.
        temperature: ``tau`` of the cosine kernel; default SimCSE's 0.05.
        learn_kernel: Whether the width is learned; it starts at the value given.
        head: As in :class:`ContrastiveLoss`.

    Raises:
        ValueError: If an argument is out of range or belongs to another kernel.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        kernel: Literal["cosine", "gaussian"] = "cosine",
        sigma: float | None = None,
        mu: float | None = None,
        temperature: float | None = None,
        learn_kernel: bool = False,
        head: Literal["mlp"] | None = None,
    ) -> None:
        super().__init__(model, head)
        self.kernel = kernel_named(kernel, sigma=sigma, mu=mu, temperature=temperature, learn=learn_kernel)
        self._config = {
            "kernel": kernel,
            "temperature": self.kernel.initial_temperature,
            "learn_kernel": learn_kernel,
            "head": head,
        }

    def terms(
        self, x: Tensor, y: Tensor, extra: Tensor | None, texts: Tensor | None, extra_texts: Tensor | None
    ) -> dict[str, Tensor]:
        """Return the ``positive`` and the ``negative`` term of :func:`fmicl_text.core.infonce`."""
        return infonce(x, y, extra, kernel=self.kernel, texts=texts, extra_texts=extra_texts)

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings, for the model card."""
        return self._config

    @property
    def citation(self) -> str:
        """BibTeX of the paper."""
        return """
@misc{oord2018representation,
    title = {Representation Learning with Contrastive Predictive Coding},
    author = {Aaron van den Oord and Yazhe Li and Oriol Vinyals},
    year = {2018},
    eprint = {1807.03748},
    archivePrefix = {arXiv},
}
"""
