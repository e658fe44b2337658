r"""One batch over several processes: means over all rows, and a ring in which each process sees all columns.

Inside :func:`across_devices` the objectives see the ``W B`` rows of all ``W`` processes as one batch, and every
process computes the same loss. Each keeps its own ``B`` rows and scores them against all columns, which travel around
the ring of processes: a process holds its own columns and one visitor's, never all of them. The gradient of visiting
columns travels with them and is back, complete, after ``W`` steps.

Since all processes compute the same loss, a parameter's gradient is the *mean* of the processes' gradients of it:
which is what ``DistributedDataParallel`` computes.

**Cost.** One sweep with gradient sends ``W`` messages of ``2 B D`` numbers (columns and their gradient) and ``B K``
64-bit text identities from each process to its neighbour: ``8 W B D`` bytes in float32, as much as an all-gather and
the reduce-scatter of its gradient, with memory for one visitor in place of ``W``. No message grows with ``W``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fmicl_text.core.pairs import Rows

_ACROSS: ContextVar[bool] = ContextVar("across", default=False)


@contextmanager
def across_devices(enabled: bool = True) -> Iterator[None]:
    """Let the objectives called in this context treat the rows of all processes as one batch.

    Every process must make the same calls with the same number of rows. Without initialised
    ``torch.distributed``, or with one process, nothing changes.
    """
    token = _ACROSS.set(enabled)
    try:
        yield
    finally:
        _ACROSS.reset(token)


def process_count() -> int:
    """Number of processes that train together, whether they share the batch or not: 1 without ``torch.distributed``."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def world_size() -> int:
    """Number of processes that share the batch: 1 outside :func:`across_devices`."""
    return process_count() if _ACROSS.get() else 1


def rank() -> int:
    """Place of this process among those that share the batch: 0 outside :func:`across_devices`."""
    return dist.get_rank() if world_size() > 1 else 0


def total(value: Tensor) -> Tensor:
    """Sum of ``value`` over the processes that share the batch, differentiable."""
    return value if world_size() == 1 else _Total.apply(value)


class _Total(torch.autograd.Function):
    """A sum over processes; each of their losses depends on each term, so gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        value = value.clone()
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> Tensor:
        return _Total.apply(weight)


def largest(values: Tensor) -> Tensor:
    """Largest of ``values`` ``(B,)`` over the rows of all processes that share the batch, without gradient."""
    value = values.detach().amax()
    if world_size() > 1:
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return value


def row_mean(values: Tensor) -> Tensor:
    """Mean of ``values`` ``(B,)`` over the rows of all processes that share the batch: a scalar."""
    return values.mean() if world_size() == 1 else total(values.mean()) / world_size()


def average(value: Tensor) -> Tensor:
    """Mean of ``value`` over all processes, whether they share the batch or not, without gradient."""
    if process_count() == 1:
        return value
    value = value.clone()
    dist.all_reduce(value)
    return value / process_count()


def visit(columns: Rows, look: Callable[[Rows, Tensor | None], None], gradient: Tensor | None = None) -> Tensor | None:
    """Call ``look`` once with the columns of every process that shares the batch, this one's first.

    Args:
        columns: This process's columns ``(M, D)``.
        look: Takes columns and their gradient buffer, to which it adds in place.
        gradient: A zero buffer ``(M, D)`` that goes along with the columns, or ``None``.

    Returns:
        The buffer of this process's own columns, with what every process added to it.
    """
    world = world_size()
    look(columns, gradient)
    for step in range(1, world + 1):
        if world == 1 or (step == world and gradient is None):
            break
        along = [] if gradient is None else [gradient]
        if step < world:  # the last step only returns the gradients
            vectors, texts, *along = _to_neighbour([columns.vectors, columns.texts, *along])
            columns = Rows(vectors, texts)
        else:
            along = _to_neighbour(along)
        gradient = along[0] if along else None
        if step < world:
            look(columns, gradient)
    return gradient


def _to_neighbour(tensors: list[Tensor]) -> list[Tensor]:
    """Send tensors to the next process of the ring, and return what the one before sent, of the same shapes."""
    world, here = dist.get_world_size(), dist.get_rank()
    tensors = [tensor.detach().contiguous() for tensor in tensors]
    received = [torch.empty_like(tensor) for tensor in tensors]
    moves = [dist.P2POp(dist.isend, tensor, (here + 1) % world) for tensor in tensors]
    moves += [dist.P2POp(dist.irecv, tensor, (here - 1) % world) for tensor in received]
    for request in dist.batch_isend_irecv(moves):
        request.wait()
    return received
