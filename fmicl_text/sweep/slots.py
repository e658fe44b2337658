"""Which GPU and how many threads each of several workers on one machine gets."""

from __future__ import annotations

import os

import torch


def slots(workers: int) -> list[dict[str, str]]:
    """Return the environment of each worker: GPUs in turn, or without any an equal share of the cores."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [name for name in (named or "").split(",") if name] or list(map(str, range(torch.cuda.device_count())))
    if torch.cuda.is_available() and devices:
        return [{"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} for number in range(workers)]
    threads = os.environ.get("OMP_NUM_THREADS") or str(max((os.cpu_count() or 1) // workers, 1))
    return [{"OMP_NUM_THREADS": threads} for _ in range(workers)]
