"""Where the time of a training goes, part by part: each has the time in it less that of parts within it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from sentence_transformers import SentenceTransformerTrainer

REST = "rest"


class StepClock:
    """Measures a trainer by putting a clock around what it calls.

    Attributes:
        seconds: Part -> its own seconds.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open = [REST]
        self._since = time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time inside for a part, and not for the one around it."""
        self._enter(name)
        try:
            yield
        finally:
            self._leave()

    def _enter(self, name: str) -> None:
        self._switch()
        self._open.append(name)

    def _leave(self) -> None:
        self._switch()
        self._open.pop()

    def _switch(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def reset(self) -> None:
        """Begin anew, after what does not count."""
        self._switch()
        self.seconds.clear()

    def read(self) -> dict[str, float]:
        """Return the seconds of each part so far."""
        self._switch()
        return dict(self.seconds)

    def watch(self, trainer: SentenceTransformerTrainer) -> None:
        """Put the clock around the parts of a trainer's step, before it trains."""
        around = self._around
        trainer.data_collator = around("tokenising", trainer.data_collator)
        trainer.get_batch_samples = around("waiting for data", trainer.get_batch_samples)
        trainer.model.register_forward_pre_hook(lambda *_: self._enter("encoder"))
        trainer.model.register_forward_hook(lambda *_: self._leave())
        trainer.compute_loss = around("loss", trainer.compute_loss)
        trainer.training_step = around("checks", trainer.training_step)
        trainer.log, trainer.evaluate = around("logging", trainer.log), around("evaluation", trainer.evaluate)
        accelerator = trainer.accelerator
        accelerator.backward = around("backward", accelerator.backward)
        accelerator.clip_grad_norm_ = around("clipping", accelerator.clip_grad_norm_)
        trainer.create_optimizer()
        trainer.optimizer.step = around("optimiser", trainer.optimizer.step)

    def _around(self, name: str, call: Callable[..., Any]) -> Any:
        return _Clocked(self, name, call)


class _Clocked:
    """A callable with a clock around it, which has the attributes of what it calls."""

    def __init__(self, clock: StepClock, name: str, call: Callable[..., Any]) -> None:
        self._clock, self._name, self._call = clock, name, call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._clock.part(self._name):
            return self._call(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)
