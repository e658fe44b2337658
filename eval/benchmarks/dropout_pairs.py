"""Compare InfoNCE and f-MICL on dropout pairs: train every arm with every seed, then score and report.

    python eval/benchmarks/dropout_pairs.py --model MODEL --data DATA

``MODEL`` is the folder of a masked language model, ``DATA`` a folder with ``unsup/wiki_1m.parquet`` and ``sts/``.
STS-B dev chooses each run's checkpoint; ``sts7`` is measured once, at the end. Scores and cosines of each run are kept
in ``eval/results/dropout_pairs``: what is there is not done again, so an interrupted study goes on where it stopped, on
another machine too, and ``--arms`` and ``--seeds`` share it out between processes. The report covers the seeds that
every arm has.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from fmicl_text.errors import InputError
from fmicl_text.evaluation.items import Items
from fmicl_text.evaluation.paired import paired_test
from fmicl_text.evaluation.sts import evaluate
from fmicl_text.files import read_json, write_json, write_text
from fmicl_text.recipe.file import load_recipe
from fmicl_text.runs.folder import RunFolder
from fmicl_text.training.train import train

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "dropout_pairs"
ARMS = {
    "infonce-0.05": "{objective: infonce, kernel: {name: cosine, temperature: 0.05}}",
    "infonce-0.1": "{objective: infonce, kernel: {name: cosine, temperature: 0.1}}",
    "fmicl-kl": "{objective: fmicl, divergence: kl, sigma: 0.25, balance_cosine: 0.1}",
    "fmicl-js": "{objective: fmicl, divergence: js, sigma: 0.25, balance_cosine: 0.1}",
}
"""Arm -> the ``loss`` section of its recipe; f-MICL without a shift, as it was by default in 0.1.0."""


def main() -> None:
    """Train and score what is missing, then write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of the masked language model to start from")
    parser.add_argument("--data", type=Path, required=True, help="folder with unsup/wiki_1m.parquet and sts/")
    parser.add_argument("--runs", type=Path, default=Path("runs/dropout-pairs"), help="where the runs go")
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=list(ARMS), help="train these; default all")
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3], help="train these; default 1 2 3")
    args = parser.parse_args()
    if not (RESULTS / "start.json").is_file():
        _score(str(args.model), args.data, "start")
    for seed in args.seeds:  # seed by seed, so that an unfinished study still compares like with like
        for arm in args.arms:
            if not (RESULTS / f"{arm}-seed{seed}.json").is_file():
                _run(arm, seed, args)
    report()


def _run(arm: str, seed: int, args: argparse.Namespace) -> None:
    recipe = load_recipe(
        HERE / "dropout_pairs.yaml",
        [
            f"model.base={args.model}",
            f"data.train={args.data}/unsup/wiki_1m.parquet",
            f"evaluate.data={args.data}",
            f"loss={ARMS[arm]}",
            f"seeds=[{seed}]",
        ],
    )
    folder = RunFolder(args.runs / arm / f"seed-{seed}")
    train(recipe, folder.path, resume=folder.recipe.is_file())
    manifest = read_json(folder.manifest)
    _score(str(folder.model), args.data, f"{arm}-seed{seed}", best=manifest["best"], precision=manifest["precision"])


def _score(model: str, data: Path, name: str, **facts: object) -> None:
    """Keep the cosines of every pair of ``sts7``, and beside them the figures."""
    measured = evaluate(model, "sts7", str(data), name=name)
    result = measured.result
    if result.missing:
        raise InputError([f"{task} is missing: {why}" for task, why in result.missing.items()])
    RESULTS.mkdir(parents=True, exist_ok=True)
    items = {key.removesuffix(" Spearman"): parts[0] for key, parts in measured.items.items()}
    np.savez_compressed(RESULTS / "gold.npz", **{task: of_task.gold for task, of_task in items.items()})
    cosines = {task: of_task.values.astype(np.float32) for task, of_task in items.items()}
    np.savez_compressed(RESULTS / f"{name}.npz", **cosines)
    write_json(
        RESULTS / f"{name}.json",
        {**result.document(), "data": "DATA", "average": result.score("average").value, **facts},
    )


