"""Keep freed memory in the process: glibc gives it back after every training step and pays to get it again."""

from __future__ import annotations

import ctypes
import os
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_LARGEST_INT = 2**31 - 1


def keep_memory() -> bool:
    """Tell glibc's allocator to keep what is freed, for the rest of the process.

    Freed buffers of a training or encoding step then serve the next one, instead of being unmapped and faulted
    in again page by page. It matters where tensors live in main memory, that is without a GPU. Does nothing off
    Linux or with another C library, nor if the environment has ``FMICL_KEEP_MEMORY=0``.

    Returns:
        Whether the allocator was told.
    """
    if os.environ.get("FMICL_KEEP_MEMORY") == "0" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _LARGEST_INT, _M_TOP_PAD: 256 * 2**20}
    return all(mallopt(option, value) == 1 for option, value in settings.items())
