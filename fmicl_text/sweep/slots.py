"""Which GPU and how many threads each of several workers on one machine gets."""

from __future__ import annotations

import os

import torch

_THREADS = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")
"""How many threads torch and the tokenizers take: all cores, if nothing says otherwise."""


def slots(workers: int) -> list[dict[str, str]]:
    """Return the environment of each worker: GPUs in turn, if there are any, and an equal share of the cores.

    Without it every worker takes threads for all cores, which slows all of them down, on a GPU too, where a step of a
    small encoder waits for the CPU. Numbers of threads that the environment has already stay.
    """
    share = str(max((os.cpu_count() or 1) // workers, 1))
    threads = {name: os.environ.get(name) or share for name in _THREADS}
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [name for name in (named or "").split(",") if name] or list(map(str, range(torch.cuda.device_count())))
    if not (torch.cuda.is_available() and devices):
        return [threads] * workers
    return [threads | {"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} for number in range(workers)]
