"""The figures of a finished sweep: every trial, every finalist, the tests that answer the study's questions."""

from __future__ import annotations

import json
from typing import Any

import torch
from scipy.stats import spearmanr

from eval.benchmarks.gpu.machine import name_of
from fmicl_text.evaluation.results import Score
from fmicl_text.evaluation.statistics import holm
from fmicl_text.files import read_json
from fmicl_text.report.runs import Run, read_runs
from fmicl_text.sweep.plan import FINALISTS, Plan
from fmicl_text.sweep.verdict import judge_of, test_against

GAUSSIAN = "-gaussian"
"""End of the names of the arms of f-MICL that have this kernel."""


def figures(plan: Plan) -> dict[str, Any]:
    """Return the figures of a sweep, JSON-ready, without names of places on this machine."""
    found = read_json(plan.folder / "sweep.json")
    verdict, trials = found["verdict"], found["trials"]
    names = [row["arm"] for row in verdict["rows"]]
    runs = dict(zip(names, read_runs([plan.final_folder(name).path for name in names]), strict=True))
    title, score, _ = judge_of(plan, runs[names[0]])
    manifest = read_json(plan.final_folder(names[0], plan.final_seeds[0]).manifest)
    return {
        "steps": manifest["steps"],
        "seeds": len(plan.final_seeds),
        "device": _device(manifest["device"]),
        "precision": manifest["precision"],
        "versions": manifest["versions"],
        "verdict": verdict,
        "trials": [trial for trial in trials if trial["arm"] != FINALISTS],
        "kernels": _kernels(runs, title, score),
        "divergences": _divergences(verdict["rows"], runs, title, score),
        "geometry": _geometry(runs, title, score),
    }


def _device(name: str) -> str:
    """Return the name of a card or CPU; of a card that is not in this machine there is only what torch calls it."""
    device = torch.device(name)
    return name if device.type == "cuda" and not torch.cuda.is_available() else name_of(device)


def _kernels(runs: dict[str, Run], title: str, score: Score) -> dict[str, Any]:
    """Return the paired test of the Gaussian kernel against the cosine, of each divergence that has both."""
    pairs = {
        divergence_of(name): (run, runs[cosine])
        for name, run in runs.items()
        if name.endswith(GAUSSIAN) and (cosine := name.replace(GAUSSIAN, "-cosine")) in runs
    }
    return _tested(pairs, title, score)


def _divergences(rows: list[dict[str, Any]], runs: dict[str, Run], title: str, score: Score) -> dict[str, Any]:
    """Return the divergence of the Gaussian kernel that the score chooses, and its paired tests against the others."""
    gaussian = [row for row in rows if row["arm"].endswith(GAUSSIAN)]
    best = max(gaussian, key=lambda row: row["chosen_by"][0])["arm"]
    others = {divergence_of(row["arm"]): (runs[best], runs[row["arm"]]) for row in gaussian if row["arm"] != best}
    return {"best": divergence_of(best), "minus": _tested(others, title, score)}


def _tested(pairs: dict[str, tuple[Run, Run]], title: str, score: Score) -> dict[str, Any]:
    """Return the paired test of the first run of each pair against the second, adjusted for their number (Holm)."""
    tests = {name: test_against(*pair, title, score) for name, pair in pairs.items()}
    known = {name: test for name, test in tests.items() if test is not None}
    adjusted = holm([test.p_value for test in known.values()])
    return {
        name: {"difference": test.difference, "ci95": test.ci95, "p_value": p}
        for (name, test), p in zip(known.items(), adjusted, strict=True)
    }


def divergence_of(arm: str) -> str:
    """Return the divergence in the name of an arm of f-MICL."""
    return arm.split("-")[1]


def _geometry(runs: dict[str, Run], title: str, score: Score) -> dict[str, float]:
    """Return the rank correlation over all final runs of each measure of the geometry with what judges."""
    seeds = [seed.results for run in runs.values() for seed in run.seeds.values()]
    judged = [results.scores(title)[score.key].value for results in seeds]
    measures = seeds[0].scores("geometry")
    found = {}
    for key, measure in measures.items():
        values = [results.scores("geometry")[key].value for results in seeds if key in results.scores("geometry")]
        if len(values) == len(judged):
            found[measure.metric] = float(spearmanr(values, judged).statistic)
    return json.loads(json.dumps(found).replace("NaN", "null"))
