"""``eval/results/sweeps.md``: what the sweeps say to each question, with how sure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from fmicl_text.files import read_json, write_text
from fmicl_text.report.compare import LEVEL

Jobs = dict[str, dict[str, Any]]
"""Name of a job -> its figures."""
_COLOURS = ("C0", "C1", "C2", "grey")
_TABLE = [
    "| objective | {chooses} | {judges} | minus InfoNCE | 95% interval | p (Holm) | verdict |",
    "|---|" + "---|" * 6,
]


def write_report(results: Path) -> None:
    """Write the report and its picture of the jobs whose figures are there, if any are."""
    if not (jobs := {path.stem: read_json(path) for path in sorted(results.glob("*.json"))}):
        return
    lines = ["# Which loss each job wants", "", "`python -m eval.benchmarks.sweeps --data DATA --model MODEL`", ""]
    lines += [
        "Every objective has as many trials as InfoNCE, and its best settings are trained again with new seeds. "
        "Intervals and p-values are of paired bootstraps over the items of the test and over seeds; p is adjusted for "
        "the number of tests of a question (Holm). `recipe` is f-MICL at a temperature of 0.07, which was its default, "
        "not tuned.",
        "",
        f"![What judges, minus tuned InfoNCE, of every objective]({results.name}.png)",
        "",
        "## Answers",
        "",
        *_answers(jobs),
    ]
    for name, job in jobs.items():
        lines += [*_job(name, job), ""]
    write_text(results.with_suffix(".md"), "\n".join(lines))
    plot(jobs, results.with_suffix(".png"))


def rankings(results: Path) -> Jobs:
    """Return how far each measure of the geometry ranked the final runs of each job, as the package ships it."""
    jobs = {path.stem: read_json(path) for path in sorted(results.glob("*.json"))}
    return {
        name: {
            "judges": job["verdict"]["judges"],
            "runs": len(job["verdict"]["rows"]) * job["seeds"],
            "rank_correlation": {measure: rho for measure, rho in job["geometry"].items() if rho is not None},
        }
        for name, job in jobs.items()
        if job["geometry"]
    }


def _job(name: str, job: dict[str, Any]) -> Iterator[str]:
    verdict, trials = job["verdict"], job["trials"]
    counts = sorted({sum(trial["arm"] == row["arm"] for trial in trials) for row in verdict["rows"]})
    yield f"## {name}"
    yield ""
    yield (
        f"{len(trials)} trials of {job['steps']} steps on {job['device']}, {job['precision']}, "
        f"{counts[-1]} of each objective; {len(verdict['rows'])} finalists with {job['seeds']} seeds. "
        f"{verdict['summary']}."
    )
    yield from ("\n" + f"Note: {warning}." for warning in verdict["warnings"])
    yield ""
    yield from (line.format(**verdict) for line in _TABLE)
    for row in verdict["rows"]:
        test = row["test"]
        cells = [_mean_sd(row["chosen_by"]), _mean_sd(row["judged"])]
        cells += ["", ""] if test is None else [f"{test['difference']:+.2f}", _interval(test["ci95"])]
        cells += ["" if row["p_value"] is None else f"{row['p_value']:.3f}", row["verdict"]]
        yield f"| {row['arm']} | {' | '.join(cells)} |"


def _answers(jobs: Jobs) -> Iterator[str]:
    """Yield the answers to the questions of the study."""
    for question, answers in _QUESTIONS.items():
        if lines := list(answers(jobs)):
            yield from [question, "", *(f"- {line}." for line in lines), ""]


def _on_a_par(jobs: Jobs) -> Iterator[str]:
    for name, job in jobs.items():
        best = _best(job)
        low, high = best["test"]["ci95"]
        said = "better" if low > 0 else "worse" if high < 0 else f"on a par, at most {abs(low):.2f} below"
        yield f"{name}: {best['arm']} {_test(best['test'] | {'p_value': best['p_value']})}: {said}"


def _kernels(jobs: Jobs) -> Iterator[str]:
    for name, job in jobs.items():
        for divergence, test in job["kernels"].items():
            said = "no difference beyond noise" if test["p_value"] > LEVEL else _ABOVE[test["difference"] > 0]
            yield f"{name}: {divergence} {_test(test)}: {said}"


def _divergences(jobs: Jobs) -> Iterator[str]:
    best = {name: job["divergences"]["best"] for name, job in jobs.items()}
    for name, job in jobs.items():
        tests = job["divergences"]["minus"]
        elsewhere = [other for other, chosen in best.items() if chosen in tests]
        beyond = [divergence for divergence, test in tests.items() if test["p_value"] <= LEVEL]
        said = f"beyond noise: {', '.join(beyond)}" if beyond else "none beyond noise"
        yield f"{name}: {best[name]}; minus " + "; ".join(f"{kind} {_test(test)}" for kind, test in tests.items())
        yield f"{name}: {said}" + "".join(f"; {best[other]} is chosen on {other}" for other in elsewhere)


def _gains(jobs: Jobs) -> Iterator[str]:
    for name, job in jobs.items():
        gains = {arm: gain for arm in _arms(job) if (gain := _gain(job, arm)) is not None}
        if gains:
            of_arms = ", ".join(f"{arm} {gain:+.2f}" for arm, gain in gains.items())
            yield f"{name}: {of_arms}; mean {mean(gains.values()):+.2f}"


def _ranked(jobs: Jobs) -> Iterator[str]:
    for name, job in jobs.items():
        known = [f"{measure} {rho:+.2f}" for measure, rho in job["geometry"].items() if rho is not None]
        if known:
            yield f"{name}: {', '.join(known)}"


_QUESTIONS: dict[str, Callable[[Jobs], Iterator[str]]] = {
    "**Is f-MICL at least on a par with tuned InfoNCE?** The f-MICL of the best score that chooses, minus InfoNCE by "
    "what judges:": _on_a_par,
    "**Is the Gaussian kernel above the cosine?** Gaussian minus cosine, each tuned. With a shift for each row they "
    "are one function of the cosine but for a constant, which the shift takes away, and so there they are equal; so "
    "are Pearson and Tsallis of order 2:": _kernels,
    "**Is the best divergence another on another job?** The one that is chosen, of those with the Gaussian kernel, "
    "minus each other:": _divergences,
    "**How far is each default from its tuned best?** Best trial minus the default, by the score that chooses. The "
    "default is one of the trials, so this is never below zero; by the noise of one seed it is too large:": _gains,
    "**Does the geometry rank as labels do?** Rank correlation over the final runs with what judges:": _ranked,
}
_ABOVE = {True: "above", False: "below"}


def _test(test: dict[str, Any]) -> str:
    return f"{test['difference']:+.2f} ({_interval(test['ci95'])}), p {test['p_value']:.3f}"


def plot(jobs: Jobs, file: Path) -> None:
    """Draw what judges minus tuned InfoNCE, with its interval, of every objective: a panel a job."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    arms = sorted({row["arm"] for job in jobs.values() for row in job["verdict"]["rows"] if row["test"]}, key=_order)
    size = (2.2 + 3.2 * len(jobs), 1.2 + 0.28 * len(arms))
    figure, panels = pyplot.subplots(1, len(jobs), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for panel, (name, job) in zip(panels[0], jobs.items(), strict=True):
        for row in job["verdict"]["rows"]:
            if (test := row["test"]) is None:
                continue
            place, (low, high) = arms.index(row["arm"]), test["ci95"]
            panel.plot([low, high], [place, place], color=_COLOURS[_order(row["arm"])[0]], linewidth=2, alpha=0.6)
            panel.plot(test["difference"], place, "o", color=_COLOURS[_order(row["arm"])[0]])
        panel.axvline(0, color="grey", linewidth=0.8)
        panel.set(title=name, xlabel=f"{job['verdict']['judges']}, minus InfoNCE")
    panels[0][0].set_yticks(range(len(arms)), arms)
    panels[0][0].invert_yaxis()
    figure.savefig(file, dpi=150)
    pyplot.close(figure)


def _order(arm: str) -> tuple[int, str]:
    """Return where an objective is drawn: f-MICL, Gaussian then cosine, its default, then the others."""
    kinds = [arm.endswith("-gaussian"), arm.endswith("-cosine"), arm == "recipe", True]
    return kinds.index(True), arm


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
