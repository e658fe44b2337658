"""Checks that embeddings, loss and gradient of a training step are finite, which name the rows where they are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformerTrainer
from torch import Tensor

from fmicl_text.core.conditions import note, read_together
from fmicl_text.losses import NonFiniteEmbeddings
from fmicl_text.training.loss_state import contrastive_losses
from fmicl_text.training.non_finite import NonFiniteError, last_good_checkpoint, texts_of


class FiniteChecks:
    """The checks of a trainer, which are read from the device together (:mod:`fmicl_text.core.conditions`).

    Args:
        trainer: Whose steps are checked.
    """

    def __init__(self, trainer: SentenceTransformerTrainer) -> None:
        self._trainer = trainer
        self._rows: list[Tensor] = []  # numbers of the rows ``(B,)`` of each batch of the training step in progress

    @contextmanager
    def of_batch(
        self, rows: list[Tensor], inputs: Mapping[str, Any], source: str | None
    ) -> Iterator[Callable[[Mapping[str, Tensor]], None]]:
        """Check the embeddings of a batch, computed inside, and what is given to the function: its loss and terms.

        Args:
            rows: Their numbers ``(B,)``, one tensor or none.
            inputs: The batch.
            source: The data set that it is of, if there are several.

        Raises:
            NonFiniteError: When the conditions are read, if embeddings or loss are not finite.
        """
        if self._trainer.model.training:
            self._rows += rows
        stop = partial(self._stop, rows=rows, source=source, inputs=inputs)

        def check(figures: Mapping[str, Tensor]) -> None:
            loss = next(iter(figures.values()))
            note(~loss.isfinite(), lambda: stop(f"the {_listed(figures)}"))

        with read_together(NonFiniteEmbeddings, lambda error: stop(str(error), places=error.rows)):
            yield check

    def of_gradient(self, source: str | None) -> None:
        """Check the gradient of the step, whose batches have all been computed; no optimizer has stepped yet.

        Raises:
            NonFiniteError: When the conditions are read, if the norm of the gradient is not finite.
        """
        rows, self._rows = self._rows, []
        # A float16 gradient overflows now and then: its scaler skips the step and continues with a smaller scale.
        if self._trainer.accelerator.scaler is not None:
            return
        own = [p for loss in contrastive_losses(self._trainer.loss).values() for p in loss.own_parameters()]
        gradients = [p.grad for p in (*self._trainer.model.parameters(), *own) if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        note(~norm.isfinite(), lambda: self._stop(f"the gradient has a norm of {norm.item():g}", rows, source))

    def _stop(
        self,
        reason: str,
        rows: list[Tensor],
        source: str | None,
        inputs: Mapping[str, Any] | None = None,
        places: list[int] | None = None,
    ) -> NonFiniteError:
        """Return the error that says why training stops, and where.

        Args:
            reason: What was not finite.
            rows: Row numbers of the batches ``(B,)`` of this step; none for a stream.
            source: The data set that they are of, if there are several.
            inputs: The batch, whose texts are to be shown.
            places: Which of its rows are to blame; default all, which are shown where they have no number.
        """
        trainer = self._trainer
        numbers = [int(number) for batch in rows for number in batch]
        if not trainer.model.training:
            reason = f"in evaluation, {reason}"
        texts = texts_of(trainer.collect_features(inputs)[0], trainer.model.tokenizer) if inputs is not None else []
        if places is None:
            places = [] if numbers else list(range(len(texts)))
        of = "" if source is None else f" of {source}"
        names = [f"row {numbers[place]}{of}" if numbers else f"text {place + 1} of the batch" for place in places]
        shown = {name: texts[place] if texts else [] for name, place in zip(names, places, strict=True)}
        good = last_good_checkpoint(Path(trainer.args.output_dir))
        return NonFiniteError(reason, trainer.state.global_step + 1, numbers, shown, good)


def _listed(figures: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {value.item():g}" for name, value in figures.items())
