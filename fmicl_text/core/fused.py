"""What is done to each pair of a tile, and summed, as one kernel of a GPU.

A kernel, a critic, a mask, a weight and a sum are some ten to thirty passes over a tile, one after the other. On a GPU
a pass takes the time of its memory traffic, so together they cost several times the product of matrices that made the
tile; of a small matrix, each takes the time of its launch. ``torch.compile`` makes one pass of them.

Compiling takes some seconds, once for an objective. ``TORCHDYNAMO_DISABLE=1`` prevents it, as everywhere in PyTorch.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_failed = False


def fused(after: int = 0) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let a function of tensors be compiled on CUDA; elsewhere it is what it is.

    Args:
        after: Calls before it is worth the seconds.

    Returns:
        A decorator. The first argument of the function is a tensor. Where it can't be compiled, for want of a C
        compiler for instance, that is said once, and it runs as it is written.
    """

    def decorate(chain: Callable[P, T]) -> Callable[P, T]:
        calls = 0

        @functools.cache  # made when needed: PyTorch's compiler takes seconds to import
        def compiled() -> Callable[P, T]:
            return torch.compile(chain, dynamic=True)

        @functools.wraps(chain)
        def run(*args: P.args, **settings: P.kwargs) -> T:
            nonlocal calls
            global _failed
            if not can_fuse(args[0].device):  # type: ignore[attr-defined]
                return chain(*args, **settings)
            calls += 1
            if calls <= after:
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

    return decorate


def can_fuse(device: torch.device) -> bool:
    """Say whether functions are compiled on a device: on CUDA, with Triton."""
    wanted = device.type == "cuda" and os.environ.get("TORCHDYNAMO_DISABLE") != "1"
    return wanted and not _failed and importlib.util.find_spec("triton") is not None
