"""Running the study: every job, start, objective and seed once, by one process or several.

Each process appends its runs to a file of its own, one JSON document a line, so nothing is lost when it is stopped.
Runs that are there already are not repeated.
"""

from __future__ import annotations

import gzip
import json
import math
import multiprocessing
import os
import platform
import time
import traceback
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from eval.benchmarks.default_loss.jobs import Job
from eval.benchmarks.default_loss.objectives import START, Objective, Unavailable
from eval.benchmarks.default_loss.starts import STARTS, load_start
from eval.benchmarks.default_loss.training import Tokenised, batches, encode, precision, train
from fmicl_text.evaluation.items import Items, score

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Run = dict[str, Any]
PARTS = ("dev", "test")


@dataclass(frozen=True)
class Setting:
    """Where and how runs go.

    Attributes:
        folder: Of the files of runs.
        models: Folder of encoders, see :func:`load_start`.
        device: ``cpu`` or ``cuda``.
        threads: Threads of a process.
        deadline: Time, in seconds since the epoch, after which no run begins; None for none.
    """

    folder: Path
    models: Path | None
    device: str
    threads: int
    deadline: float | None = None

    def in_time(self) -> bool:
        """Whether another run may begin."""
        return self.deadline is None or time.time() < self.deadline


@dataclass(frozen=True)
class Unit:
    """What one process does at a time: the objectives of a job, start and seed, on the same batches."""

    job: Job
    start: str
    seed: int
    objectives: tuple[Objective, ...]

    def identity(self, objective: Objective | None) -> Run:
        """Return what tells a run from all others: runs of equal identity are equal."""
        return {
            "job": self.job.name,
            "start": self.start,
            "objective": objective.name if objective else START,
            "seed": self.seed if objective else 0,
            "loss": objective.loss if objective else None,
            "settings": objective.settings if objective else {},
            "steps": self.job.steps if objective else 0,
            "learning_rate": STARTS[self.start].learning_rate if objective else 0.0,
        }


def identity(run: Run) -> str:
    """Return the identity of a run, as a string."""
    names = ("job", "start", "objective", "seed", "loss", "settings", "steps", "learning_rate")
    return json.dumps([run[name] for name in names], sort_keys=True)


def read_runs(folder: Path) -> list[Run]:
    """Return all runs in the files of a folder, each once; a line that a stopped process left unfinished is skipped."""
    found: dict[str, Run] = {}
    for file in sorted([*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")]):
        text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        for line in text.decode().split("\n"):
            if line.endswith("}"):
                run = json.loads(line)
                found.setdefault(identity(run), run)
    return list(found.values())


def plan(
    jobs: Iterable[Job],
    starts: Sequence[str],
    seeds: Sequence[int],
    objectives: Sequence[Objective],
    done: Sequence[Run],
) -> list[Unit]:
    """Return the units with something left to run, seed by seed, so that a study cut short compares like with like.

    Args:
        jobs: Which jobs.
        starts: Which starts; each is used on its own jobs.
        seeds: Which seeds.
        objectives: Which objectives.
        done: Runs that are there.
    """
    known = {identity(run) for run in done}
    jobs = list(jobs)
    units = []
    for seed in seeds:
        for start in starts:
            for job in jobs:
                if STARTS[start].jobs and job.name not in STARTS[start].jobs:
                    continue
                if start == "static" and len(job.train) == 1:
                    continue
                unit = Unit(job, start, seed, tuple(objectives))
                left = tuple(o for o in objectives if identity(unit.identity(o)) not in known)
                if left:
                    units.append(Unit(job, start, seed, left))
    return units


def run_all(units: Sequence[Unit], setting: Setting, workers: int) -> None:
    """Run the units, by several processes if ``workers`` is above 1; one that fails does not stop the others.

    Raises:
        RuntimeError: Units of several processes failed.
    """
    setting.folder.mkdir(parents=True, exist_ok=True)
    if workers == 1:
        for unit in units:
            run_unit(unit, setting)
        return
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    failed = 0
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for future in as_completed([pool.submit(run_unit, unit, setting) for unit in units]):
            if error := future.exception():
                failed += 1
                traceback.print_exception(error)
    if failed:
        raise RuntimeError(f"{failed} of {len(units)} units failed, for the reasons above; the others are kept")


def run_unit(unit: Unit, setting: Setting) -> None:
    """Train and score each objective of a unit, and append the runs to this process's file."""
    if not setting.in_time():
        return
    torch.set_num_threads(setting.threads)
    model, weights = _loaded(unit.start, setting.models, setting.device)
    dtype = precision(setting.device)
    texts = {part: Tokenised.of(model, getattr(unit.job, part).texts) for part in PARTS}
    data = batches(model, unit.job.train, unit.job.steps, unit.seed)
    facts = {
        "device": torch.cuda.get_device_name() if setting.device.startswith("cuda") else platform.machine(),
        "precision": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
    }
    output = setting.folder / f"runs-{platform.node()}-{os.getpid()}.jsonl"
    for objective in (None, *unit.objectives):
        if not setting.in_time():
            return
        began = time.perf_counter()
        model.load_state_dict(weights)
        torch.manual_seed(unit.seed)
        run = unit.identity(objective) | facts | {"failed": None, "losses": []}
        if objective:
            try:
                loss = objective.build(model).to(model.device)
            except Unavailable as why:
                print(f"skipped: {why}", flush=True)
                continue
            try:
                taken = [objective.columns(columns) for columns in data]
                losses = train(model, loss, taken, STARTS[unit.start].learning_rate, dtype)
                run["losses"] = [value if math.isfinite(value) else None for value in (losses[0], losses[-1])]
            except (ValueError, ArithmeticError) as error:  # such as an encoder that has become NaN
                run["failed"] = f"{type(error).__name__}: {error}"
        for part in PARTS:
            vectors = encode(model, texts[part], dtype)
            if not vectors.isfinite().all():
                run["failed"] = run["failed"] or "the encoder gives NaN"
            items = getattr(unit.job, part).items(vectors)
            run[part] = {name: _document(of_score, run) for name, of_score in items.items()}
        run["seconds"] = round(time.perf_counter() - began, 2)
        with output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(run) + "\n")
        figures = ", ".join(f"{name} {of['score']:.1f}" for name, of in run["test"].items())
        print(f"{unit.job.name}, {unit.start}, seed {unit.seed}, {run['objective']}: {figures}", flush=True)


@cache
def _loaded(start: str, models: Path | None, device: str) -> tuple[SentenceTransformer, dict[str, torch.Tensor]]:
    """Load a start once for all runs of this process, with a copy of its weights to begin each run from."""
    torch.manual_seed(0)
    model = load_start(start, models, device)
    return model, {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _document(items: Items, run: Run) -> dict[str, Any]:
    """Return a score and its items with four digits, which is what tells two runs apart.

    An encoder that training has broken scores nothing.
    """
    values = np.nan_to_num(items.values) * (0 if run["failed"] else 1)
    items = Items(items.statistic, values.round(4), items.gold, items.source)
    figure = score((items,))
    return {**items.document(), "score": 0.0 if np.isnan(figure) else round(figure, 4)}
