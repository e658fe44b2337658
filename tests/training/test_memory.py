"""The allocator's settings, each in a process of its own since they cannot be taken back."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest


def without_settings(**environment: str) -> dict[str, str]:
    """This process's environment without glibc's own switches, which would keep the memory whatever we say."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return inherited | environment


def told(**environment: str) -> str:
    code = "from fmicl_text.training.memory import keep_memory; print(keep_memory())"
    environment = without_settings(**environment)
    finished = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return finished.stdout.strip()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator has these settings")
def test_glibc_is_told():
    assert told(FMICL_KEEP_MEMORY="1") == "True"


def test_the_environment_turns_it_off():
    assert told(FMICL_KEEP_MEMORY="0") == "False"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator has these settings")
def test_freed_memory_stays():
    """A freed 64 MB buffer remains mapped; by default glibc unmaps it at once."""
    code = """
import ctypes
from pathlib import Path
from fmicl_text.training.memory import keep_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
keep_memory()
buffer = libc.malloc(2**26)
ctypes.memset(buffer, 1, 2**26)
libc.free(buffer)
maps = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines()]
print(any(int(first, 16) <= buffer + 2**25 < int(end, 16) for first, end in maps))
"""
    for switch, kept in (("1", "True"), ("0", "False")):
        environment = without_settings(FMICL_KEEP_MEMORY=switch)
        finished = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert finished.stdout.strip() == kept
