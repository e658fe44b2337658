"""What training has added up since its last log: the loss and its terms, kept in checkpoints."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file
from torch import Tensor

_TERM, _COUNT = "term ", "count "


class LogSums:
    """Sums of one process, from which a log's averages over steps, calls and processes are made.

    A training that is stopped and resumed logs the same figures as one that is not, since its checkpoints contain the
    sums.

    Args:
        step: The training step of the newest log; 0 at the start.

    Attributes:
        total: The sum of the losses of all logged steps, averaged over processes.
        seconds: How long the training took before it was resumed.
    """

    def __init__(self, step: int = 0) -> None:
        self.total, self.seconds = 0.0, 0.0
        self._logged_step = step
        self._started = time.time()
        self._begin()

    def _begin(self) -> None:
        self._loss: Tensor | None = None
        self._terms: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add_loss(self, loss: Tensor) -> None:
        """Add the loss of a micro-batch, already divided by their number in a step."""
        self._loss = loss.detach().clone() if self._loss is None else self._loss + loss.detach()

    def add_terms(self, terms: dict[str, Tensor]) -> None:
        """Add the terms of a loss."""
        for name, term in terms.items():
            value = term.detach()
            self._terms[name] = self._terms[name] + value if name in self._terms else value.clone()
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self, step: int) -> dict[str, float]:
        """Return the averages since the last log, over all processes, and begin again.

        Args:
            step: The current training step.

        Returns:
            ``loss``, a step's average, and each term, an average over the calls of the losses that have it.
        """
        loss = self._gathered_loss()
        everyone = gather_object([{name: (self._terms[name].item(), self._counts[name]) for name in self._terms}])
        names = dict.fromkeys(name for of_process in everyone for name in of_process)
        averages = {"loss": loss / max(step - self._logged_step, 1)}
        for name in names:
            values = [of_process[name] for of_process in everyone if name in of_process]
            averages[name] = sum(value for value, _ in values) / sum(count for _, count in values)
        self.total += loss
        self._logged_step = step
        self._begin()
        return averages

    def final_average(self, step: int) -> float:
        """Return the average loss of all training steps."""
        return (self.total + self._gathered_loss()) / max(step, 1)

    def elapsed(self) -> float:
        """Return the seconds that training took so far, with those before it was resumed."""
        return self.seconds + time.time() - self._started

    def _gathered_loss(self) -> float:
        values: list[float] = gather_object([0.0 if self._loss is None else self._loss.item()])
        return sum(values) / len(values)

    def save(self, file: Path) -> None:
        """Write the sums to a safetensors file."""
        sums = {
            "all losses": torch.tensor(self.total, dtype=torch.float64),
            "logged step": torch.tensor(self._logged_step),
            "seconds": torch.tensor(self.elapsed(), dtype=torch.float64),
            **{f"{_TERM}{name}": term for name, term in self._terms.items()},
            **{f"{_COUNT}{name}": torch.tensor(count) for name, count in self._counts.items()},
        }
        if self._loss is not None:
            sums["loss"] = self._loss
        save_file({name: value.detach().cpu().clone() for name, value in sums.items()}, file)

    @classmethod
    def load(cls, file: Path, device: torch.device) -> LogSums:
        """Read the sums of a checkpoint; also the form of version 0.1.0, which has one count for all terms."""
        found = load_file(file)
        sums = cls(int(found["logged step"]))
        sums.total, sums.seconds = found["all losses"].item(), found["seconds"].item()
        if "loss" in found:
            sums._loss = found["loss"].to(device)
        names = [key.removeprefix(_TERM) for key in found if key.startswith(_TERM) and key != f"{_TERM}steps"]
        for name in names:
            count = int(found.get(f"{_COUNT}{name}", found.get(f"{_TERM}steps", torch.tensor(0))))
            if count:
                sums._terms[name] = found[f"{_TERM}{name}"].to(device)
                sums._counts[name] = count
        return sums
