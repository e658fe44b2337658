"""A contrastive loss on vectors: an objective, and what it needs beyond the encoder.

What a loss owns (a head, a projector and a predictor of training, a learned kernel width, a running average, a queue)
is optimised with the encoder, averaged over processes here, and kept in checkpoints by
:class:`fmicl_text.ContrastiveTrainer`; it is never part of the saved model. :mod:`fmicl_text.losses.sentences` makes a
loss of sentence-transformers from it.

Shapes: ``B`` rows of a batch, ``D`` dimensions, ``Q`` rows of a queue.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fmicl_text.core import Adaptation, Annealing, across_devices
from fmicl_text.core.conditions import note, read_together
from fmicl_text.core.devices import process_count
from fmicl_text.core.products import takes_tf32, tensor_cores
from fmicl_text.losses.moving_region import MovingRegion
from fmicl_text.losses.objective import Objective
from fmicl_text.losses.queue import MomentumQueue, widened
from fmicl_text.losses.steps import optimiser_steps
from fmicl_text.losses.terms import Terms
from fmicl_text.losses.vectors import unit_vectors

logger = logging.getLogger(__name__)


class NonFiniteEmbeddings(ValueError):
    """The encoder gave embeddings with NaN or infinity in them.

    Attributes:
        rows: Which rows of this process's batch, counted from 0; none if they are another process's.
    """

    def __init__(self, rows: list[int], size: int) -> None:
        self.rows = rows
        where = f"{len(rows)} of {size} rows of a batch" if rows else "a batch of another process"
        super().__init__(f"the encoder gave NaN or infinity for {where}")


class ContrastiveLoss(nn.Module):
    """An objective on the vectors of any encoder.

    The columns of a batch are anchors, positives, and any number of explicit negatives, each of which is offered to
    every anchor. Rows with the same identity are never each other's negatives.

    A *training step* is a step of an optimiser, however many calls of the loss there are between two of them
    (gradient accumulation, ``MatryoshkaLoss``): the moving average and a moving region are updated once per step.

    Args:
        objective: The objective and its settings, such as ``InfoNCE(temperature=0.1)``.
        encoder: What encodes a batch, for a moving average, which begins as a copy of it. Default none.
        dimensions: ``D``, for a head, a projector, a predictor or a moving average.

    Attributes:
        progress: The share of all training steps that is done, for a momentum with a schedule; a trainer sets it.
        zero_vectors: Embeddings of length 0 so far on this process. They have no direction, so no gradient.

    Raises:
        ValueError: If a head or a moving average lacks ``dimensions``, a moving average lacks ``encoder``, a predictor
            gives other dimensions than it takes, or settings of the objective overflow together.

    Example::

        loss = ContrastiveLoss(FMICL(divergence="js"))
        terms = loss([network(images), network(views)])
        sum(terms.values()).backward()
    """

    def __init__(
        self, objective: Objective, *, encoder: nn.Module | None = None, dimensions: int | None = None
    ) -> None:
        super().__init__()
        self.objective = objective
        self.gather_across_devices = objective.gather_across_devices
        if objective.matryoshka is not None:
            raise ValueError("matryoshka is for recipes: put sentence-transformers' MatryoshkaLoss around this loss")
        if objective.needs_dimensions and dimensions is None:
            raise ValueError("dimensions must be given for a head, a projector, a predictor or a queue, got None")
        self.head: nn.Sequential | None = None
        self.predictor: nn.Sequential | None = None
        if dimensions is not None:
            self.head, self.predictor = _layers(objective, dimensions)
        parts = objective.parts()
        for name, part in parts.items():
            self.add_module(name, part)
        self._parts = list(parts)
        self.queue: MomentumQueue | None = None
        if objective.momentum is not None:
            if encoder is None:
                raise ValueError("encoder must be given for a moving average of it, as a queue has, got None")
            width = _width(self.head, dimensions)
            self.queue = MomentumQueue(encoder, self.head, objective.queue or 0, objective.momentum, width)
        self._widest = 0  # dimensions of the vectors so far
        self.progress: float | None = None
        course = objective.course()
        self.region = course
        self.moving_region = MovingRegion(course) if isinstance(course, Annealing | Adaptation) else None
        self.zero_vectors = 0
        self._warned_of_no_negatives = False
        self._synchronised = False
        self._steps_seen: int | None = None

    @property
    def is_mean(self) -> bool:
        """See :attr:`Objective.is_mean`."""
        return self.objective.is_mean

    def terms(self, x: Tensor, y: Tensor, **batch: Any) -> dict[str, Tensor]:
        """Return the terms of the objective.

        Args:
            x: Anchors, unit vectors ``(B, D)``.
            y: Positives, unit vectors ``(B, D)``.
            batch: ``extra``, ``texts``, ``extra_texts`` and ``region``, as in
                :class:`fmicl_text.core.batch.Objective`.
        """
        return self.objective.terms(x, y, **self._own_parts(), **batch)

    def measured(self) -> dict[str, float]:
        """Return the settings that were left to the data, as they were measured so far."""
        return self.objective.measured(**self._own_parts())

    def of_last_batch(self) -> dict[str, Tensor]:
        """Return the settings that each batch has its own of, as the last one had them."""
        return self.objective.of_last_batch(**self._own_parts())

    def get_config_dict(self) -> dict[str, Any]:
        """Return the settings in force, for the model card."""
        settings = self.objective.model_dump(mode="json", exclude={"objective"}, exclude_none=True)
        return settings | self.measured()

    def extra_repr(self) -> str:
        """Return the settings in force, which stand before the modules where the loss is printed."""
        return ", ".join(f"{name}={value!r}" for name, value in self.get_config_dict().items())

    def _own_parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._parts}

    def keys(self, encoder: nn.Module, batches: Sequence[Any]) -> list[Tensor]:
        """Encode the anchors and positives of a batch with the moving average, which is first updated from the encoder.

        Args:
            encoder: The encoder that trains, as it is now.
            batches: What it reads, as in :meth:`MomentumQueue.keys`.

        Returns:
            Unit vectors ``(B, D)`` of anchors and of positives.
        """
        self.begin(encoder)
        assert self.queue is not None
        return self.queue.keys(batches)

    def forward(
        self,
        embeddings: Sequence[Tensor],
        identities: Sequence[Tensor] | None = None,
        keys: Sequence[Tensor] | None = None,
    ) -> Terms:
        """Return the terms of the objective, whose sum is the loss.

        Args:
            embeddings: The columns, ``(B, D)`` each: anchors, positives, then explicit negatives. They need not be
                normalised.
            identities: Of each column's rows, int64 ``(B,)``, or ``(B, K)`` if a row has several, such as its text and
                its group: rows that share one are never each other's negatives. One column for dropout
                views, whose anchors are the positives. Default all differ.
            keys: What :meth:`keys` gave, for a loss with a moving average.

        Raises:
            ValueError: If there are fewer than two columns; if columns differ in shape; if a loss with a moving average
                lacks keys, or one with a queue identities; if the processes that share a batch have different numbers
                of rows.
            NonFiniteEmbeddings: If an embedding is not finite, on this process or one it shares a batch with.
        """
        self.begin(None)
        return self.of_vectors(embeddings, identities, keys)

    def begin(self, encoder: nn.Module | None) -> None:
        """Prepare a call: update what is updated once per training step.

        Args:
            encoder: The encoder that trains, which a moving average follows.

        Raises:
            ValueError: If the momentum has a schedule, and nothing says how much of the training is done.
        """
        if not self._synchronised:
            self._synchronise()
        if self.training and self._step_begins():
            if self.queue is not None and encoder is not None:
                self.queue.follow(encoder, self.head, self.momentum())
            if self.moving_region is not None:
                self.moving_region.begin_step()

    def momentum(self) -> float | None:
        """Return the share that the training step in progress keeps of the moving average; ``None`` without one.

        Raises:
            ValueError: As :meth:`begin`.
        """
        start = self.objective.momentum
        if start is None or self.objective.momentum_schedule != "cosine":
            return start
        if self.progress is None:
            raise ValueError(
                "momentum_schedule: cosine needs to know how much of the training is done: train with "
                "fmicl_text.ContrastiveTrainer, or set the loss's progress before each step"
            )
        return 1 - (1 - start) * (1 + math.cos(math.pi * self.progress)) / 2

    def _step_begins(self) -> bool:
        """Return whether an optimiser has stepped since the last call in training."""
        last, self._steps_seen = self._steps_seen, optimiser_steps()
        return self._steps_seen != last

    def of_vectors(
        self, embeddings: Sequence[Tensor], identities: Sequence[Tensor] | None, keys: Sequence[Tensor] | None
    ) -> Terms:
        """Apply head, objective and queue."""
        if len(embeddings) < 2:
            raise ValueError(f"expected an anchor and a positive column at least, got {len(embeddings)} column(s)")
        if len(shapes := {tuple(e.shape) for e in embeddings}) > 1:
            raise ValueError(f"embeddings must have the same shape (B, D) in every column, got {sorted(shapes)}")
        if self.queue is not None and (keys is None or (self.objective.queue and identities is None)):
            raise ValueError("a loss with a queue needs the batch's identities, and its keys by the moving average")
        with read_together():
            return self._of_vectors(embeddings, identities, keys)

    def _of_vectors(
        self, embeddings: Sequence[Tensor], identities: Sequence[Tensor] | None, keys: Sequence[Tensor] | None
    ) -> Terms:
        self._check_finite(embeddings)
        texts, extra_texts = _texts(identities)
        device, half = embeddings[0].device.type, embeddings[0].dtype in (torch.bfloat16, torch.float16)
        half = half or torch.is_autocast_enabled(device)
        cores = tensor_cores(half or takes_tf32())  # as exact as such an encoder at least
        with cores, torch.autocast(device, enabled=False), across_devices(self.gather_across_devices):
            x, y = (unit_vectors(e, _joined(self.head, self.predictor)) for e in embeddings[:2])  # (B, D) each
            extra = [unit_vectors(e, self.head) for e in embeddings[2:]]  # (B, D) each
            self._count_zeros([x, y, *extra])
            pairs = [(x, y)]
            if self.queue is not None and keys is not None:
                of_x, of_y = (key.to(x.dtype) for key in keys)  # (B, D) each
                pairs = [(x, of_y), (y, of_x)]
                waiting, waiting_texts = self.queue.rows(like=x)  # (Q, D), (Q, 2)
                extra.append(waiting)
                if texts is not None:
                    extra_texts = _of_one_width([*extra_texts, waiting_texts])
            if not any(map(len, extra)) and (not self.gather_across_devices or process_count() == 1):
                self._look_for_negatives(texts, len(x))
            batch = {
                "extra": torch.cat(extra) if sum(map(len, extra)) else None,
                "texts": texts,
                "extra_texts": torch.cat(extra_texts) if sum(map(len, extra_texts)) else None,
                "region": self.region if self.moving_region is None else self.moving_region.now(),
            }
            self._measure_the_widest(x.shape[1])
            directions = [self.terms(anchors, positives, **batch) for anchors, positives in pairs]
        if self.queue is not None and self.training and texts is not None:
            self.queue.push([of_x, of_y], texts)
        factor = self.objective.factor or 1.0
        terms = Terms({name: torch.stack([of[name] for of in directions]).mean() * factor for name in directions[0]})
        if self.moving_region is not None and self.training:
            self.moving_region.record(torch.stack(list(terms.values())).sum())
        return terms

    def _measure_the_widest(self, dimensions: int) -> None:
        """Have width and balance measured on whole vectors alone, where ``MatryoshkaLoss`` also gives parts of them."""
        self._widest = max(self._widest, dimensions)
        for part in self._own_parts().values():
            part.train(self.training and dimensions == self._widest)

    def _check_finite(self, embeddings: Sequence[Tensor]) -> None:
        """Refuse NaN and infinity, on all processes that share the batch: none is left waiting for the others."""
        broken = ~torch.stack([e.detach().isfinite().all(dim=1) for e in embeddings]).all(dim=0)  # (B,)
        number = broken.sum()
        if self.gather_across_devices and process_count() > 1:  # the others must not wait for rows that do not come
            counts = torch.stack([torch.full_like(number, len(broken)), number])  # (2,)
            everyone = [torch.empty_like(counts) for _ in range(process_count())]
            dist.all_gather(everyone, counts)
            sizes, of_all = torch.stack(everyone, dim=1).tolist()
            if len(set(sizes)) > 1:
                raise ValueError(
                    f"the processes have {sizes} rows, which must be as many on each: "
                    "train with dataloader_drop_last=True, or set gather_across_devices=False"
                )
            if any(of_all):
                raise self._non_finite(broken)
        else:
            note(number > 0, lambda: self._non_finite(broken))

    def _non_finite(self, broken: Tensor) -> NonFiniteEmbeddings:
        return NonFiniteEmbeddings(broken.nonzero().squeeze(1).tolist(), len(broken))

    def _count_zeros(self, columns: Sequence[Tensor]) -> None:
        number = torch.stack([(column.detach() == 0).all(dim=1).sum() for column in columns]).sum()
        size = sum(map(len, columns))
        note(number > 0, lambda: self._say_zeros(int(number), size))

    def _say_zeros(self, zeros: int, size: int) -> None:
        if not self.zero_vectors:
            logger.warning(
                "%d of %d embeddings of a batch are all zeros: they have no direction, and their cosine with "
                "everything counts as 0. A text without tokens makes one; remove such rows from the data.",
                zeros,
                size,
            )
        self.zero_vectors += zeros

    def _look_for_negatives(self, texts: Tensor | None, rows: int) -> None:
        """Warn of a batch whose rows are each other's only candidates, and none of them a negative."""
        if self._warned_of_no_negatives:
            return
        if rows == 1:
            self._warn_of_no_negatives(
                "a batch has one row, which has no negatives: nothing is pushed away. Such a last batch of an epoch is "
                "left out by dataloader_drop_last=True; in evaluation another per_device_eval_batch_size avoids it"
            )
        elif texts is not None:
            copies = (texts == texts[0]).all(dim=0).any()  # (B, K)
            note(
                copies,
                lambda: self._warn_of_no_negatives(
                    "all rows of a batch share a text, an image or a group, so none is another's negative: nothing is "
                    "pushed away"
                ),
            )

    def _warn_of_no_negatives(self, why: str) -> None:
        logger.warning(why)
        self._warned_of_no_negatives = True

    def own_parameters(self) -> Iterator[nn.Parameter]:
        """Yield what is learned beyond the encoder."""
        for name, parameter in self.named_parameters():
            if not name.startswith("model.") and parameter.requires_grad:
                yield parameter

    def _synchronise(self) -> None:
        """Make what the loss owns equal on all processes, and average its gradients from here on.

        A trainer wraps only the encoder in ``DistributedDataParallel``, not the loss.
        """
        self._synchronised = True
        if process_count() == 1:
            return
        for value in self.own_state().values():
            dist.broadcast(value, src=0)
        for parameter in self.own_parameters():
            parameter.register_hook(_average_over_processes)

    def own_state(self) -> dict[str, Tensor]:
        """Return the state of what the loss owns beyond the encoder, for a checkpoint."""
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


