"""How the cost of the loss grows with batch, dimensions and processes, and what a very large run would take.

    python eval/benchmarks/scaling.py

Times loss and gradient of given embeddings on one CPU thread a process, by the processor's time, so that other work of
the machine matters little; counts the work and the bytes sent, times the
tokenizer and the size of texts on disk, and plans from these pieces a run of 1 billion pairs on 64 GPUs. What cannot be
measured here, such as the peak of a GPU, is an assumption of :class:`Hardware`, and listed on the page. Writes
``eval/results/scaling.json``, ``.md`` and ``.png``; ``--page`` writes the page and the plot anew from the JSON file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn.functional import normalize

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from fmicl_text import core  # noqa: E402  # the repository need not be installed
from fmicl_text.core import devices, tiles  # noqa: E402

RESULTS = ROOT / "eval" / "results"
TURNS = 3
BATCHES, DIMENSIONS = (512, 1024, 2048, 4096, 8192), (128, 384, 768, 1024)
BATCH, DIMENSION = 1024, 384
"""Where the other one is varied."""
SHARED = (1024, 2048)
"""Rows of a batch of one process, or of two together."""
LARGEST = {"f-MICL by row": 4096}
COUNTED = 1024
TOKENS, ROWS_OF_TEXT = 64, 4000


def infonce(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """InfoNCE: a sweep for the sums, and one for the gradient."""
    return core.infonce(x, y, kernel=core.CosineKernel(0.05))


def by_mean(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """f-MICL without a shift: one sweep."""
    return core.fmicl(x, y, divergence=core.JS, kernel=core.GaussianKernel(0.2646), alpha=100.0, negatives="cross")


def by_row(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """f-MICL with a shift for each row, the default: sweeps until the shifts are found."""
    return core.fmicl(x, y, divergence=core.JS, kernel=core.GaussianKernel("adaptive"), shift="row", negatives="cross")


LOSSES: dict[str, Callable[[Tensor, Tensor], dict[str, Tensor]]] = {
    "InfoNCE": infonce,
    "f-MICL without a shift": by_mean,
    "f-MICL by row": by_row,
}


@dataclass(frozen=True)
class Hardware:
    """What the plan assumes and this machine cannot measure: 8 H100 SXM a node, by the makers' data sheets.

    Attributes:
        gpus: All GPUs.
        peak: bfloat16 operations a second of one.
        tf32: The same in TF32.
        share: Share of these that the encoder's and the loss's products reach.
        memory: Bytes of a GPU.
        bandwidth: Bytes a second between a GPU and its memory.
        network: Bytes a second from a GPU to another node, 400 Gbit/s.
        disk: Bytes a second of a node's disk.
        cores: CPU cores for each GPU.
        price: Dollars for a GPU and hour.
    """

    gpus: int = 64
    peak: float = 989e12
    tf32: float = 494e12
    share: float = 0.4
    memory: float = 80e9
    bandwidth: float = 3.35e12
    network: float = 50e9
    disk: float = 2e9
    cores: int = 12
    price: float = 2.5


@dataclass(frozen=True)
class Run:
    """The run that is planned: BERT-base on pairs.

    Attributes:
        pairs: Pairs in all.
        rows: Pairs of a batch on each GPU.
        tokens: Tokens of a text.
        layers: Of the encoder.
        width: Of the encoder, and dimensions of the embeddings.
        parameters: Of the encoder.
        words: Of its vocabulary, whose vectors are looked up and not multiplied.
    """

    pairs: float = 1e9
    rows: int = 1024
    tokens: int = TOKENS
    layers: int = 12
    width: int = 768
    parameters: float = 109.5e6
    words: int = 30_522


def main() -> None:
    """Measure, then write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="write page and plot from the JSON file, measure nothing")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of page, figures and picture")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    file = args.output / "scaling.json"
    if not args.page:
        file.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
    document = json.loads(file.read_text(encoding="utf-8"))
    file.with_suffix(".md").write_text(page(document), encoding="utf-8")
    plot(document, file.with_suffix(".png"))


