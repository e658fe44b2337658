"""The count of optimiser steps, by which a loss tells a new training step from another call in the same one."""

from __future__ import annotations

from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook


class _Counter:
    done = 0


def _count(*_: Any) -> None:
    _Counter.done += 1


register_optimizer_step_post_hook(_count)  # of every optimiser; that is all a loss can see of the one that trains it


def optimiser_steps() -> int:
    """Return how often any optimiser of this process has stepped."""
    return _Counter.done
