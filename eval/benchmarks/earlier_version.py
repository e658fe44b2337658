"""The training step and the quickstart of an earlier version, beside those of this one.

    python -m eval.benchmarks.earlier_version COMMIT [--texts TEXTS.parquet --pairs PAIRS.parquet --model MODEL]

``COMMIT`` is taken from this checkout's history into a folder of its own, with the benchmarks of today, which must find
there what they call. Both versions use the same libraries and train the same objective (InfoNCE at temperature 0.05) on
the same rows, in turns and in processes of their own. The quickstart is run once by each, from start to end.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from datasets import Dataset

from eval.benchmarks.training_speed import JOBS, Setting, check_sizes, device, in_a_process, origin, shown, tuples
from fmicl_text.errors import InputError
from fmicl_text.files import read_json, write_json, write_text
from fmicl_text.versions import versions

BENCHMARKS = Path(__file__).parent
ROOT = BENCHMARKS.parent.parent
RESULTS = ROOT / "eval" / "results" / "earlier_version"
VERSIONS = ("earlier", "now")
TRAINED = ("dropout pairs", "pairs", "triplets")
LARGEST = ("backward", "encoder")
"""Parts of a step that are drawn by themselves."""
IN_FLOAT32 = ["--set", "train.bf16=false"]
"""An earlier version may train in bfloat16 where the processor only emulates it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both versions and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="the earlier version, as git names it")
    parser.add_argument("--model", default="sample:minilm", help="encoder; default sample:minilm")
    parser.add_argument("--texts", type=Path, help="Parquet file of texts; default: made of random words")
    parser.add_argument("--pairs", type=Path, help="Parquet file of tuples; default: made of random words")
    parser.add_argument("--kind", help="only rows of PAIRS whose column `kind` is this one")
    parser.add_argument("--batch", type=int, default=64, help="rows of a batch; default 64")
    parser.add_argument("--steps", type=int, default=8, help="of each training; default 8, the first is not counted")
    parser.add_argument("--turns", type=int, default=3, help="trainings of each version; default 3")
    parser.add_argument("--quickstart-steps", type=int, help="of the quickstart; default: all")
    parser.add_argument("--output", type=Path, default=RESULTS, help="path of the report, without suffix")
    args = parser.parse_args(arguments)
    check_sizes(parser, args)
    if args.quickstart_steps is not None and args.quickstart_steps < 1:
        parser.error(f"--quickstart-steps must be at least 1, got {args.quickstart_steps}")
    model = str(Path(args.model).resolve()) if Path(args.model).is_dir() else args.model  # others train elsewhere
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commit = take(args.commit, folder / "earlier")
        places = {"earlier": folder / "earlier", "now": ROOT}
        document: dict[str, Any] = {
            "commit": commit,
            "device": device(),
            "model": Path(args.model).name,
            "versions": versions(),
            "steps": {name: steps(name, model, args, places, folder) for name in TRAINED},
            "quickstart": {
                version: quickstart(place, folder / f"quickstart-{version}", args.quickstart_steps)
                for version, place in places.items()
            },
        }
    write_json(args.output.with_suffix(".json"), document)
    write_text(args.output.with_suffix(".md"), markdown(document))
    plot(document, args.output.with_suffix(".png"))