def measure() -> dict[str, Any]:
    """Return every measured figure."""
    torch.set_num_threads(1)
    batches = {
        name: {size: rows_a_second(loss, size, DIMENSION) for size in BATCHES if size <= LARGEST.get(name, size)}
        for name, loss in LOSSES.items()
    }
    return {
        "command": "python eval/benchmarks/scaling.py",
        "torch": torch.__version__,
        "batch": batches,
        "dimension": {
            name: {size: rows_a_second(loss, BATCH, size) for size in DIMENSIONS} for name, loss in LOSSES.items()
        },
        "processes": {count: _shared(count) for count in (1, 2)},
        "work": {name: work_of(loss) for name, loss in LOSSES.items()},
        "text": text_figures() | _streamed(),
    }


def embeddings(batch: int, dimensions: int) -> tuple[Tensor, Tensor]:
    """Return unit vectors of anchors and, near them, positives, ``(B, D)`` each."""
    generator = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(batch, dimensions, generator=generator) for _ in range(2))
    x = normalize(x, dim=1)
    return x.requires_grad_(), normalize(x.detach() + noise / dimensions**0.5, dim=1).requires_grad_()


def step(loss: Callable[[Tensor, Tensor], dict[str, Tensor]], x: Tensor, y: Tensor) -> None:
    """Compute a loss and its gradient."""
    torch.stack(list(loss(x, y).values())).sum().backward()


def rows_a_second(loss: Callable[[Tensor, Tensor], dict[str, Tensor]], batch: int, dimensions: int) -> float:
    """Return the median rows that a loss and its gradient take in a second of the processor's time."""
    x, y = embeddings(batch, dimensions)
    times = []
    for _ in range(TURNS):
        start = time.process_time()
        step(loss, x, y)
        times.append(time.process_time() - start)
    return batch / median(times)


def work_of(loss: Callable[[Tensor, Tensor], dict[str, Tensor]]) -> dict[str, float]:
    """Count what a loss and its gradient do for each pair, tile by tile.

    Returns:
        ``products``: operations of products of matrices, over 2 D for each pair; ``sweeps`` over all pairs;
        ``written``: numbers of four bytes that are written for each pair.
    """
    x, y = embeddings(COUNTED, DIMENSION)
    pairs, counts = COUNTED**2, {"products": 0.0, "sweeps": 0.0}
    product, add_product = tiles.product, tiles.add_product

    def counted(a: Tensor, b: Tensor) -> Tensor:
        counts["sweeps"] += len(a) * len(b) / pairs
        counts["products"] += len(a) * len(b) / pairs
        return product(a, b)

    def counted_add(into: Tensor, a: Tensor, b: Tensor) -> None:
        counts["products"] += a.numel() / pairs
        add_product(into, a, b)

    with (
        core.tile_memory(2**21),
        mock.patch.object(tiles, "product", counted),
        mock.patch.object(tiles, "add_product", counted_add),
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler,
    ):
        step(loss, x, y)
    changes = (each.nbytes() for each in profiler.profiler.kineto_results.events() if each.name() == "[memory]")
    return counts | {"written": sum(change for change in changes if change > 0) / 4 / pairs}


