"""Part 4: loss and gradient of a large batch of given embeddings: time, memory, and share of the device's peaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from eval.benchmarks.gpu.machine import Budget, compiling, peak_above, peaks, seconds_of, start_of_memory, use_tf32
from fmicl_text import core

DIMENSIONS = {"cuda": 768, "cpu": 32}
SIZES = {"cuda": (16_384, 65_536, 262_144, 131_072, 32_768), "cpu": (64, 128)}
"""Rows of a batch; what the targets are stated for comes early."""
TEMPERATURE, SIGMA = 0.05, 0.2646
PRODUCTS = 3
"""Products of matrices, of 2 B B D operations each, that a loss over all pairs needs at least, with its gradient."""
PEAK = {"cuda": 8192, "cpu": 256}
"""Rows and columns of the matrices whose product measures the peak."""
AT_MOST = 25.0
"""Seconds beyond which a case is not tried at the next size."""

Loss = Callable[[Tensor, Tensor], None]


def infonce(x: Tensor, y: Tensor) -> None:
    """InfoNCE by the package: two sweeps."""
    _backward(core.infonce(x, y, kernel=core.CosineKernel(TEMPERATURE)))


def fmicl_mean(x: Tensor, y: Tensor) -> None:
    """f-MICL without a shift: one sweep, over pairs of an anchor and a positive."""
    kernel = core.GaussianKernel(SIGMA)
    _backward(core.fmicl(x, y, divergence=core.JS, kernel=kernel, alpha=100.0, negatives="cross"))


def fmicl_row(x: Tensor, y: Tensor) -> None:
    """The default loss, with a shift for each row: sweeps until the shifts are found, and one for the gradient."""
    kernel = core.GaussianKernel("adaptive")
    _backward(core.fmicl(x, y, divergence=core.JS, kernel=kernel, negatives="cross", shift="row"))


def dense(x: Tensor, y: Tensor) -> None:
    """InfoNCE with the matrix of all pairs."""
    cross_entropy(x @ y.T / TEMPERATURE, torch.arange(len(x), device=x.device)).backward()


def cached(x: Tensor, y: Tensor, rows: int = 32) -> None:
    """InfoNCE by sentence-transformers, as its gradient cache calls it, in mini-batches of its default size."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

    model = SentenceTransformer(modules=[nn.Identity()], device=str(x.device))
    loss = CachedMultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE, mini_batch_size=rows)
    loss.calculate_loss([[x], [y]], with_backward=True)


def cached_wide(x: Tensor, y: Tensor) -> None:
    """The same in mini-batches of 512."""
    cached(x, y, rows=512)


def _backward(terms: dict[str, Tensor]) -> None:
    torch.stack(list(terms.values())).sum().backward()


class Case(NamedTuple):
    """A loss, in TF32 or not, and up to which batch; ``eager``: the chain of a tile is not compiled."""

    loss: Loss
    tf32: bool = False
    eager: bool = False
    largest: int = 262_144


CASES = {
    "f-MICL by row, TF32": Case(fmicl_row, tf32=True),
    "f-MICL, TF32": Case(fmicl_mean, tf32=True),
    "InfoNCE, TF32": Case(infonce, tf32=True),
    "cached MNRL, 512, TF32": Case(cached_wide, tf32=True),
    "cached MNRL, 32, TF32": Case(cached, tf32=True, largest=65_536),
    "f-MICL by row, TF32, eager": Case(fmicl_row, tf32=True, eager=True, largest=65_536),
    "dense, TF32": Case(dense, tf32=True, largest=65_536),
    "f-MICL by row": Case(fmicl_row),
    "f-MICL": Case(fmicl_mean),
    "InfoNCE": Case(infonce),
    "cached MNRL, 512": Case(cached_wide),
}


def embeddings(batch: int, dimensions: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return unit vectors of anchors and, near them, positives, ``(B, D)`` each."""
    generator = torch.Generator(device).manual_seed(0)
    x, noise = (torch.randn(batch, dimensions, device=device, generator=generator) for _ in range(2))
    x = normalize(x, dim=1)
    y = normalize(x + 0.5 * noise / dimensions**0.5, dim=1)
    return x.requires_grad_(), y.requires_grad_()


def run(device: torch.device, budget: Budget, found: dict[str, Any]) -> None:
    """Fill ``found`` with the peaks of the device and the figures of each case and size; what fails says why."""
    dimensions = DIMENSIONS[device.type]
    found |= {"dimensions": dimensions, "peaks, TFLOP/s": peaks(device, PEAK[device.type]), "sizes": {}}
    last: dict[str, tuple[int, float]] = {}  # case -> rows and seconds of the largest size so far
    for batch in SIZES[device.type]:
        found["sizes"][batch] = {}
        for name, case in CASES.items():
            seconds = _expected(last.get(name), batch)
            if batch > case.largest or (case.eager and device.type == "cpu"):
                continue
            if seconds > AT_MOST or 2 * seconds + 1 > budget.left():
                found["sizes"][batch][name] = {"error": f"not run: it would take {seconds:.0f} s"}
                continue
            repeats = 3 if seconds < 1 else 1
            figures = measured(case, batch, dimensions, device, found["peaks, TFLOP/s"], repeats)
            found["sizes"][batch][name] = figures
            last[name] = (batch, figures.get("seconds", float("inf")))
    found["sizes"] = dict(sorted(found["sizes"].items()))
    use_tf32(False)


def _expected(last: tuple[int, float] | None, batch: int) -> float:
    return 0.0 if last is None else last[1] * (batch / last[0]) ** 2


def measured(
    case: Case, batch: int, dimensions: int, device: torch.device, peak: dict[str, float], repeats: int
) -> dict[str, Any]:
    """Return the median seconds of a case, megabytes above embeddings and gradients, and shares of the peaks."""
    use_tf32(case.tf32)
    x, y = embeddings(batch, dimensions, device)
    try:
        with compiling(not case.eager):
            first = (
                seconds_of(lambda: case.loss(x, y), device, 1) if batch <= 65_536 else None
            )  # compiled for this size
            x.grad, y.grad = torch.zeros_like(x), torch.zeros_like(y)  # counted before the start
            start = start_of_memory(device)
            seconds = seconds_of(lambda: case.loss(x, y), device, repeats)
            megabytes = peak_above(start, device)
    except Exception as error:  # the next case may do
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    rate = PRODUCTS * 2 * batch**2 * dimensions / seconds / 1e12
    return {
        "seconds": seconds,
        "seconds at first": first,
        "megabytes": megabytes,
        "TFLOP/s": rate,
        "share of peak": {name: rate / of for name, of in peak.items()},
    }


def shown(found: dict[str, Any]) -> list[str]:
    """Return lines for a reader."""
    peak = ", ".join(f"{name} {rate:,.3g}" for name, rate in found["peaks, TFLOP/s"].items())
    lines = [f"peaks in TFLOP/s: {peak}"]
    for batch, cases in found["sizes"].items():
        for name, figures in cases.items():
            if "error" in figures:
                lines.append(f"B={int(batch):,} {name}: {figures['error']}")
                continue
            memory = "" if figures["megabytes"] is None else f", {figures['megabytes']:,.0f} MB"
            share = ", ".join(f"{value:.1%} of {key}" for key, value in figures["share of peak"].items())
            first = "" if figures["seconds at first"] is None else f" (at first {figures['seconds at first']:.1f} s)"
            lines.append(f"B={int(batch):,} {name}: {figures['seconds']:.4f} s{first}{memory}, {share}")
    return lines
