"""SIGINT and SIGTERM: training finishes its step, writes a checkpoint and stops."""

from __future__ import annotations

import os
import shlex
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fmicl_text.core.devices import process_count
from fmicl_text.errors import RunInterrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PROMISE = "{}: finishing this step and writing a checkpoint; press Ctrl-C again to stop at once\n"


class Interruption(TrainerCallback):
    """Handles signals as a context manager, and stops training as a callback of the trainer.

    After a first signal during training the step is finished, all processes write a checkpoint, and
    :class:`RunInterrupted` is raised. A second SIGINT raises it at once, as does a first signal outside training,
    where there is nothing to save. Outside the main thread, signals are not handled.

    Args:
        folder: The run folder, for the command that continues the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._received: int | None = None
        self._training = self._leaving = False
        self._process = os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        """Watch."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        """Restore the handlers that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a process that loads data; its parent ends it
            return
        first, self._received = self._received is None, self._received or number
        if self._training and first:
            if os.environ.get("RANK", "0") == "0":
                os.write(2, _PROMISE.format(signal.Signals(number).name).encode())  # print() may be what is interrupted
        elif not self._training or number == signal.SIGINT:
            raise self._error(number, "nothing more was written")

    def _error(self, number: int, what: str) -> RunInterrupted:
        name, again = signal.Signals(number).name, f"fmicl train --resume {shlex.quote(str(self.folder))}"
        return RunInterrupted(number, f"{name}: {what}; to continue: {again}")

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Note that there is something to save from here on."""
        self._training = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Ask for a checkpoint if any process received a signal."""
        received = self._received or 0
        if process_count() > 1:
            of_all = torch.tensor(received, device=args.device)
            dist.all_reduce(of_all, op=dist.ReduceOp.MAX)
            received = int(of_all)
        if received:
            self._received = received
            self._leaving = control.should_save = True
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop training, once the checkpoint is written.

        Raises:
            RunInterrupted: If a signal is the reason for the checkpoint.
        """
        if self._leaving and self._received is not None:
            raise self._error(self._received, f"the checkpoint of step {state.global_step} is written")

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop at the end if a signal came after the last checkpoint was written.

        Raises:
            RunInterrupted: If a signal came.
        """
        self._training = False
        if self._received is not None:
            raise self._error(self._received, "all checkpoints are written")
