"""``eval/results/sweeps.md``: what the sweeps say to each question, with how sure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from fmicl_text.files import read_json, write_text

_TABLE = [
    "| objective | {chooses} | {judges} | minus InfoNCE | 95% interval | p (Holm) | verdict |",
    "|---|" + "---|" * 6,
]


def write_report(results: Path) -> None:
    """Write the report of the jobs whose figures are there."""
    jobs = {path.stem: read_json(path) for path in sorted(results.glob("*.json"))}
    lines = ["# Which loss each job wants", "", "`python -m eval.benchmarks.sweeps --data DATA --model MODEL`", ""]
    for name, job in jobs.items():
        lines += [*_job(name, job), ""]
    lines += ["## Answers", ""]
    lines += [f"- {line}" for name, job in jobs.items() for line in _answers(name, job)]
    winners = {name: _best(job)["arm"] for name, job in jobs.items()}
    lines.append(
        f"- Best f-MICL by the score that chooses: {', '.join(f'{job} {arm}' for job, arm in winners.items())}."
    )
    write_text(results.with_suffix(".md"), "\n".join(lines) + "\n")


def rankings(results: Path) -> dict[str, Any]:
    """Return how far each measure of the geometry ranked the final runs of each job, as the package ships it."""
    jobs = {path.stem: read_json(path) for path in sorted(results.glob("*.json"))}
    return {
        name: {
            "judges": job["verdict"]["judges"],
            "objectives": len(job["verdict"]["rows"]),
            "rank_correlation": {measure: rho for measure, rho in job["geometry"].items() if rho is not None},
        }
        for name, job in jobs.items()
    }


def _job(name: str, job: dict[str, Any]) -> Iterator[str]:
    verdict, trials = job["verdict"], job["trials"]
    counts = sorted({sum(trial["arm"] == row["arm"] for trial in trials) for row in verdict["rows"]})
    yield f"## {name}"
    yield ""
    yield (
        f"{len(trials)} trials of {job['steps']} steps on {job['device']}, {job['precision']}, "
        f"{counts[-1]} of each objective; {len(verdict['rows'])} finalists. {verdict['summary']}."
    )
    yield from (f"Note: {warning}." for warning in verdict["warnings"])
    yield ""
    yield from (line.format(**verdict) for line in _TABLE)
    for row in verdict["rows"]:
        test = row["test"]
        cells = [_mean_sd(row["chosen_by"]), _mean_sd(row["judged"])]
        cells += ["", ""] if test is None else [f"{test['difference']:+.2f}", _interval(test["ci95"])]
        cells += ["" if row["p_value"] is None else f"{row['p_value']:.3f}", row["verdict"]]
        yield f"| {row['arm']} | {' | '.join(cells)} |"


def _answers(name: str, job: dict[str, Any]) -> Iterator[str]:
    best = _best(job)
    test = best["test"]
    yield (
        f"{name}: f-MICL ({best['arm']}) minus tuned InfoNCE: {test['difference']:+.2f} "
        f"({_interval(test['ci95'])}), p {best['p_value']:.3f}: {best['verdict']}."
    )
    for divergence, of in job["kernels"].items():
        yield (
            f"{name}: Gaussian minus cosine, {divergence}: {of['difference']:+.2f} ({_interval(of['ci95'])}), "
            f"p {of['p_value']:.3f}."
        )
    gains = {arm: gain for arm in _arms(job) if (gain := _gain(job, arm)) is not None}
    yield (
        f"{name}: best trial minus default, by the score that chooses: "
        + ", ".join(f"{arm} {gain:+.2f}" for arm, gain in gains.items())
        + f"; mean {mean(gains.values()):+.2f}."
    )
    if job["geometry"]:
        ranked = ", ".join(f"{measure} {rho:+.2f}" for measure, rho in job["geometry"].items() if rho is not None)
        yield f"{name}: rank correlation of the geometry with what judges, over the final runs: {ranked}."


def _best(job: dict[str, Any]) -> dict[str, Any]:
    rows = [row for row in job["verdict"]["rows"] if row["arm"].startswith("fmicl") and row["test"] is not None]
    return max(rows, key=lambda row: row["chosen_by"][0])


def _arms(job: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(trial["arm"] for trial in job["trials"] if trial["arm"] != "recipe"))


def _gain(job: dict[str, Any], arm: str) -> float | None:
    scores = {t["place"]: t["score"] for t in job["trials"] if t["arm"] == arm and t["score"] is not None}
    return max(scores.values()) - scores[0] if 0 in scores else None


def _mean_sd(found: list[float | None]) -> str:
    return f"{found[0]:.2f}" + ("" if found[1] is None else f" ± {found[1]:.2f}")


def _interval(ends: list[float]) -> str:
    return f"{ends[0]:+.2f} to {ends[1]:+.2f}"
