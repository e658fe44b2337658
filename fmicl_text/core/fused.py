"""What is done to each pair of a tile, and summed, as one kernel of a GPU.

The search for the shifts of rows makes a dozen passes over a tile in a sweep. On a GPU each takes the time of its
memory traffic, or for a small matrix that of its launch; ``torch.compile`` makes one or two of them.
``eval/benchmarks/gpu_check.py`` measures it. (A mean and a log-sum-exp make ten passes in float32, which take about as
long as running what is compiled: nothing is gained there.)
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

WORTH = 20_000
"""Calls of a function before it is compiled: that takes 10 to 30 s, and then saves each call a dozen launches."""

_failed = False


def fused(chain: Callable[P, T]) -> Callable[P, T]:
    """Let a function of tensors be compiled on CUDA when it has been called often enough; elsewhere it is what it is.

    Where it can't be compiled, for want of a C compiler for instance, that is said once, and it runs as it is written.
    ``TORCHDYNAMO_DISABLE=1`` prevents it, as everywhere in PyTorch.

    Args:
        chain: The function; its first argument is a tensor.
    """
    calls = 0

    @functools.cache  # made when needed: PyTorch's compiler takes seconds to import
    def compiled() -> Callable[P, T]:
        return torch.compile(chain, dynamic=True)

    @functools.wraps(chain)
    def run(*args: P.args, **settings: P.kwargs) -> T:
        nonlocal calls
        global _failed
        calls += 1
        if calls <= WORTH or not can_fuse(args[0].device):  # type: ignore[attr-defined]
            return chain(*args, **settings)
        try:
            return compiled()(*args, **settings)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            found = chain(*args, **settings)  # an error of its own is raised here
            _failed = True
            logger.warning("torch.compile failed, so losses take longer: %s", error)
            return found

    return run


def can_fuse(device: torch.device) -> bool:
    """Say whether functions are compiled on a device: on CUDA, with Triton."""
    return device.type == "cuda" and not _failed and importlib.util.find_spec("triton") is not None
