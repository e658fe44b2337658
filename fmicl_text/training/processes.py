"""The processes of one run, as accelerate knows them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import torch
from accelerate import PartialState


def processes() -> PartialState:
    """Return what accelerate knows of the processes of this run: one, unless it was launched as several."""
    patience = timedelta(days=1)  # of processes that wait for one to evaluate
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=patience)


def in_first_process(action: Callable[[], object]) -> None:
    """Do something once, while the other processes wait."""
    if processes().is_main_process:
        action()
    processes().wait_for_everyone()
