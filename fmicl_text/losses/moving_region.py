"""The region of negatives of the training step in progress, where it moves during training."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fmicl_text.core import Adaptation, Annealing, Region
from fmicl_text.core.devices import process_count


class MovingRegion(nn.Module):
    """The current region of an annealing or an adaptation; the same on all processes.

    Args:
        course: How the region moves.
    """

    place: Tensor
    """The number that decides the region: training steps begun before this one, or the level of an adaptation."""
    begun: Tensor
    """Training steps begun."""
    losses: Tensor
    """Losses of the last steps, the newest last, NaN where there was none: ``(window,)``."""
    summed: Tensor
    """Sum and number of the losses of the step in progress: ``(2,)``."""

    def __init__(self, course: Annealing | Adaptation) -> None:
        super().__init__()
        self.course = course
        self.register_buffer("begun", torch.zeros((), dtype=torch.long))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))
        if isinstance(course, Adaptation):
            self.register_buffer("losses", torch.full((course.window,), torch.nan))
            self.register_buffer("summed", torch.zeros(2))

    def now(self) -> Region:
        """Return the region of the step in progress."""
        return self.course.at(int(self.place))

    @torch.no_grad()
    def begin_step(self) -> None:
        """Update the region; called once per training step, on all processes."""
        if isinstance(self.course, Adaptation):
            self._adapt(self.course)
        else:
            self.place.copy_(self.begun)
        self.begun += 1

    @torch.no_grad()
    def record(self, loss: Tensor) -> None:
        """Record a loss of the step in progress; with micro-batches, a step has several."""
        if isinstance(self.course, Adaptation):
            self.summed += torch.stack([loss.detach(), torch.ones_like(loss)])

    def _adapt(self, course: Adaptation) -> None:
        """Change the level by the losses of the step that has ended."""
        if self.begun == 0:
            return
        if process_count() > 1:
            dist.all_reduce(self.summed)
        loss = float(self.summed[0] / self.summed[1])
        before = [value for value in self.losses.tolist() if value == value]
        self.place.fill_(course.after(int(self.place), loss, before))
        self.losses.copy_(torch.cat([self.losses[1:], torch.full_like(self.losses[:1], loss)]))
        self.summed.zero_()