def take(commit: str, folder: Path) -> str:
    """Write a commit of this checkout to a folder, with the benchmarks of today, and return its hash."""
    git = ["git", "-C", str(ROOT)]
    found = subprocess.run([*git, "rev-parse", "--verify", f"{commit}^{{commit}}"], capture_output=True, text=True)
    if found.returncode:
        sys.exit(f"{commit} is no commit of this checkout: {found.stderr.strip()}")
    digest = found.stdout.strip()
    packed = subprocess.run([*git, "archive", digest], stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as files:
        files.extractall(folder, filter="data")
    shutil.rmtree(folder / "eval" / "benchmarks", ignore_errors=True)
    shutil.copytree(BENCHMARKS, folder / "eval" / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    return digest


def steps(name: str, model: str, args: argparse.Namespace, places: dict[str, Path], folder: Path) -> dict[str, Any]:
    """Return the texts of a job, and for each version the seconds of a step's parts, turn by turn."""
    job = replace(JOBS[name], batch=args.batch)
    rows, _ = tuples(job, args.texts, args.pairs, args.kind, args.batch)
    data = str(folder / "rows.parquet")
    Dataset.from_dict(rows).to_parquet(data)
    turns = []
    for seed in range(args.turns):
        turn = {}
        for version in VERSIONS if seed % 2 else reversed(VERSIONS):
            setting = Setting("fmicl", job, model, data, args.steps, bf16=False, seed=seed)
            turn[version] = in_a_process(setting, 1, "--profile", cwd=places[version])
            print(f"{name}, {version}, turn {seed}: {sum(turn[version].values()):.2f} s a step", file=sys.stderr)
        turns.append(turn)
    return {"texts": origin(job, args), "length": job.length, "batch": job.batch, "turns": turns}


def quickstart(place: Path, output: Path, steps: int | None) -> dict[str, Any]:
    """Run a version's quickstart in a process, and return its seconds and the first score of each result."""
    command = [sys.executable, "-m", "fmicl_text", "train", "quickstart", "--output", str(output), *IN_FLOAT32]
    few = ["--set", f"train.max_steps={steps}"] if steps else []
    begun = time.perf_counter()
    subprocess.run([*command, *few], stdout=subprocess.DEVNULL, check=True, cwd=place)
    seconds = time.perf_counter() - begun
    print(f"{output.name}: {seconds:.0f} s", file=sys.stderr)
    first = [read_json(output / "results" / f"{name}.json")["scores"][0] for name in ("heldout", "stsb")]
    return {"seconds": seconds, "scores": {f"{score['name']}, {score['metric']}": score["value"] for score in first}}


def totals(job: dict[str, Any], version: str) -> list[float]:
    """Return the seconds of a step in each turn."""
    return [sum(turn[version].values()) for turn in job["turns"]]


def parts(job: dict[str, Any], version: str) -> dict[str, float]:
    """Return the seconds of a step's parts, the longest of today's first: medians of the turns."""
    names = dict.fromkeys(part for turn in job["turns"] for seconds in turn.values() for part in seconds)
    middle = {part: median(turn[version].get(part, 0) for turn in job["turns"]) for part in names}
    now = {part: median(turn["now"].get(part, 0) for turn in job["turns"]) for part in names}
    return {part: middle[part] for part in sorted(names, key=lambda part: -now[part])}


def markdown(document: dict[str, Any]) -> str:
    """Return the report as a page."""
    used = ", ".join(f"{name} {version}" for name, version in document["versions"].items() if name != "fmicl-text")
    lines = [
        "# An earlier version beside this one",
        "",
        f"`python -m eval.benchmarks.earlier_version {document['commit'][:7]}`: `fmicl train` of that commit and of "
        f"today, on {document['model']}, {document['device']}, both with {used}, in float32 and with InfoNCE at "
        "temperature 0.05. Rows a second are means of steps, shown as median (least to most) of turns, in which both "
        "train the same rows.",
        "",
        "![Where a step goes](earlier_version.png)",
        "",
        "| job | texts | batch, length | earlier, rows/s | now, rows/s | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for name, job in document["steps"].items():
        earlier, now = (totals(job, version) for version in VERSIONS)
        rates = [shown([job["batch"] / seconds for seconds in of_version]) for of_version in (earlier, now)]
        ratio = shown([before / after for before, after in zip(earlier, now, strict=True)], 2)
        cells = [name, job["texts"], f"{job['batch']}, {job['length']}", *rates, f"**{ratio}**"]
        lines.append("| " + " | ".join(cells) + " |")
    columns = [f"{name}, {version}" for name in document["steps"] for version in VERSIONS]
    lines += ["", "Where a step goes, in milliseconds, medians of turns:", ""]
    lines += ["| part | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    found = [parts(job, version) for job in document["steps"].values() for version in VERSIONS]
    for part in found[0]:
        lines.append(f"| {part} | " + " | ".join(f"{1000 * seconds.get(part, 0):.0f}" for seconds in found) + " |")
    run = document["quickstart"]
    lines += [
        "",
        "The quickstart, from start to end, in float32, once; one seed, whose dropout takes other random numbers now:",
        "",
        "| | earlier | now |",
        "|---|---|---|",
    ]
    lines.append("| seconds | " + " | ".join(f"{run[version]['seconds']:.0f}" for version in VERSIONS) + " |")
    for score in run["now"]["scores"]:
        lines.append(
            f"| {score} | " + " | ".join(f"{run[version]['scores'][score]:.2f}" for version in VERSIONS) + " |"
        )
    return "\n".join([*lines, ""])


def plot(document: dict[str, Any], file: Path) -> None:
    """Draw the parts of a step of both versions, and the quickstart."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    jobs = document["steps"]
    figure, axes = pyplot.subplots(1, len(jobs) + 1, figsize=(11, 4), layout="constrained")
    for axis, (name, job) in zip(axes, jobs.items(), strict=False):
        of_version = [parts(job, version) for version in VERSIONS]
        base = [0.0] * len(VERSIONS)
        for part in (*LARGEST, "all else"):
            of_part = [
                seconds.get(part, sum(seconds.values()) - below)
                for seconds, below in zip(of_version, base, strict=True)
            ]
            axis.bar(VERSIONS, of_part, bottom=base, label=part)
            base = [below + height for below, height in zip(base, of_part, strict=True)]
        axis.set(title=name, ylabel="seconds a step")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(LARGEST) + 1)
    axes[-1].bar(VERSIONS, [document["quickstart"][version]["seconds"] for version in VERSIONS], color="C7")
    axes[-1].set(title="quickstart", ylabel="seconds from start to end")
    figure.suptitle(f"{document['commit'][:7]} and today, {document['model']} on {document['device']}")
    figure.savefig(file, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
