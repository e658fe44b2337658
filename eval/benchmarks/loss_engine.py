"""Time and memory of loss and gradient on given embeddings: the tiled engine, the dense form, sentence-transformers.

    python -m eval.benchmarks.loss_engine

Every case runs in a process of its own, for its memory; the cases of a size take turns, so that what else the machine
does falls on all of them. Memory is counted twice, each time above the embeddings and their gradients: the peak of
what tensors take, by PyTorch's profiler, and the growth of the process's peak resident size. Results go to
``eval/results/loss_engine.json``, ``.md`` and ``.png``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn.functional import normalize

from eval.benchmarks.resident import forget_peak, peak, resident
from fmicl_text.core import KL, CosineKernel, GaussianKernel, fmicl, infonce
from fmicl_text.core.batch import as_batch
from fmicl_text.losses import FMICL, ContrastiveLoss
from fmicl_text.losses.objective import Objective

RESULTS = Path(__file__).parent.parent / "results"
DIMENSIONS = 384
TURNS = 3
SIGMA, ALPHA, TEMPERATURE = 0.25, 100.0, 0.05
_GAUSSIAN, _COSINE = GaussianKernel(SIGMA), CosineKernel(TEMPERATURE)


def fmicl_tiled(x: Tensor, y: Tensor) -> None:
    """f-MICL with the paper's negatives, by the package."""
    terms = fmicl(x, y, divergence=KL, kernel=_GAUSSIAN, alpha=ALPHA, negatives="within")
    (terms["positive"] + terms["negative"]).backward()


def fmicl_dense(x: Tensor, y: Tensor) -> None:
    """The same with the matrix of all pairs."""
    positive = 1 - (1 - (x * y).sum(dim=1)) / SIGMA**2
    ratios = torch.exp((x @ x.T - 1) / SIGMA**2)  # (B, B)
    others = ~torch.eye(len(x), dtype=torch.bool)
    (ALPHA * ratios[others].mean() - positive.mean()).backward()


def fmicl_class(x: Tensor, y: Tensor) -> None:
    """The same by the loss class, which checks and normalises what an encoder gives."""
    _by_class(FMICL(divergence="kl", sigma=SIGMA, alpha=ALPHA, negatives="within"), x, y)


def fmicl_default_class(x: Tensor, y: Tensor) -> None:
    """The loss class with its defaults: a shift for each row."""
    _by_class(FMICL(), x, y)


def _by_class(objective: Objective, x: Tensor, y: Tensor) -> None:
    sum(ContrastiveLoss(objective)([x, y]).values()).backward()


def infonce_tiled(x: Tensor, y: Tensor) -> None:
    """InfoNCE by the package."""
    terms = infonce(x, y, kernel=_COSINE)
    (terms["positive"] + terms["negative"]).backward()


