"""Callbacks of training: the metrics file, the last step's checkpoint, checkpoints of epochs, and progress."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ProgressCallback

from fmicl_text.files import cannot_write, write_text
from fmicl_text.training.criterion import Criterion

logger = logging.getLogger(__name__)


class MetricsFile(TrainerCallback):
    """Appends every log of the trainer to ``metrics.jsonl``, one JSON object a line.

    Times are left out, so that identical runs have identical files.

    Args:
        path: The file. A resumed run first cuts off what was logged after its checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the file with the checkpoint's history, which is empty in a new run."""
        if state.is_world_process_zero:
            write_text(self.path, "".join(map(_line, state.log_history)))

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Append the newest entry."""
        if state.is_world_process_zero:
            try:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(_line(state.log_history[-1]))
            except OSError as error:
                raise cannot_write("the log", self.path, error) from error


def _line(entry: dict[str, Any]) -> str:
    figures = {key: entry[key] for key in sorted(entry) if not key.endswith(("_runtime", "_per_second"))}
    return json.dumps({"step": entry["step"]} | figures) + "\n"


class LastStep(TrainerCallback):
    """Evaluates and saves after the last step, which is a candidate for the best checkpoint like any other."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Request both at the end of training."""
        if state.global_step >= state.max_steps:
            control.should_evaluate = args.eval_strategy != "no"
            control.should_save = args.save_strategy != "no"
        return control


class SaveAfterEpoch(TrainerCallback):
    """Writes a checkpoint of an epoch's last step after the log and the evaluation at the epoch's end.

    Otherwise they would be missing from the checkpoint, and from a run that is resumed from it.
    """

    def __init__(self) -> None:
        self._due = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Put off a checkpoint of an epoch's last step."""
        if control.should_save and (state.epoch.is_integer() or state.global_step >= state.max_steps):
            self._due, control.should_save = True, False
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Request the checkpoint that was put off."""
        control.should_save |= self._due
        self._due = False
        return control


class Progress(ProgressCallback):
    """The library's progress bar, with the newest loss terms and the score that chooses the checkpoint at its end.

    Args:
        criterion: That score; ``None`` if there is none.
    """

    def __init__(self, criterion: Criterion | None) -> None:
        super().__init__()
        self._criterion = criterion
        self._shown: dict[str, str] = {}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the values instead of printing a line for each log."""
        if self.training_bar is None:
            return
        for key, value in (logs or {}).items():
            if key.rpartition("/")[2] in ("positive", "negative"):  # after the name of a data set, if there are several
                self._shown[key] = f"{value:.3g}"
            elif self._criterion is not None and key == f"eval_{self._criterion.logged}":
                shown = self._criterion.shown(value)
                self._shown[f"{self._criterion.name} {self._criterion.metric.name}"] = f"{shown:.2f}"
        self.training_bar.set_postfix(self._shown)


class ProgressLines(TrainerCallback):
    """A line for each log where there is no terminal for a bar: step, loss terms, rows a second, and the time left.

    Args:
        rows: Rows of a training step, over all processes.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._first = self._last = (0, 0.0)  # step and time

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self._first = self._last = state.global_step, time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Print the line of a training log, or the scores of an evaluation."""
        logs = logs or {}
        if not state.is_world_process_zero or "train_runtime" in logs:
            return
        left_out = ("epoch", "grad_norm", "learning_rate", "step", "information_bound")  # the last is minus the loss
        figures = {k: v for k, v in logs.items() if k not in left_out and not k.endswith(("_runtime", "_per_second"))}
        parts = [f"step {state.global_step:,} of {state.max_steps:,}"]
        parts += [f"{name.removeprefix('eval_')} {value:.4g}" for name, value in figures.items()]
        now = state.global_step, time.monotonic()
        if "loss" in logs and now[0] > self._last[0]:
            parts.append(f"{(now[0] - self._last[0]) * self._rows / max(now[1] - self._last[1], 1e-9):,.0f} rows/s")
            pace = (now[1] - self._first[1]) / (now[0] - self._first[0])
            parts.append(f"{duration(pace * (state.max_steps - now[0]))} left")
            self._last = now
        logger.info(", ".join(parts))


def duration(seconds: float) -> str:
    """Write a time in the unit that suits it."""
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes:.0f} min" if minutes < 100 else f"{hours:.1f} h"