def _shared(processes: int) -> dict[str, dict[int, dict[str, float]]]:
    """Return rows a second, and bytes that a process sends, of batches that processes have together."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_process, (processes, folder), nprocs=processes)
        found = json.loads((Path(folder) / "figures.json").read_text())
    return {name: {int(size): figures for size, figures in sizes.items()} for name, sizes in found.items()}


def _process(rank: int, processes: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=processes)
    sent = 0
    to_neighbour = devices._to_neighbour

    def counted(tensors: list[Tensor]) -> list[Tensor]:
        nonlocal sent
        sent += sum(tensor.nbytes for tensor in tensors)
        return to_neighbour(tensors)

    found: dict[str, dict[int, dict[str, float]]] = {name: {} for name in LOSSES}
    with core.across_devices(), mock.patch.object(devices, "_to_neighbour", counted):
        for name, loss in LOSSES.items():
            for batch in SHARED:
                x, y = (part.chunk(processes)[rank].detach().requires_grad_() for part in embeddings(batch, DIMENSION))
                step(loss, x, y)
                sent, times = 0, []
                for _ in range(TURNS):
                    start = time.process_time()
                    step(loss, x, y)
                    times.append(time.process_time() - start)
                found[name][batch] = {"rows/s": batch / median(times), "bytes sent": sent / TURNS}
    if rank == 0:
        (Path(folder) / "figures.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def text_figures() -> dict[str, float]:
    """Return the rows of two texts that one core tokenises in a second, and the bytes of one in a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from transformers import BertTokenizerFast

    from eval.benchmarks.gpu.words import texts, vocabulary

    words = 30_000
    tokenizer = BertTokenizerFast(vocab=vocabulary(words))
    anchors, positives = (texts(ROWS_OF_TEXT, TOKENS, words, seed) for seed in range(2))
    start = time.process_time()
    for begin in range(0, ROWS_OF_TEXT, 256):
        for column in (anchors, positives):
            tokenizer(column[begin : begin + 256], padding=True, return_tensors="pt")
    seconds = time.process_time() - start
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pairs.parquet"
        pq.write_table(pa.table({"anchor": anchors, "positive": positives}), file, compression="zstd")
        size = file.stat().st_size / ROWS_OF_TEXT
    return {"rows/s of a core": ROWS_OF_TEXT / seconds, "bytes of a row": size}


def _streamed() -> dict[str, float]:
    """Return the rows that one process passes in a second as a resumed stream, from the measurement of streams."""
    found = json.loads((RESULTS / "streaming_memory.json").read_text())
    return {
        "rows/s passed": found["rows"] / found["cases"]["streamed"]["skipping"],
        "bytes of a row passed": found["megabytes of Parquet"] * 2**20 / found["rows"],
    }


def ring_bytes(sweeps: int, processes: int, vectors: int, identities: int) -> int:
    """Return what a process sends in a step: columns in each sweep, and in the last their gradient, there and home.

    Args:
        sweeps: Over all pairs, the last of them with the gradient.
        processes: In the ring.
        vectors: Bytes of a process's columns.
        identities: Bytes of what tells their texts apart.
    """
    return sweeps * (processes - 1) * (vectors + identities) + processes * vectors