def infonce_cached(x: Tensor, y: Tensor, mini_batch_size: int = 32) -> None:
    """InfoNCE by sentence-transformers, as its gradient cache calls it, in mini-batches of its default size."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

    model = SentenceTransformer(modules=[torch.nn.Identity()], device="cpu")
    loss = CachedMultipleNegativesRankingLoss(model, scale=1 / TEMPERATURE, mini_batch_size=mini_batch_size)
    loss.calculate_loss([[x], [y]], with_backward=True)


def infonce_cached_wide(x: Tensor, y: Tensor) -> None:
    """The same in mini-batches of 512."""
    infonce_cached(x, y, mini_batch_size=512)


CASES: dict[str, Callable[[Tensor, Tensor], None]] = {
    "fmicl": fmicl_tiled,
    "fmicl-class": fmicl_class,
    "fmicl-default-class": fmicl_default_class,
    "fmicl-dense": fmicl_dense,
    "infonce": infonce_tiled,
    "infonce-st-32": infonce_cached,
    "infonce-st-512": infonce_cached_wide,
}
LARGE, SMALL = 16_384, 64
SIZES = tuple(1024 * 2**k for k in range(5))


def main() -> None:
    """Run all cases and write the results, or one of them and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of page, figures and picture")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--tensors", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps((measure_tensors if args.tensors else measure)(args.case, args.batch)))
        return
    turns = [{case: _in_a_process(case, LARGE, memory=False)["seconds"] for case in CASES} for _ in range(TURNS)]
    document = {
        "command": "python -m eval.benchmarks.loss_engine",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "dimensions": DIMENSIONS,
        "large": {
            "batch": LARGE,
            "turns": turns,
            "tensors": {case: _run(case, LARGE, _GIVEN_BACK, "--tensors")["megabytes"] for case in CASES},
        },
        "small": {"batch": SMALL, "seconds": _small()},
        "growth": {case: {size: _in_a_process(case, size) for size in SIZES} for case in CASES},
    }
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "loss_engine.json").write_text(json.dumps(document, indent=2) + "\n")
    (args.output / "loss_engine.md").write_text(_markdown(document))
    _plot(document, args.output / "loss_engine.png")
    print(_markdown(document))


def embeddings(batch: int) -> tuple[Tensor, Tensor]:
    """Return unit vectors of anchors and, near them, positives, ``(B, D)`` each."""
    torch.manual_seed(0)
    x = normalize(torch.randn(batch, DIMENSIONS), dim=1)
    y = normalize(x + 0.5 * torch.randn(batch, DIMENSIONS) / DIMENSIONS**0.5, dim=1)
    return x.requires_grad_(), y.requires_grad_()


def measure(case: str, batch: int) -> dict[str, float]:
    """Run a case on a batch, after a small one to warm up: its seconds, and how far memory grew beyond a tile."""
    CASES[case](*embeddings(min(batch, 1024)))
    x, y = embeddings(batch)
    before = resident()
    forget_peak()
    start = time.perf_counter()
    CASES[case](x, y)
    seconds = time.perf_counter() - start
    gradients = sum(vectors.grad.nbytes for vectors in (x, y)) / 2**20
    return {"seconds": seconds, "megabytes": peak() - before - gradients}


def measure_tensors(case: str, batch: int) -> dict[str, float]:
    """Run a case on a batch, and add up what its tensors took and gave back: the peak in megabytes."""
    x, y = embeddings(batch)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        CASES[case](x, y)
    taken = [event.nbytes() for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    return {"megabytes": (max(itertools.accumulate(taken)) - x.grad.nbytes - y.grad.nbytes) / 2**20}


_KEPT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "1000000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
"""glibc keeps what is freed, as this package has it: the fastest setting for every case."""
_GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "4194304", "MALLOC_TRIM_THRESHOLD_": "1000000000000"}
"""Buffers of 4 MiB and more leave the process when they are freed, so that the peak is what was alive."""


def _in_a_process(case: str, batch: int, *, memory: bool = True) -> dict[str, float]:
    """Return a case's seconds and megabytes, each from a process with the allocator set for it."""
    figures = {"seconds": _run(case, batch, _KEPT)["seconds"]}
    if memory:
        figures["megabytes"] = _run(case, batch, _GIVEN_BACK)["megabytes"]
    print(f"{case} of {batch}: {figures}", file=sys.stderr, flush=True)
    return figures


