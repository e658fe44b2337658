"""What every loss has in common: from tokenised columns to the terms of an objective.

The losses follow sentence-transformers' contract: any of them takes the place of
``MultipleNegativesRankingLoss(model)`` in a ``SentenceTransformerTrainer``. What a loss owns beyond the encoder (a
train-only head, a learned kernel width, a running average, a queue) is optimised by the trainer, averaged over
processes here, and kept in checkpoints by :class:`fmicl_text.ContrastiveTrainer`; it is never part of the saved model.

Shapes: ``B`` rows of a batch, ``D`` dimensions, ``Q`` rows of a queue.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypedDict

import torch
import torch.distributed as dist
from sentence_transformers.base.losses import CachedLossMixin
from torch import Tensor, nn

from fmicl_text.core import Adaptation, Annealing, GaussianKernel, Kernel, Region, across_devices
from fmicl_text.losses.features import Features, text_ids, twice
from fmicl_text.losses.moving_region import MovingRegion
from fmicl_text.losses.queue import MomentumQueue
from fmicl_text.losses.steps import optimiser_steps
from fmicl_text.losses.terms import Terms
from fmicl_text.losses.vectors import unit_vectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class Common(TypedDict, total=False):
    """Keyword arguments that every loss takes, see :class:`ContrastiveLoss`."""

    head: Literal["mlp"] | None
    mini_batch_size: int | None
    gather_across_devices: bool
    queue: int | None
    momentum: float
    region: Region | Annealing | Adaptation | None


class NonFiniteEmbeddings(ValueError):
    """The encoder gave embeddings with NaN or infinity in them.

    Attributes:
        rows: Which rows of this process's batch, counted from 0; none if they are another process's.
    """

    def __init__(self, rows: list[int], size: int) -> None:
        self.rows = rows
        where = f"{len(rows)} of {size} rows of a batch" if rows else "a batch of another process"
        super().__init__(f"the encoder gave NaN or infinity for {where}")


class _Beside(NamedTuple):
    """What goes with the embeddings of a batch: text identities and momentum keys, a tensor a column."""

    texts: list[Tensor] | None  # (B,) each; one for dropout views
    keys: list[Tensor] | None  # of anchors and positives, (B, D) each


class ContrastiveLoss(CachedLossMixin, nn.Module, ABC):
    """A contrastive objective over a sentence encoder; :meth:`terms` is the objective.

    Inputs, recognised by the number of columns:

    - one column: **dropout views**. The texts are tokenised once and encoded in one forward pass of 2B rows;
      the two outputs of a text differ by their dropout masks and form the positive pair (SimCSE).
    - (anchor, positive) pairs.
    - (anchor, positive, negative_1, ..., negative_n) tuples; every negative is offered to every anchor.

    Texts that occur more than once in a batch are never each other's negatives.

    Args:
        model: The encoder.
        settings: The settings of the objective, for the model card.
        head: ``"mlp"`` puts a dense layer with tanh on top of the embeddings during training only, as
            unsupervised SimCSE does; default none.
        mini_batch_size: Encode so many rows at a time, twice, as GradCache does (arXiv 2101.06983): the loss and all
            gradients of the whole batch in the memory of a mini-batch. Default the whole batch at once.
        gather_across_devices: Whether the rows of all processes are one batch (default): ``W`` processes of ``B``
            rows then have the gradient of one process with ``W B`` rows. Otherwise each process has its own.
        queue: Rows of the momentum queue of each process (MoCo, arXiv 1911.05722): earlier positives and anchors,
            encoded by a moving average of the encoder, as further explicit negatives; default none.
        momentum: Share of the moving average that each training step keeps; MoCo's 0.999.
        region: Restricts each row's negatives to a ball or a ring of similarity, always the same, annealed or adapted
            to the loss; default all.

    A *training step* is a step of the optimiser, however many calls of the loss there are between two of them
    (gradient accumulation, ``MatryoshkaLoss``): the moving average and a moving region move on once a step.

    Raises:
        ValueError: If an argument is out of range.
    """

    citation: ClassVar[str]
    """BibTeX of the paper."""
    is_mean: bool = False
    """Whether the loss is a sum of means over rows and pairs, so that its expectation is the same for every batch size.

    Then the gradients of several small batches, accumulated, have the expectation of the large batch's gradient. With
    n explicit negatives a row this is up to 1/B: of a row's negatives, B - 1 are in the batch and n B are explicit.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        settings: dict[str, Any],
        *,
        head: Literal["mlp"] | None = None,
        mini_batch_size: int | None = None,
        gather_across_devices: bool = True,
        queue: int | None = None,
        momentum: float = 0.999,
        region: Region | Annealing | Adaptation | None = None,
    ) -> None:
        super().__init__()
        if head not in (None, "mlp"):
            raise ValueError(f"head must be 'mlp' or None, got {head!r}")
        if mini_batch_size is not None and mini_batch_size < 1:
            raise ValueError(f"mini_batch_size must be at least 1, got {mini_batch_size!r}")
        self.model = model
        width = model.get_embedding_dimension() if head else 0
        self.head = nn.Sequential(nn.Linear(width, width), nn.Tanh()) if head else None
        self.mini_batch_size = mini_batch_size  # the mixin reads it only if it is a number
        self.uses_gradient_cache = mini_batch_size is not None
        self.gather_across_devices = gather_across_devices
        self.queue = None if queue is None else MomentumQueue(model, self.head, queue, momentum)
        self.region = region
        self.moving_region = MovingRegion(region) if isinstance(region, Annealing | Adaptation) else None
        self._settings = settings | {
            "head": head,
            "mini_batch_size": mini_batch_size,
            "gather_across_devices": gather_across_devices,
            "queue": queue,
            "momentum": None if queue is None else momentum,
            "region": None if region is None else repr(region),
        }
        self._synchronised = False
        self._steps_seen: int | None = None
        self._calculated: list[tuple[Terms, list[Tensor]]] = []

    @abstractmethod
    def terms(self, x: Tensor, y: Tensor, **batch: Any) -> dict[str, Tensor]:
        """Return the terms of the objective.

        Args:
            x: Anchors, unit vectors ``(B, D)``.
            y: Positives, unit vectors ``(B, D)``.
            batch: ``extra``, ``texts``, ``extra_texts`` and ``region``, as in
                :class:`fmicl_text.core.batch.Objective`.
        """

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings, for the model card: those that are set."""
        return {key: value for key, value in self._settings.items() if value is not None}

    def forward(self, sentence_features: Iterable[Features], labels: Tensor | None = None) -> Terms:
        """Encode the columns and return the objective's terms; the trainer sums and logs them.

        Args:
            sentence_features: One tokenised column each.
            labels: Must be ``None``; the objective has none.

        Raises:
            ValueError: If there are labels; if the encoder reads a column as one run of tokens, and there is but one,
                or a ``mini_batch_size``; if the processes that share a batch have different numbers of rows.
            NonFiniteEmbeddings: If the encoder gives NaN or infinity, on this process or one it shares a batch with.
        """
        _refuse_labels(labels)
        self._begin()
        columns = list(sentence_features)
        ids = [text_ids(column) for column in columns]
        if "offsets" in columns[0] and len(columns) == 1:
            raise ValueError("dropout views need an encoder with dropout; a static embedding has none: give pairs")
        if "offsets" in columns[0] and self.uses_gradient_cache:
            raise ValueError("mini_batch_size must be None for a static embedding, whose texts are one run of tokens")
        texts = None if None in ids else [i for i in ids if i is not None]
        if self.queue is not None and texts is None:
            raise ValueError("a queue needs an encoder that reads tokens, to tell its texts from the batch's")
        beside = _Beside(texts, None if self.queue is None else self.queue.keys(columns))
        if self.uses_gradient_cache:
            return self._forward_cached(columns * 2 if len(columns) == 1 else columns, beside)
        if len(columns) == 1:
            both = self.model(twice(columns[0]))["sentence_embedding"]  # (2B, D)
            return self._loss(list(both.chunk(2)), beside)
        return self._loss([self.model(column)["sentence_embedding"] for column in columns], beside)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor | None = None) -> Terms:
        """Return the objective's terms from the columns' embeddings, each ``(B, D)``.

        Args:
            embeddings: Anchors, positives, then explicit negatives. They need not be normalised.
            labels: Must be ``None``.

        Raises:
            ValueError: If there are labels, or fewer than two columns; if columns differ in shape; if the loss has a
                queue.
        """
        _refuse_labels(labels)
        self._begin()
        if self.queue is not None:
            raise ValueError("a loss with a queue needs the texts, for its momentum encoder, not their embeddings")
        return self._loss(embeddings, _Beside(None, None))

    def calculate_loss(self, reps: list[list[Tensor]], labels: Any = None, *, with_backward: bool = False) -> Tensor:
        """Return the loss of a batch encoded in mini-batches, for sentence-transformers' gradient cache.

        Args:
            reps: Embeddings ``(b, D)`` of each mini-batch of each column; they get their gradients here.
            labels: Not labels but what :meth:`forward` found beside the embeddings: the cache passes it through.
            with_backward: Whether to compute the gradients.
        """
        terms = self._loss([torch.cat(column) for column in reps], labels or _Beside(None, None))
        loss = torch.stack(list(terms.values())).sum()
        own = list(self.own_parameters()) if with_backward else []
        slopes: Sequence[Tensor | None] = []
        if with_backward:
            leaves = list(chain.from_iterable(reps))
            gradients = torch.autograd.grad(loss, [*leaves, *own], allow_unused=True)
            for leaf, gradient in zip(leaves, gradients, strict=False):
                leaf.grad = gradient
            slopes = gradients[len(leaves) :]
        self._calculated.append(
            (
                Terms({name: term.detach() for name, term in terms.items()}),
                [torch.zeros_like(p) if slope is None else slope for p, slope in zip(own, slopes, strict=True)],
            )
        )
        return loss.detach() if with_backward else loss

    def _forward_cached(self, columns: list[Features], beside: _Beside) -> Terms:
        """Run the gradient cache, and connect what it leaves out: the terms' names and the loss's own parameters."""
        self._calculated = []
        loss = CachedLossMixin.forward_cached(self, columns, beside)  # what goes in as labels is passed through
        calculated, self._calculated = self._calculated, []
        if "calculate_loss" in vars(self):  # MatryoshkaLoss put its own in place, whose weights only it knows
            if any(slopes for _, slopes in calculated):
                raise ValueError(
                    "inside MatryoshkaLoss, mini_batch_size does not go with what the loss learns: "
                    "drop learn_kernel or head"
                )
            return Terms({"matryoshka": loss})
        [(terms, slopes)] = calculated
        slope = loss - loss.detach()  # a zero, whose gradient is the encoder's
        for parameter, own in zip(self.own_parameters(), slopes, strict=False):
            slope = slope + ((parameter - parameter.detach()) * own).sum()
        *_, last = terms
        return Terms(terms | {last: terms[last] + slope})

    def _begin(self) -> None:
        """Get ready for a call: follow the encoder's mode, and move on what moves once a training step."""
        if self.training != self.model.training:  # trainers switch the encoder alone
            self.train(self.model.training)
        if not self._synchronised:
            self._synchronise()
        if self.training and self._step_begins():
            if self.queue is not None:
                self.queue.follow(self.model, self.head)
            if self.moving_region is not None:
                self.moving_region.begin_step()

    def _step_begins(self) -> bool:
        """Whether an optimiser has stepped since the last call in training."""
        last, self._steps_seen = self._steps_seen, optimiser_steps()
        return self._steps_seen != last

    def _loss(self, embeddings: list[Tensor], beside: _Beside) -> Terms:
        """Apply head, objective and queue."""
        if len(embeddings) < 2:
            raise ValueError(f"expected an anchor and a positive column at least, got {len(embeddings)} column(s)")
        if len(shapes := {tuple(e.shape) for e in embeddings}) > 1:
            raise ValueError(f"embeddings must have the same shape (B, D) in every column, got {sorted(shapes)}")
        self._check_finite(embeddings)
        texts, extra_texts = _identities(beside.texts)
        with torch.autocast(embeddings[0].device.type, enabled=False), across_devices(self.gather_across_devices):
            x, y, *extra = (unit_vectors(e, self.head) for e in embeddings)  # (B, D) each
            pairs = [(x, y)]
            if self.queue is not None:
                of_x, of_y = beside.keys or []  # (B, D) each
                pairs = [(x, of_y), (y, of_x)]
                waiting, waiting_texts = self.queue.rows(like=x)  # (Q, D), (Q, 2)
                extra.append(waiting)
                extra_texts.append(waiting_texts)
            batch = {
                "extra": torch.cat(extra) if sum(map(len, extra)) else None,
                "texts": texts,
                "extra_texts": torch.cat(extra_texts) if sum(map(len, extra_texts)) else None,
                "region": self.region if self.moving_region is None else self.moving_region.now(),
            }
            directions = [self.terms(anchors, positives, **batch) for anchors, positives in pairs]
        if self.queue is not None and self.training:  # only now, or a view would meet its own key
            assert texts is not None  # forward() saw to it
            self.queue.push([of_x, of_y], texts)
        terms = Terms({name: torch.stack([of[name] for of in directions]).mean() for name in directions[0]})
        if self.moving_region is not None and self.training:
            self.moving_region.record(torch.stack(list(terms.values())).sum())
        return terms

    def _check_finite(self, embeddings: list[Tensor]) -> None:
        """Refuse NaN and infinity, on all processes that share the batch: none is left waiting for the others."""
        finite = torch.stack([e.detach().isfinite().all(dim=1) for e in embeddings]).all(dim=0)  # (B,)
        broken = ~finite
        said = torch.stack([torch.tensor(len(finite), device=broken.device), broken.sum()])  # (2,)
        if self.gather_across_devices and _processes() > 1:
            everyone = [torch.empty_like(said) for _ in range(_processes())]
            dist.all_gather(everyone, said)
            sizes = [int(size) for size, _ in everyone]
            if len(set(sizes)) > 1:
                raise ValueError(
                    f"the processes have {sizes} rows, which must be as many on each: "
                    "train with dataloader_drop_last=True, or set gather_across_devices=False"
                )
            said = torch.stack(everyone).sum(dim=0)
        if said[1]:
            raise NonFiniteEmbeddings(broken.nonzero().squeeze(1).tolist(), len(finite))

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what is learned beyond the encoder."""
        for name, parameter in self.named_parameters():
            if not name.startswith("model.") and parameter.requires_grad:
                yield parameter

    def _synchronise(self) -> None:
        """Make what the loss owns equal on all processes, and average its gradients from here on.

        The trainer wraps only the encoder in ``DistributedDataParallel``; the loss stands outside it.
        """
        self._synchronised = True
        if _processes() == 1:
            return
        for value in self.own_state().values():
            dist.broadcast(value, src=0)
        for parameter in self.own_parameters():
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
                "head, kernel, alpha, queue or region were configured differently"
            )
        self.load_state_dict(state, strict=False)


def width_of(kernel: Kernel) -> dict[str, float]:
    """Return the width that a kernel starts with, by the name it has as an argument, for the model card."""
    if isinstance(kernel, GaussianKernel):
        return {"sigma": kernel.initial_temperature**0.5, "mu": kernel.mu}
    return {"temperature": kernel.initial_temperature}


def _refuse_labels(labels: Tensor | None) -> None:
    if labels is not None:
        raise ValueError("labels must be None: a contrastive objective has none; remove the label or score column")


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _identities(ids: list[Tensor] | None) -> tuple[Tensor | None, list[Tensor]]:
    """Return the identities of the pairs, ``(B, 2)`` or for dropout views ``(B, 1)``, and of each further column."""
    if ids is None:
        return None, []
    pairs = torch.stack(ids[:2], dim=1)
    return pairs, [column.unsqueeze(1).expand(-1, 2) for column in ids[2:]]  # (B, 2), as a queue's rows


def _average_over_processes(gradient: Tensor) -> Tensor:
    gradient = gradient.contiguous()
    dist.all_reduce(gradient)
    return gradient / dist.get_world_size()
