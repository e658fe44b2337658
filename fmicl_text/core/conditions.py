"""What is wrong with a batch, found out on its device and read by the host all at once.

On a GPU the host is far ahead of the device, and each ``if`` on a tensor makes it wait until the two meet. Therefore a
condition is only noted where it is computed, and a step reads all of its conditions together, once: those within
:func:`read_together` when it ends, and one outside at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Kind = TypeVar("Kind", bound=Exception)
Found = Callable[[], Exception | None]
"""What to do where a condition holds: return the error to raise, or warn and return ``None``."""

_NOTED: ContextVar[list[tuple[Tensor, Found]] | None] = ContextVar("noted", default=None)


def note(condition: Tensor, found: Found) -> None:
    """Raise or warn if a condition holds: at the end of :func:`read_together`, or now outside of it.

    Args:
        condition: A scalar, bool.
        found: Called if it holds.
    """
    noted = _NOTED.get()
    if noted is None:
        _read([(condition, found)])
    else:
        noted.append((condition.detach(), found))


@contextmanager
def read_together(
    kind: type[Kind] | type[Exception] = Exception, explained: Callable[[Kind], Exception] | None = None
) -> Iterator[None]:
    """Read the conditions that are noted in this context together, at its end; within another one, at the other's.

    An error of the block itself takes the place of what is noted.

    Args:
        kind: Errors that are explained.
        explained: Makes the error to raise instead of one of this kind; default: none is replaced.
    """
    outer, noted = _NOTED.get(), list[tuple[Tensor, Found]]()
    token = _NOTED.set(noted)
    try:
        yield
    except kind as error:
        if explained is None:
            raise
        raise explained(cast(Any, error)) from error
    finally:
        _NOTED.reset(token)
    if explained is not None:
        noted = [(condition, _explained(found, kind, explained)) for condition, found in noted]
    if outer is None:
        _read(noted)
    else:
        outer += noted


def _explained(found: Found, kind: type[Any], explained: Callable[[Any], Exception]) -> Found:
    def replaced() -> Exception | None:
        error = found()
        if not isinstance(error, kind):
            return error
        another = explained(error)
        another.__cause__ = error
        return another

    return replaced


def _read(noted: list[tuple[Tensor, Found]]) -> None:
    """Read conditions by one copy from their device, and raise the first error."""
    if not noted:
        return
    device = noted[0][0].device
    holds = torch.stack([condition.to(device) for condition, _ in noted]).tolist()
    for holding, (_, found) in zip(holds, noted, strict=True):
        if holding and (error := found()) is not None:
            raise error