def _layers(objective: Objective, dimensions: int) -> tuple[nn.Sequential | None, nn.Sequential | None]:
    """Return new layers of training alone: head or projector, and predictor.

    Raises:
        ValueError: If what the predictor gives cannot be compared with what it takes.
    """
    head = None
    if objective.projector is not None:
        head = objective.projector.build(dimensions)
    elif objective.head is not None:
        head = nn.Sequential(nn.Linear(dimensions, dimensions), nn.Tanh())
    if objective.predictor is None:
        return head, None
    width = _width(head, dimensions)
    if (given := objective.predictor.widths[-1]) != width:
        raise ValueError(
            f"the predictor must end in {width} dimensions, as many as the keys it is compared with, got {given}"
        )
    return head, objective.predictor.build(width)


def _width(head: nn.Sequential | None, dimensions: int | None) -> int:
    """Return how many dimensions vectors have after the head."""
    widths = [layer.out_features for layer in head or () if isinstance(layer, nn.Linear)]
    assert widths or dimensions is not None  # checked above
    return widths[-1] if widths else int(dimensions or 0)


def _joined(*parts: nn.Sequential | None) -> nn.Sequential | None:
    layers = [layer for part in parts if part is not None for layer in part]
    return nn.Sequential(*layers) if layers else None


def _texts(identities: Sequence[Tensor] | None) -> tuple[Tensor | None, list[Tensor]]:
    """Return the identities of the pairs, those of both columns ``(B, K)``, and of each further column ``(B, K')``."""
    if identities is None:
        return None, []
    columns = [column.reshape(len(column), -1) for column in identities]
    return torch.cat(columns[:2], dim=1), _of_one_width(columns[2:])


def _of_one_width(identities: Sequence[Tensor]) -> list[Tensor]:
    """Repeat the last identity of rows ``(B, K)`` that have fewer than others, which changes nothing."""
    width = max((rows.shape[1] for rows in identities), default=0)
    return [widened(rows, width) for rows in identities]


def _average_over_processes(gradient: Tensor) -> Tensor:
    gradient = gradient.contiguous()
    dist.all_reduce(gradient)
    return gradient / process_count()
