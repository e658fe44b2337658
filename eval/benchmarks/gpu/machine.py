"""The machine of a check: its name and peaks, clocks that wait for it, and memory above what was there."""

from __future__ import annotations

import gc
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import torch
from torch import Tensor

from fmicl_text.core import fused


class OverBudgetError(Exception):
    """A part has used up its time."""


class Budget:
    """The seconds of a part.

    Args:
        seconds: How many it has, from now.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._start = time.perf_counter()

    def spent(self) -> float:
        """Return the seconds since the beginning."""
        return time.perf_counter() - self._start

    def left(self) -> float:
        """Return the seconds that are left, negative beyond the end."""
        return self.seconds - self.spent()

    def require(self, seconds: float = 0.0) -> None:
        """Stop if less than this is left.

        Raises:
            OverBudgetError: If it is.
        """
        if self.left() < seconds:
            raise OverBudgetError(f"{self.left():.0f} of {self.seconds:.0f} s are left, and {seconds:.0f} s are needed")


def this_device() -> torch.device:
    """Return the first CUDA device, or the CPU if there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def name_of(device: torch.device) -> str:
    """Return the name of the card, or of the CPU's architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU {platform.machine()}"


def wait_for(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def use_tf32(enabled: bool) -> None:
    """Let every float32 product of this process on CUDA take TF32, or none."""
    if hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # torch 2.9
        torch.backends.cuda.matmul.fp32_precision = "tf32" if enabled else "ieee"
    else:
        torch.backends.cuda.matmul.allow_tf32 = enabled


@contextmanager
def compiling(wanted: bool = True) -> Iterator[None]:
    """Let what the package would compile after some time be compiled at once, or never."""
    worth = fused.WORTH
    fused.WORTH = 0 if wanted else sys.maxsize
    try:
        yield
    finally:
        fused.WORTH = worth


def forget_compiled() -> None:
    """Begin anew with ``torch.compile``, which compiles a function for eight kinds of arguments and no more."""
    torch.compiler.reset()


def seconds_of(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the median seconds of a function, which has run before."""
    times = []
    for _ in range(repeats):
        wait_for(device)
        start = time.perf_counter()
        run()
        wait_for(device)
        times.append(time.perf_counter() - start)
    return median(times)


def start_of_memory(device: torch.device) -> int | None:
    """Begin to note the peak of memory; return the bytes that are taken now, ``None`` on a CPU."""
    if device.type != "cuda":
        return None
    gc.collect()  # trainers, which are in circles
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def peak_above(start: int | None, device: torch.device) -> float | None:
    """Return the peak in megabytes above what was taken at the start."""
    return None if start is None else (torch.cuda.max_memory_allocated(device) - start) / 2**20


def peaks(device: torch.device, size: int) -> dict[str, float]:
    """Return the rate of a large product of square matrices in TFLOP/s: in float32, TF32 and bfloat16.

    Args:
        device: The device; a CPU has no TF32.
        size: Rows and columns.
    """
    found = {}
    for name, dtype in (("float32", torch.float32), ("tf32", torch.float32), ("bfloat16", torch.bfloat16)):
        if name == "tf32" and device.type != "cuda":
            continue
        use_tf32(name == "tf32")
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)

        def multiply(a: Tensor = a, b: Tensor = b, out: Tensor = out) -> None:
            torch.mm(a, b, out=out)

        multiply()
        found[name] = 2 * size**3 / seconds_of(multiply, device, 5) / 1e12
    use_tf32(False)
    return found


def described(device: torch.device) -> dict[str, object]:
    """Return what a reader needs to know of the machine."""
    found: dict[str, object] = {
        "name": name_of(device),
        "device": device.type,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["gigabytes"] = properties.total_memory / 2**30
        found["multiprocessors"] = properties.multi_processor_count
        found["cuda"] = torch.version.cuda
    return found