def _run(case: str, batch: int, settings: dict[str, str], *options: str) -> dict[str, float]:
    command = [sys.executable, "-m", "eval.benchmarks.loss_engine", "--case", case, "--batch", str(batch), *options]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    finished = subprocess.run(command, env=inherited | settings, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(finished.stdout.splitlines()[-1])


def _small() -> dict[str, list[float]]:
    """Seconds of a small batch, the two forms of f-MICL and the package's checks of its input, by turns."""
    x, y = embeddings(SMALL)
    cases: dict[str, Callable] = {"fmicl": fmicl_tiled, "checks": as_batch, "fmicl-dense": fmicl_dense}
    seconds: dict[str, list[float]] = {case: [] for case in cases}
    for _ in range(2000):
        for case, times in seconds.items():
            start = time.perf_counter()
            cases[case](x, y)
            times.append(time.perf_counter() - start)
    return {case: sorted(times)[:: len(times) // 20] for case, times in seconds.items()}  # 20 quantiles


def _shown(values: list[float]) -> str:
    """Return the median, and the extremes."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _markdown(document: dict) -> str:
    turns = document["large"]["turns"]
    lines = [
        "# Loss and gradient on given embeddings",
        "",
        f"`{document['command']}`",
        "",
        f"{LARGE:,} pairs of {DIMENSIONS} dimensions in float32 on a CPU, {document['threads']} threads, torch "
        f"{document['torch']}; median (least to most) of {len(turns)} turns. Memory is above the embeddings and their "
        "gradients: the peak of what tensors take, and in the table of sizes the growth of the process's resident size "
        "above what a batch of 1,024 needed before, such as a tile. `infonce-st-N` is "
        "sentence-transformers' `CachedMultipleNegativesRankingLoss.calculate_loss` in mini-batches of N; "
        "`fmicl-dense` holds the matrix of all pairs. `fmicl-class` is the loss class, which checks and normalises "
        "too; `fmicl-default-class` is that with its defaults, which shift each row.",
        "",
        "| case | seconds | megabytes of tensors |",
        "|---|---|---|",
    ]
    for case in CASES:
        memory = document["large"]["tensors"][case]
        lines.append(f"| {case} | {_shown([turn[case] for turn in turns])} | {memory:,.0f} |")
    lines += ["", "| ratio of times | |", "|---|---|"]
    for case, other in (
        ("fmicl", "infonce-st-32"),
        ("fmicl", "infonce-st-512"),
        ("fmicl-class", "infonce-st-32"),
        ("fmicl-class", "infonce-st-512"),
        ("fmicl-default-class", "infonce-st-32"),
        ("fmicl-default-class", "infonce-st-512"),
        ("fmicl", "fmicl-dense"),
        ("infonce", "infonce-st-32"),
        ("infonce", "infonce-st-512"),
    ):
        lines.append(f"| {case} / {other} | {_shown([turn[case] / turn[other] for turn in turns])} |")
    small = {case: median(times) for case, times in document["small"]["seconds"].items()}
    lines += [
        "",
        f"{SMALL} pairs: fmicl {small['fmicl'] * 1e6:.0f} microseconds, of which its checks of the embeddings take "
        f"{small['checks'] * 1e6:.0f}; fmicl-dense, which checks nothing, {small['fmicl-dense'] * 1e6:.0f}.",
        "",
        "| pairs | " + " | ".join(CASES) + " |",
        "|---|" + "---|" * len(CASES),
    ]
    for size in SIZES:
        cells = [document["growth"][case][size] for case in CASES]
        shown = (f"{cell['seconds']:.2f} s, {cell['megabytes']:,.0f} MB" for cell in cells)
        lines.append(f"| {size:,} | " + " | ".join(shown) + " |")
    return "\n".join([*lines, ""])


def _plot(document: dict, file: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, what, title in zip(
        axes, ("seconds", "megabytes"), ("time", "memory beyond the embeddings, at least 1 MB"), strict=True
    ):
        least = {"seconds": 0, "megabytes": 1}[what]  # what a process grows by varies by about as much
        for case, growth in document["growth"].items():
            drawn = [max(figures[what], least) for figures in growth.values()]
            axis.plot([int(size) for size in growth], drawn, marker="o", markersize=3, label=case)
        axis.set(xscale="log", yscale="log", xlabel="pairs in the batch", ylabel=what, title=title)
        axis.set_xticks(SIZES, [f"{size // 1024}k" for size in SIZES], minor=False)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main()
