"""Run folders with results of every item, as training and evaluation leave them, for reports and comparisons."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np

from fmicl_text.evaluation.geometry import PROTOCOL, Layout, Neighbours, geometry, geometry_scores
from fmicl_text.evaluation.items import Items, Measured, score, write_result
from fmicl_text.evaluation.metrics import SPEARMAN, Metric
from fmicl_text.evaluation.results import Result
from fmicl_text.evaluation.suites import load_suite
from fmicl_text.files import write_json, write_text
from fmicl_text.report.published import TASKS

N = 300
"""Items of each task."""


def measured(metric: Metric, items: dict[str, tuple[Items, ...]], average: bool = True, **fields) -> Measured:
    """A result whose scores are of one metric, and follow from their items."""
    values = {name: score(parts) for name, parts in items.items()}
    scores = [metric.score(name, value, N, (40.0, 90.0)) for name, value in values.items()]
    if average:
        scores.insert(0, metric.score("average", float(np.mean(list(values.values())))))
    known = {"protocol": "a protocol", "model": "model", "data": "Hub", "facts": {"max_seq_length": 32}} | fields
    return Measured(Result(scores=scores, **known), {metric.key(name): parts for name, parts in items.items()})


def sts_result(noise: float, seed: int, tasks: tuple[str, ...] = TASKS) -> Measured:
    """A result on sts7 of a system that sees the gold scores through noise."""
    gold = {task: np.random.default_rng(i).integers(0, 26, N) / 5 for i, task in enumerate(tasks)}
    rng = np.random.default_rng(seed)
    similarities = {t: (g / 5 + rng.normal(scale=noise, size=N)).astype(np.float32) for t, g in gold.items()}
    items = {task: (Items("spearman", similarities[task], gold[task]),) for task in tasks}
    missing = {task: "no file" for task in TASKS if task not in tasks}
    protocol = load_suite("sts7").protocol
    return measured(SPEARMAN, items, not missing, kind="sts", name="sts7", protocol=protocol, missing=missing)


def values(of: Measured) -> dict[str, float]:
    """Scores by key."""
    return {one.key: one.value for one in of.result.scores}


@functools.cache
def geometry_layout(seed: int, sentence: str = "a dog") -> Layout:
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(60, 12))
    positives = np.arange(40).reshape(20, 2)
    embeddings[1:40:2] = embeddings[0:40:2] + rng.normal(scale=0.8, size=(20, 12))
    return Layout(geometry=geometry(embeddings, positives), neighbours=[Neighbours(sentence, {"a cat": 0.5})])


def geometry_result(seed: int, sentence: str = "a dog", data: str = "STS-B") -> Measured:
    layout = geometry_layout(seed, sentence)
    common = {"kind": "geometry", "name": "geometry", "protocol": PROTOCOL, "model": "m", "data": data}
    details = layout.model_dump(mode="json")
    return Measured(Result(scores=geometry_scores(layout.geometry), details=details, **common), {})


def make_run(folder: Path, noise: float = 0.3, seeds: tuple[int, ...] = (1,), name: str = "tiny", **parts) -> Path:
    """A run folder as `fmicl train` leaves it; ``parts`` are handed to the results."""
    for seed in seeds:
        path = folder / f"seed-{seed}" if len(seeds) > 1 else folder
        best = {"step": 4, "stsb-dev spearman": 71.25}
        times = {"started": "2026-01-01T10:00:00+00:00", "ended": "2026-01-01T10:03:00+00:00"}
        manifest = {"state": "done", "seed": seed, "device": "cpu", "precision": "float32", "steps": 4, "best": best}
        write_json(path / "manifest.json", {**manifest, **times, "versions": {"torch": "2"}})
        logs = [{"step": s, "positive": 1 / s, "negative": 0.1, "learning_rate": 1e-5 / s} for s in (1, 2, 3, 4)]
        logs += [{"step": 4, "eval_stsb-dev_spearman_cosine": 0.7125}]
        write_text(path / "metrics.jsonl", "".join(json.dumps(log) + "\n" for log in logs))
        write_result(sts_result(noise, seed, **parts), path / "results" / "sts7.json")
        write_result(geometry_result(seed), path / "results" / "geometry.json")
    recipe = {"name": name, "model": {"base": "bert"}, "loss": {"objective": "fmicl", "kernel": {"sigma": 0.25}}}
    write_text(folder / "recipe.yaml", json.dumps(recipe))
    return folder
