"""The figures of a finished sweep: every trial, every finalist, the tests that answer the study's questions."""

from __future__ import annotations

import json
from typing import Any

from scipy.stats import spearmanr

from fmicl_text.evaluation.results import Score
from fmicl_text.evaluation.statistics import holm
from fmicl_text.files import read_json
from fmicl_text.report.runs import Run, read_runs
from fmicl_text.sweep.plan import FINALISTS, Plan
from fmicl_text.sweep.verdict import judge_of, test_against


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
        "device": manifest["device"],
        "precision": manifest["precision"],
        "versions": manifest["versions"],
        "verdict": verdict,
        "trials": [trial for trial in trials if trial["arm"] != FINALISTS],
        "kernels": _kernels(runs, title, score),
        "geometry": _geometry(runs, title, score),
    }


def _kernels(runs: dict[str, Run], title: str, score: Score) -> dict[str, Any]:
    """Return the paired test of the Gaussian kernel against the cosine, of each divergence that has both."""
    tests = {}
    for name, run in runs.items():
        cosine = runs.get(name.replace("-gaussian", "-cosine"))
        if cosine is not None and cosine is not run and (test := test_against(run, cosine, title, score)) is not None:
            tests[name.split("-")[1]] = test
    adjusted = holm([test.p_value for test in tests.values()])
    return {
        name: {"difference": test.difference, "ci95": test.ci95, "p_value": p}
        for (name, test), p in zip(tests.items(), adjusted, strict=True)
    }


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