def planned(document: dict[str, Any], hardware: Hardware, run: Run) -> dict[str, Any]:
    """Return the figures of the planned run, each loss's by its name.

    Args:
        document: What was measured.
        hardware: What is assumed.
        run: What is run.
    """
    batch, processes = run.rows * hardware.gpus, hardware.gpus
    tokens = 2 * run.rows * run.tokens  # of a GPU and step
    in_layers = run.parameters - (run.words + 512 + 2) * run.width
    attention = 12 * run.layers * run.width * run.tokens  # operations a token: two products, forward and twice backward
    encoder = tokens * (6 * in_layers + attention) / (hardware.peak * hardware.share)
    vectors = run.rows * run.width * 4  # bytes of one column of embeddings on a GPU
    identities = run.rows * 2 * 8
    weights = run.parameters * 4
    all_reduce = 2 * (processes - 1) / processes * weights
    losses = {}
    for name, work in document["work"].items():
        sweeps = round(work["sweeps"])
        pairs = run.rows * batch  # of a GPU
        products = work["products"] * 2 * run.width * pairs / (hardware.tf32 * hardware.share)
        elementwise = 2 * work["written"] * 4 * pairs / hardware.bandwidth  # each is written and read once
        ring = ring_bytes(sweeps, processes, vectors, identities)
        gather = (processes - 1) * (2 * vectors + identities)
        loss_seconds = products + elementwise
        sent = {"ring": ring / hardware.network, "gather": gather / hardware.network}
        step_seconds = encoder + loss_seconds + (ring + all_reduce) / hardware.network
        losses[name] = {
            "sweeps": sweeps,
            "products, s": products,
            "elementwise, s": elementwise,
            "ring, bytes": ring,
            "gather, bytes": gather,
            "ring, s": sent["ring"],
            "gather, s": sent["gather"],
            "step, s": step_seconds,
            "hours": step_seconds * run.pairs / batch / 3600,
            "dollars": step_seconds * run.pairs / batch / 3600 * processes * hardware.price,
        }
    activations = tokens * run.layers * (34 * run.width + 5 * run.width / 64 * run.tokens)
    text = document["text"]
    fastest = min(each["step, s"] for each in losses.values())
    needed = run.rows / fastest  # rows a second of a GPU
    return {
        "batch": batch,
        "steps": run.pairs / batch,
        "encoder, s": encoder,
        "all-reduce, bytes": all_reduce,
        "all-reduce, s": all_reduce / hardware.network,
        "losses": losses,
        "memory": {
            "weights, gradients and Adam": 4 * weights,
            "activations of the encoder": activations,
            "embeddings and gradients": 4 * vectors,
            "a visitor of the ring, with its gradient": 2 * (2 * vectors + identities),
            "a tile of the loss": tiles._MEMORY["cuda"],
        },
        "memory of a gather": 2 * processes * vectors,
        "disk": text["bytes of a row"] * run.pairs,
        "copy to a node, s": text["bytes of a row"] * run.pairs / hardware.disk,
        "rows/s of a GPU": needed,
        "cores for its tokenizer": needed / text["rows/s of a core"],
        "bytes/s of a GPU": needed * text["bytes of a row"],
        "rows/s that a process passes": needed * processes,
    }


def page(document: dict[str, Any], hardware: Hardware | None = None, run: Run | None = None) -> str:
    """Return the page in Markdown."""
    hardware, run = hardware or Hardware(), run or Run()
    plan = planned(document, hardware, run)
    lines = [
        "# How the cost of the loss grows, and a run of 1 billion pairs",
        "",
        f"`{document['command']}`",
        "",
        "Loss and gradient of given embeddings in float32, one CPU thread a process, rows in a second of the "
        f"processor's time, torch {document['torch']}, median of {TURNS}. The cost of a row grows with the "
        "batch, since each row meets all others, and with the dimensions where products rule.",
        "",
        "![rows a second](scaling.png)",
        "",
        f"| rows a second, D = {DIMENSION} | " + " | ".join(f"B = {size:,}" for size in BATCHES) + " |",
        "|---|" + "---|" * len(BATCHES),
    ]
    for name, rates in document["batch"].items():
        lines.append(f"| {name} | " + " | ".join(_number(rates.get(str(size))) for size in BATCHES) + " |")
    lines += [
        "",
        f"| rows a second, B = {BATCH:,} | " + " | ".join(f"D = {size:,}" for size in DIMENSIONS) + " |",
        "|---|" + "---|" * len(DIMENSIONS),
    ]
    for name, rates in document["dimension"].items():
        lines.append(f"| {name} | " + " | ".join(_number(rates.get(str(size))) for size in DIMENSIONS) + " |")
    lines += [
        "",
        f"Two processes with half of the batch each, by gloo on one machine (D = {DIMENSION}): rows a second over "
        "those of one process, by the first one's time at the processor (so without waiting), and megabytes that each "
        "sends.",
        "",
        "| | " + " | ".join(f"B = {size:,}" for size in SHARED) + " |",
        "|---|" + "---|" * len(SHARED),
    ]
    one, two = (document["processes"][str(count)] for count in (1, 2))
    for name, sizes in two.items():
        cells = [
            f"{sizes[str(size)]['rows/s'] / one[name][str(size)]['rows/s']:.2f}, "
            f"{sizes[str(size)]['bytes sent'] / 1e6:.1f} MB"
            for size in SHARED
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "What a loss does for each pair of rows, counted: sweeps over all pairs, products of matrices (of 2 D "
        "operations a pair each), and numbers of four bytes that are written.",
        "",
        "| | sweeps | products | numbers written |",
        "|---|---|---|---|",
    ]
    for name, work in document["work"].items():
        lines.append(f"| {name} | {work['sweeps']:.1f} | {work['products']:.1f} | {work['written']:.0f} |")
    lines += _plan_lines(document, plan, hardware, run)
    return "\n".join([*lines, ""])


