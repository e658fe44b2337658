"""Sweep three jobs, every objective with as many trials, every objective with three seeds; then report.

    python -m eval.benchmarks.sweeps --data DATA --model MODEL

``DATA`` is a folder with ``unsup/``, ``sts/``, ``pairs/`` and ``images/``, ``MODEL`` a masked language model. A study
that was stopped goes on where it stopped, run by run. Figures of finished jobs are kept in ``eval/results/sweeps``, and
what a sweep without labels states of the geometry in ``eval/published``. ``--workers 12`` trains twelve runs at a time,
which fills a GPU with encoders as small as these.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eval.benchmarks.sweeps.figures import figures
from eval.benchmarks.sweeps.report import rankings, write_report
from fmicl_text.bars import silence_model_files
from fmicl_text.errors import RunInterrupted
from fmicl_text.files import resource_folder, write_json, write_text
from fmicl_text.recipe.file import load_recipe
from fmicl_text.sweep.arms import arms_of
from fmicl_text.sweep.label_free import FILE
from fmicl_text.sweep.plan import Plan
from fmicl_text.sweep.space import read_space
from fmicl_text.sweep.sweep import join, sweep

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "results" / "sweeps"
JOBS = ("dropout", "answers", "images")
CHOOSES, JUDGES = 300, 600
"""Questions of the job with answers."""
TRAINED, HELD_OUT = 10_000, 2_000
"""Images to train on, and those after them, which choose."""


def main() -> None:
    """Sweep what is missing, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data")
    parser.add_argument("--model", type=Path, required=True, help="folder of the masked language model")
    parser.add_argument("--runs", type=Path, default=Path("runs/sweeps"), help="where the runs go")
    parser.add_argument("--jobs", nargs="*", choices=JOBS, default=list(JOBS), help="sweep these; default all")
    parser.add_argument("--trials", type=int, default=6, help="trials of each objective; default 6")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each objective's best; default 3")
    parser.add_argument("--workers", type=int, default=1, help="processes that train; default 1")
    parser.add_argument("--worker", action="store_true", help="train runs of the one job that another process sweeps")
    parser.add_argument("--leader", type=int, help=argparse.SUPPRESS)  # the process that started this worker
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("fmicl_text.sweep").setLevel(logging.INFO)
    silence_model_files()
    try:
        for job in args.jobs:
            study(job, args)
    except RunInterrupted as error:
        sys.exit(str(error))


def study(job: str, args: argparse.Namespace) -> None:
    """Sweep a job unless its figures are there, and write the report; or work on its sweep."""
    if args.worker:
        join(plan_of(job, args), args.leader)
        return
    if not (RESULTS / f"{job}.json").is_file():
        plan = plan_of(job, args)
        sweep(plan, worker_of(job, args))
        write_json(RESULTS / f"{job}.json", figures(plan))
    write_report(RESULTS)
    write_json(resource_folder("published") / FILE, rankings(RESULTS))


def worker_of(job: str, args: argparse.Namespace) -> list[str]:
    """Return the arguments of ``python`` that start a worker of a job's sweep, which this process leads."""
    given = {name: getattr(args, name) for name in ("data", "model", "runs", "trials", "seeds")}
    options = [f"--{name}={value}" for name, value in given.items()]
    return ["-m", __package__, *options, "--jobs", job, "--worker", f"--leader={os.getpid()}"]


def plan_of(job: str, args: argparse.Namespace) -> Plan:
    """Return the sweep of a job, after writing what it reads that is not in ``args.data``."""
    data, model, runs = args.data, args.model, args.runs
    work = (runs / "data").absolute()
    write_inputs(job, data, work)
    text = (HERE / f"{job}.yaml").read_text(encoding="utf-8")
    for name, folder in {"DATA": data.absolute(), "WORK": work, "MODEL": model.absolute()}.items():
        text = text.replace(name, str(folder))
    recipe_file = work / f"{job}.yaml"
    write_text(recipe_file, text)
    recipe = load_recipe(recipe_file)
    arms = arms_of(recipe, read_space(str(HERE / "space.yaml")))
    folder = runs / job
    storage = f"sqlite:///{(folder / 'sweep.db').absolute()}"
    numbers = {"trials": args.trials, "seeds": args.seeds, "workers": args.workers}
    return Plan(recipe, arms, folder, storage, finalists=len(arms), **numbers)


def write_inputs(job: str, data: Path, work: Path) -> None:
    """Write the parts of a job's data that choose and judge."""
    import pyarrow.parquet as pq

    work.mkdir(parents=True, exist_ok=True)
    if job == "images" and not (work / "chooses.parquet").is_file():
        images = pq.read_table(data / "images" / "cifar10_train.parquet")
        pq.write_table(images.slice(TRAINED, HELD_OUT), work / "chooses.parquet")
    if job == "answers" and not (work / "judges.yaml").is_file():
        rows = pq.read_table(data / "pairs" / "pairs.parquet", columns=["anchor", "positive", "kind"]).to_pylist()
        write_answers([row for row in rows if row["kind"] == "answer"], work)


def write_answers(rows: Iterable[dict[str, Any]], work: Path) -> None:
    """Split questions and answers so that no text is in two parts; those that judge become a suite of retrieval."""
    seen: set[str] = set()
    once = []
    for row in rows:
        if not {row["anchor"], row["positive"]} & seen:
            seen |= {row["anchor"], row["positive"]}
            once.append({"anchor": row["anchor"], "positive": row["positive"]})
    judges, chooses, train = once[:JUDGES], once[JUDGES : JUDGES + CHOOSES], once[JUDGES + CHOOSES :]
    _lines(work / "train.jsonl", train)
    _lines(work / "chooses.jsonl", chooses)
    _lines(work / "queries.jsonl", [{"id": f"q{n}", "text": row["anchor"]} for n, row in enumerate(judges)])
    _lines(work / "corpus.jsonl", [{"id": f"d{n}", "text": row["positive"]} for n, row in enumerate(judges)])
    relevant = "".join(f"q{n}\td{n}\t1\n" for n in range(len(judges)))
    write_text(work / "relevant.tsv", "query-id\tcorpus-id\tscore\n" + relevant)
    files = {"queries": "queries.jsonl", "corpus": "corpus.jsonl", "relevant": "relevant.tsv"}
    task = {"name": "Answers", "type": "retrieval", **files}
    write_text(work / "judges.yaml", json.dumps({"name": "judges", "tasks": [task]}))  # JSON is YAML


def _lines(path: Path, rows: list[dict[str, str]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


if __name__ == "__main__":
    main()
