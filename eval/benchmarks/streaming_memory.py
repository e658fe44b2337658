"""Memory of training data, streamed and loaded: two million rows through the trainer's own loader.

    python -m eval.benchmarks.streaming_memory

Rows are generated into Parquet shards, and into one file for the loaded case, in a temporary folder. Each case runs in
a process of its own: it builds the trainer of a recipe and takes every batch from its loader, read, shuffled and
tokenised as in training; the encoder is not run. Resident memory is noted along the way. The streamed case then counts
off the same rows without tokenising them, as a training that resumes does. Results go to
``eval/results/streaming_memory.json``, ``.md`` and ``.png``.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from eval.benchmarks.resident import resident

RESULTS = Path(__file__).parent.parent / "results"
ROWS, SHARDS, BATCH = 2_000_000, 100, 500
NOTED = 25_000  # rows between two looks at the memory
SETTLED = 400_000  # rows after which memory should stay: ten shards are read at a time, the first ten are done by then
BATCHES = ROWS // BATCH - 1  # the loader is one ahead, and after the last one it would begin again
WORDS = ("the", "a", "man", "dog", "city", "river", "plays", "sees", "old", "green", "house", "in", "with", "water")
CASES = {"streamed": "shards/*.parquet", "loaded": "whole.parquet"}


def main() -> None:
    """Run both cases and write the results, or one of them and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(args.case, args.folder)))
        return
    from importlib.metadata import version

    with tempfile.TemporaryDirectory() as folder:
        size = generate(Path(folder))
        cases = {case: _in_a_process(case, folder) for case in CASES}
    document = {
        "command": "python -m eval.benchmarks.streaming_memory",
        "versions": {name: version(name) for name in ("torch", "datasets", "pyarrow", "sentence-transformers")},
        "rows": ROWS,
        "shards": SHARDS,
        "batch": BATCH,
        "megabytes of Parquet": size,
        "cases": cases,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "streaming_memory.json").write_text(json.dumps(document) + "\n")
    (RESULTS / "streaming_memory.md").write_text(_markdown(document))
    _plot(document)
    print(_markdown(document))


def generate(folder: Path) -> float:
    """Write the rows, as shards and as one file; return the megabytes of the shards."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    chance = random.Random(0)
    schema = pa.schema({"text": pa.string()})
    (folder / "shards").mkdir()
    with pq.ParquetWriter(folder / "whole.parquet", schema) as whole:
        for shard in range(SHARDS):
            first = shard * ROWS // SHARDS
            texts = [
                f"{number} {' '.join(chance.choices(WORDS, k=7))}" for number in range(first, first + ROWS // SHARDS)
            ]
            table = pa.table({"text": texts}, schema=schema)
            pq.write_table(table, folder / "shards" / f"{shard:03}.parquet")
            whole.write_table(table)
    return sum(file.stat().st_size for file in (folder / "shards").iterdir()) / 2**20


def measure(case: str, folder: Path) -> dict[str, Any]:
    """Take every row of a case through the trainer's loader.

    Returns:
        Resident megabytes by rows, the seconds until the first batch and of all of them, and, streamed, of counting
        them off.
    """
    from fmicl_text.recipe.schema import Recipe
    from fmicl_text.runs.folder import RunFolder
    from fmicl_text.training.build import build_trainer
    from fmicl_text.training.inputs import load_inputs
    from fmicl_text.training.memory import keep_memory

    keep_memory()
    recipe = Recipe.model_validate(
        {
            "name": case,
            "model": {"base": "sample:minilm", "max_seq_length": 32},
            "data": {
                "train": str(folder / CASES[case]),
                "columns": {"anchor": "text"},
                "views": "dropout",
                "streaming": case == "streamed",
            },
            "loss": {"objective": "fmicl"},
            "train": {"per_device_train_batch_size": BATCH, "max_steps": ROWS // BATCH},
            "evaluate": {"during": None},
        }
    )
    before = resident()
    start = time.perf_counter()
    inputs = load_inputs(recipe)
    trainer = build_trainer(recipe, inputs, 42, RunFolder(folder / case))
    loader = trainer.get_train_dataloader()
    memory, rows = [], 0
    for batch in islice(loader, BATCHES):
        if not rows:
            ready = time.perf_counter() - start
        if rows % NOTED == 0:
            memory.append([rows, resident()])
        rows += len(batch["anchor_input_ids"])
        if rows == BATCHES * BATCH:
            memory.append([rows, resident()])
        seconds = time.perf_counter() - start
    figures = {"before": before, "ready": ready, "seconds": seconds, "memory": memory}
    if case == "streamed":
        start = time.perf_counter()
        loader.dataset.skipped = BATCHES
        for batch in islice(loader, BATCHES):
            assert not batch
            figures["skipping"] = time.perf_counter() - start
    return figures


def _in_a_process(case: str, folder: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "eval.benchmarks.streaming_memory", "--case", case, "--folder", folder]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(finished.stdout.splitlines()[-1])


def _growth(figures: dict[str, Any]) -> float:
    """Return the megabytes by which memory grows over a million rows, once it has settled; a straight line's slope."""
    import numpy as np

    rows, memory = np.array([point for point in figures["memory"] if point[0] >= SETTLED]).T
    return float(np.polyfit(rows / 1e6, memory, 1)[0])