def _plan_lines(document: dict[str, Any], plan: dict[str, Any], hardware: Hardware, run: Run) -> list[str]:
    text, memory = document["text"], plan["memory"]
    lines = [
        "",
        f"## A run of {run.pairs / 1e9:g} billion pairs on {hardware.gpus} GPUs",
        "",
        "A plan, not a measurement: the counts above, times what data sheets promise. Nobody has run it.",
        "",
        f"**Run.** BERT-base ({run.parameters / 1e6:.0f} million parameters, {run.width} dimensions) on pairs of "
        f"{run.tokens} tokens a text, one epoch; {run.rows:,} pairs on each GPU, one batch of {plan['batch']:,} over "
        f"all: {plan['steps']:,.0f} steps.",
        "",
        "**Assumed**, as this machine has no GPU:",
        "",
        f"- {hardware.gpus} H100 SXM in nodes of 8: {hardware.peak / 1e12:.0f} TFLOP/s in bfloat16 and "
        f"{hardware.tf32 / 1e12:.0f} in TF32 (dense, data sheet), of which products reach {hardware.share:.0%}; "
        f"{hardware.memory / 1e9:.0f} GB at {hardware.bandwidth / 1e12:.2f} TB/s.",
        "- The encoder in bfloat16: 6 operations for each weight of its layers and token (2 forward, 4 backward), and "
        "its attention; elementwise work, dropout and waiting are in the share. The loss's products in TF32; each "
        "number that it writes is read once, from the GPU's memory, as nothing is fused.",
        f"- {hardware.network / 1e9:.0f} GB/s from each GPU to another node (400 Gbit/s), the slowest link of a ring; "
        "nothing is sent while something is computed. (The all-reduce of gradients would mostly be.)",
        f"- {hardware.cores} CPU cores a GPU, as fast as one here; disks of {hardware.disk / 1e9:.0f} GB/s a node; "
        f"{hardware.price:g} dollars a GPU and hour.",
        "- No evaluation, no checkpoint, no failure.",
        "",
        "What was [measured on one H100](gpu_check.md) is less: time and cost grow as the share of products falls.",
        "",
        "**Time and cost.** A step computes the encoder in "
        f"{plan['encoder, s'] * 1e3:.0f} ms and sends its gradient, {plan['all-reduce, bytes'] / 1e6:.0f} MB from "
        f"each GPU, in {plan['all-reduce, s'] * 1e3:.0f} ms. Milliseconds of the loss:",
        "",
        "| | products | elementwise | ring | step | hours | dollars |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, each in plan["losses"].items():
        times = " | ".join(f"{each[key] * 1e3:.1f}" for key in ("products, s", "elementwise, s", "ring, s", "step, s"))
        lines.append(f"| {name} | {times} | {each['hours']:.1f} | {each['dollars']:,.0f} |")
    lines += [
        "",
        "**Ring against gather.** In a ring a process holds its own columns and one visitor's, and every sweep goes "
        "around once; a gather holds all columns and their gradient, "
        f"{plan['memory of a gather'] / 1e6:,.0f} MB, and sends them once, however many sweeps there are. Bytes that "
        "each GPU sends in a step:",
        "",
        "| | sweeps | ring | gather | ring over gather |",
        "|---|---|---|---|---|",
    ]
    for name, each in plan["losses"].items():
        ring, gather = each["ring, bytes"], each["gather, bytes"]
        lines.append(
            f"| {name} | {each['sweeps']} | {ring / 1e6:,.0f} MB | {gather / 1e6:,.0f} MB | {ring / gather:.1f} |"
        )
    total = sum(memory.values())
    lines += [
        "",
        "The package has the ring alone. For one sweep it sends what a gather does; for a shift for each row a gather "
        "would send less, and its memory would be no hindrance at this size.",
        "",
        f"**Memory of a GPU**, of {hardware.memory / 1e9:.0f} GB:",
        "",
        "| | GB |",
        "|---|---|",
        *(f"| {name} | {size / 1e9:.2f} |" for name, size in memory.items()),
        f"| in all | {total / 1e9:.1f} |",
        "",
        "Activations are those of bfloat16 layers without recomputation (34 bytes for each token and dimension, and 5 "
        "for each head and pair of tokens; Korthikanti et al., arXiv 2205.05198, section 4.1). With "
        f"`mini_batch_size: {run.rows // 4}` they are a quarter, and the encoder's forward pass is made twice.",
        "",
        f"**Stream against disk.** Measured here: a row of two texts of {run.tokens} tokens takes "
        f"{text['bytes of a row']:.0f} bytes of Parquet (of random words), and one core tokenises "
        f"{text['rows/s of a core']:,.0f} rows a second. All pairs are {plan['disk'] / 1e12:.2f} TB: copied to a disk "
        f"in each node in {plan['copy to a node, s'] / 60:.0f} minutes at the disk's speed. At the fastest of the "
        f"losses a GPU takes {plan['rows/s of a GPU']:,.0f} rows a second, {plan['bytes/s of a GPU'] / 1e6:.1f} MB/s, "
        f"for which {plan['cores for its tokenizer']:.1f} cores tokenise; there are {hardware.cores}. As a stream, "
        "each process reads all rows and tokenises its own, so it passes "
        f"{plan['rows/s that a process passes']:,.0f} rows a second: measured were {text['rows/s passed']:,.0f} by one "
        f"core, of rows of {text['bytes of a row passed']:.0f} bytes "
        "([streaming](streaming_memory.md)). Rows on the disk of each node, of which a process reads its own alone, "
        "are what this run needs.",
    ]
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def plot(document: dict[str, Any], file: Path) -> None:
    """Draw rows a second against batch, dimensions and processes."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained", sharey=True)
    for axis, key, label in (
        (axes[0], "batch", f"rows of the batch (D = {DIMENSION})"),
        (axes[1], "dimension", f"dimensions (B = {BATCH:,})"),
    ):
        for name, rates in document[key].items():
            axis.plot([int(size) for size in rates], list(rates.values()), marker="o", markersize=3, label=name)
        axis.set(xscale="log", yscale="log", xlabel=label)
    colours = dict(zip(LOSSES, pyplot.rcParams["axes.prop_cycle"].by_key()["color"], strict=False))
    for count, style in (("1", "-"), ("2", "--")):
        for name, sizes in document["processes"][count].items():
            axes[2].plot(
                [int(size) for size in sizes],
                [figures["rows/s"] for figures in sizes.values()],
                style,
                marker="o",
                markersize=3,
                color=colours[name],
                label=f"{count} process{'es' if count == '2' else ''}" if name == "InfoNCE" else None,
            )
    axes[2].set(xscale="log", yscale="log", xlabel=f"rows of the batch, 1 or 2 processes (D = {DIMENSION})")
    ticks = [digit * 10**power for power in range(1, 6) for digit in (1, 3)]
    for axis, sizes in zip(axes, (BATCHES, DIMENSIONS, SHARED), strict=True):
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=30)
        axis.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("rows a second")
    axes[1].legend(loc="lower left")
    axes[2].legend(loc="lower left")
    axes[0].autoscale(axis="y")
    figure.savefig(file, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