def report() -> None:
    """Write ``dropout_pairs.json`` and ``dropout_pairs.md`` from the results that are there."""
    finished = [{int(p.stem.rpartition("seed")[2]) for p in RESULTS.glob(f"{arm}-seed*.json")} for arm in ARMS]
    seeds = sorted(set.intersection(*finished))
    if len(seeds) < 2:
        print(f"{len(seeds)} seed(s) finished in every arm: a report needs two, or it would have no spread")
        return
    start = read_json(RESULTS / "start.json")
    runs = {arm: [read_json(RESULTS / f"{arm}-seed{seed}.json") for seed in seeds] for arm in ARMS}
    document = {
        "command": "python eval/benchmarks/dropout_pairs.py --model MODEL --data DATA",
        "protocol": start["protocol"],
        "seeds": seeds,
        "start": start["average"],
        "arms": {
            arm: {
                "loss": ARMS[arm],
                "stsb_dev": [run["best"]["stsb-dev spearman"] for run in of_arm],
                "best_step": [run["best"]["step"] for run in of_arm],
                "sts7": [run["average"] for run in of_arm],
                "precision": sorted({run["precision"] for run in of_arm}),
            }
            for arm, of_arm in runs.items()
        },
        "paired_tests": {f"{a} - {b}": _compare(a, b, seeds) for a, b in combinations(reversed(ARMS), 2)},
        "versions": start["versions"],
    }
    write_json(RESULTS.parent / "dropout_pairs.json", document)
    write_text(RESULTS.parent / "dropout_pairs.md", _markdown(document))


def _compare(a: str, b: str, seeds: Sequence[int]) -> dict:
    gold = np.load(RESULTS / "gold.npz")
    systems = []
    for arm in (a, b):
        files = [np.load(RESULTS / f"{arm}-seed{seed}.npz") for seed in seeds]
        systems.append({task: [(Items("spearman", file[task], gold[task]),) for file in files] for task in files[0]})
    result = paired_test(*systems)
    return {"difference": result.difference, "ci95": list(result.ci95), "p": result.p_value}


def _markdown(document: dict) -> str:
    seeds = document["seeds"]
    precision = " or ".join(sorted({p for row in document["arms"].values() for p in row["precision"]}))

    def spread(values: Sequence[float]) -> str:
        return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")

    lines = [
        "# InfoNCE and f-MICL on dropout pairs",
        "",
        f"`{document['command']}`",
        "",
        f"16,000 Wikipedia sentences, one epoch, batch 64, length 32, learning rate 3e-5, {precision}; "
        f"seeds {', '.join(map(str, seeds))}; STS-B dev chooses the checkpoint among steps 50, 100, ..., 250. "
        f"Mean ± standard deviation over the seeds. {document['protocol']}",
        "",
        "| arm | STS-B dev | sts7 | best step |",
        "|---|---|---|---|",
        f"| start, no training | | {document['start']:.2f} | |",
    ]
    for arm, row in document["arms"].items():
        steps = ", ".join(map(str, row["best_step"]))
        lines.append(f"| {arm} | {spread(row['stsb_dev'])} | {spread(row['sts7'])} | {steps} |")
    lines += ["", "| difference in sts7 | points | 95% interval | p |", "|---|---|---|---|"]
    for pair, test in document["paired_tests"].items():
        low, high = test["ci95"]
        lines.append(f"| {pair} | {test['difference']:+.2f} | {low:+.2f} to {high:+.2f} | {test['p']:.3f} |")
    lines += [
        "",
        "Paired bootstrap over the pairs of each task and the seeds; few seeds understate how much seeds differ.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