def _markdown(document: dict[str, Any]) -> str:
    cases, versions = document["cases"], document["versions"]
    at = sorted({ROWS // 200, ROWS // 10, ROWS // 2, ROWS} | {SETTLED})
    lines = [
        "# Memory of streamed and of loaded training data",
        "",
        f"`{document['command']}`",
        "",
        f"{ROWS:,} rows of 8 words in {SHARDS} Parquet shards ({document['megabytes of Parquet']:.0f} MB), batches of "
        f"{BATCH}, a shuffling buffer of 10,000 rows, one process without workers on a CPU; datasets "
        f"{versions['datasets']}, pyarrow {versions['pyarrow']}. Megabytes are resident memory of the whole process "
        f"beyond what it had when its libraries were imported ({cases['streamed']['before']:.0f} MB), the encoder "
        "included (all-MiniLM-L6-v2, which is loaded and not run). Ten shards are read at a time; memory "
        "steps up once, where the first of them is followed by the next.",
        "",
        "| case | " + " | ".join(f"{rows:,} rows" for rows in at) + f" | growth a million rows, from {SETTLED:,} on |",
        "|---|" + "---|" * (len(at) + 1),
    ]
    for case, figures in cases.items():
        memory = dict(figures["memory"])
        nearest = [memory[min(memory, key=lambda rows: abs(rows - wanted))] - figures["before"] for wanted in at]
        lines.append(
            f"| {case} | " + " | ".join(f"{value:,.0f}" for value in nearest) + f" | {_growth(figures):+.1f} |"
        )
    lines += ["", "| case | seconds to the first batch | rows a second, tokenised | counted off |", "|---|---|---|---|"]
    for case, figures in cases.items():
        speed = ROWS / (figures["seconds"] - figures["ready"])
        skipping = f"{ROWS / figures['skipping']:,.0f}" if "skipping" in figures else ""
        lines.append(f"| {case} | {figures['ready']:.1f} | {speed:,.0f} | {skipping} |")
    lines += ["", "Counting off is what a training that resumes does with the rows it has seen.", ""]
    return "\n".join(lines)


def _plot(document: dict[str, Any]) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for case, figures in document["cases"].items():
        rows, memory = zip(*figures["memory"], strict=True)
        axis.plot([count / 1e6 for count in rows], [value - figures["before"] for value in memory], label=case)
    axis.set(xlabel="million rows", ylabel="MB beyond the libraries", title="Resident memory over two million rows")
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(RESULTS / "streaming_memory.png", dpi=150)


if __name__ == "__main__":
    main()
