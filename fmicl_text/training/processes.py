"""The processes of one run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from fmicl_text.errors import InputError


def processes() -> PartialState:
    """Return what accelerate knows of the processes of this run: one, unless it was launched as several."""
    patience = timedelta(days=1)  # of processes that wait for one to evaluate
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=patience)


def in_first_process(action: Callable[[], object]) -> None:
    """Call ``action`` in the first process, while the others wait.

    Raises:
        InputError: In all processes, if the action raises one; so all end in the same way.
    """
    if processes().is_main_process:
        try:
            action()
        except InputError as error:
            broadcast_object_list([error.problems])
            raise
    (problems,) = broadcast_object_list([None])
    if problems is not None:
        raise InputError(problems)


def lost_contact(error: RuntimeError) -> bool:
    """Return whether an error says that another process of the run is gone."""
    signs = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "broken pipe")
    return isinstance(error, torch.distributed.DistError) or any(sign in str(error).lower() for sign in signs)
