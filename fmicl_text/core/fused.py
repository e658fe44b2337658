"""What is done to each pair of a tile, and summed, as one kernel of a GPU.

A kernel, a critic, a mask, a weight and a sum are some ten to thirty passes over a tile, one after the other. On a GPU
a pass takes the time of its memory traffic, so together they cost several times the product of matrices that made the
tile. ``torch.compile`` makes one pass of them. It does so at the first tile, which takes some seconds, and again for
another objective; ``TORCHDYNAMO_DISABLE=1`` prevents it, as everywhere in PyTorch.
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


def fused(chain: Callable[P, T]) -> Callable[P, T]:
    """Return a function of a tile that is compiled on CUDA, and elsewhere what it is.

    Args:
        chain: Its first argument is on the tile's device. Where it cannot be compiled, for want of a C compiler for
            instance, that is said once and it goes on as it is.
    """
    compiled: Callable[P, T] | None = None  # made when needed: PyTorch's compiler takes seconds to import

    @functools.wraps(chain)
    def run(*args: P.args, **settings: P.kwargs) -> T:
        nonlocal compiled
        if not can_fuse(args[0].device) or compiled is chain:  # type: ignore[attr-defined]
            return chain(*args, **settings)
        if compiled is None:
            compiled = torch.compile(chain, dynamic=True)
        try:
            return compiled(*args, **settings)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            found = chain(*args, **settings)  # an error of the chain itself is raised here
            compiled = chain
            logger.warning("torch.compile failed, so %s takes longer: %s", chain.__name__, error)
            return found

    return run


def can_fuse(device: torch.device) -> bool:
    """Say whether chains are compiled on a device: on CUDA, with Triton."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None
