"""Keep freed memory in the process: glibc returns it to the system after every step, and requests it again."""

from __future__ import annotations

import ctypes
import os
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_LARGEST_INT = 2**31 - 1


def keep_memory() -> bool:
    """Tell glibc's allocator to keep freed memory, for the rest of the process.

    The next training or encoding step then reuses the buffers of the last one, instead of mapping them again page by
    page. It matters without a GPU, where tensors are in main memory. Nothing is changed on systems other than Linux,
    with another C library, or if the environment has ``FMICL_KEEP_MEMORY=0``.

    Returns:
        Whether the setting was changed.
    """
    if os.environ.get("FMICL_KEEP_MEMORY") == "0" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _LARGEST_INT, _M_TOP_PAD: 256 * 2**20}
    return all(mallopt(option, value) == 1 for option, value in settings.items())
