"""Resident memory of this process, from Linux's ``/proc``.

``getrusage`` has a peak too, but a child begins with its parent's.
"""

from __future__ import annotations

from pathlib import Path

_SELF = Path("/proc/self")


def resident() -> float:
    """Return the resident megabytes."""
    return _megabytes("VmRSS")


def peak() -> float:
    """Return the most resident megabytes since the process began, or since :func:`forget_peak`."""
    return _megabytes("VmHWM")


def forget_peak() -> None:
    """Let the peak start anew."""
    (_SELF / "clear_refs").write_text("5")


def _megabytes(field: str) -> float:
    lines = (_SELF / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
