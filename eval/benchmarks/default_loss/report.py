"""The report: objectives side by side, and the verdict on each candidate."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from eval.benchmarks.default_loss.jobs import Half, Job
from eval.benchmarks.default_loss.objectives import OBJECTIVES, START, TUNED
from eval.benchmarks.default_loss.runs import Run
from fmicl_text.evaluation.items import Items
from fmicl_text.evaluation.paired import PairedTest, paired_test
from fmicl_text.evaluation.statistics import holm
from fmicl_text.files import write_json, write_text

RESAMPLES = 4000
LEVEL = 0.05
BY_KIND = (
    *(START, "KL balance 0.1", "InfoNCE 0.05", "InfoNCE 0.1", "InfoNCE 0.2", TUNED),
    *("js row adaptive cross", "js row 0.05 cross", "js row 0.05 both", "js row 0.07 cross"),
    *("tsallis 1.25 row 0.07 anchor", "KL auto 0.05"),
)
"""What the table by kind of data compares."""
WITH_INTERVALS = ("js row adaptive cross", "InfoNCE 0.05", "InfoNCE 0.2", "KL balance 0.1")
"""What the table with intervals compares: the default, InfoNCE at two temperatures, and the default before."""
APART = "minilm-mlm"
"""A start that few objectives were run from, whose tasks are therefore reported apart."""
Task = tuple[str, str]
"""A job and a start."""


@dataclass(frozen=True)
class Study:
    """The runs of a study: task -> objective -> its runs, one a seed."""

    jobs: Mapping[str, Job]
    by_task: Mapping[Task, Mapping[str, list[Run]]]

    @classmethod
    def of(cls, jobs: Mapping[str, Job], runs: Iterable[Run]) -> Study:
        """Sort runs by task and objective, and add to each task InfoNCE at the temperature that its dev part chose."""
        by_task: dict[Task, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
        for run in sorted(runs, key=lambda run: run["seed"]):
            if run["job"] in jobs:
                by_task[run["job"], run["start"]][run["objective"]].append(run)
        tuned = [objective.name for objective in OBJECTIVES if objective.role == "tuned"]
        for objectives in by_task.values():
            if all(name in objectives for name in tuned):
                best = max(tuned, key=lambda name: mean(figure(run, "dev") for run in objectives[name]))
                objectives[TUNED] = objectives[best]
        return cls(jobs, {task: dict(objectives) for task, objectives in by_task.items()})

    @cached_property
    def objectives(self) -> list[str]:
        """Names of what is compared, in the order of the table of objectives."""
        present = {name for objectives in self.by_task.values() for name in objectives}
        first = (START, "MNRL", TUNED)
        names = [*first, *(objective.name for objective in OBJECTIVES if objective.name not in first)]
        return [name for name in names if name in present]

    @property
    def candidates(self) -> list[str]:
        """Names of the candidates that have runs, and of f-MICL as it was, which is judged like them."""
        return [name for name in self.objectives if name not in (START, "MNRL", TUNED)]

    def tasks(self, half: Half) -> list[Task]:
        """Return the tasks of a half, in the order of the jobs, but for those from :data:`APART`."""
        order = list(self.jobs)
        tasks = [task for task in self.by_task if self.jobs[task[0]].half == half and task[1] != APART]
        return sorted(tasks, key=lambda task: (task[1] != "minilm", task[1], order.index(task[0])))

    @property
    def tasks_apart(self) -> list[Task]:
        """The tasks from :data:`APART`, in the order of the jobs."""
        return [(job, APART) for job in self.jobs if (job, APART) in self.by_task]

    def scores(self, task: Task, objective: str, part: str, metric: str | None = None) -> list[float]:
        """Return an objective's scores on a task, one a seed."""
        return [figure(run, part, metric) for run in self.by_task[task].get(objective, [])]

    def tasks_by_kind(self) -> dict[str, list[Task]]:
        """Return the tasks of both halves by kind of data."""
        found: dict[str, list[Task]] = defaultdict(list)
        for half in ("choose", "judge"):
            for task in self.tasks(half):
                found[self.jobs[task[0]].kind].append(task)
        return dict(found)

    def compare_all(self, tasks: Sequence[Task], a: str, b: str) -> PairedTest | None:
        """Test the averages of two objectives over the test parts of tasks, over the seeds that all of them have."""
        runs = {
            name: [{run["seed"]: run for run in self.by_task[task].get(name, [])} for task in tasks] for name in (a, b)
        }
        seeds = sorted(set.intersection(*(set(of_task) for of in runs.values() for of_task in of)))
        if not seeds or any(of_task[seed]["failed"] for of in runs.values() for of_task in of for seed in seeds):
            return None
        systems = [
            {
                "/".join(task): [(Items.of(of_task[seed]["test"][main_metric(of_task[seed])]),) for seed in seeds]
                for task, of_task in zip(tasks, runs[name], strict=True)
            }
            for name in (a, b)
        ]
        return paired_test(*systems, RESAMPLES)

    def compare(self, task: Task, a: str, b: str, part: str, metric: str | None = None) -> PairedTest | None:
        """Test an objective against another, or the start, over the seeds that both have; None if there are none."""
        of_a, of_b = self._by_common_seeds(task, a, b)
        seeds = sorted(of_a)
        if not seeds:
            return None
        if any(of[s]["failed"] for of in (of_a, of_b) for s in seeds):  # no items to resample, and no doubt
            difference = mean(figure(of_a[s], part, metric) - figure(of_b[s], part, metric) for s in seeds)
            return PairedTest(difference, (difference, difference), 0.0)
        systems = [[(Items.of(of[s][part][metric or main_metric(of[s])]),) for s in seeds] for of in (of_a, of_b)]
        return paired_test(*({"": system} for system in systems), RESAMPLES)

    def difference(self, task: Task, a: str, b: str) -> float | None:
        """Return by how much an objective is above another on a test part, over the seeds that both have."""
        of_a, of_b = self._by_common_seeds(task, a, b)
        return mean(figure(of_a[seed], "test") - figure(of_b[seed], "test") for seed in of_a) if of_a else None

    def _by_common_seeds(self, task: Task, a: str, b: str) -> tuple[dict[int, Run], dict[int, Run]]:
        of_a, of_b = ({run["seed"]: run for run in self.by_task[task].get(name, [])} for name in (a, b))
        if a == START:  # it has no seeds: it is the same beside each
            of_a = {seed: run for run in of_a.values() for seed in of_b}
        if b == START:
            of_b = {seed: run for run in of_b.values() for seed in of_a}
        seeds = sorted(of_a.keys() & of_b.keys())
        return {seed: of_a[seed] for seed in seeds}, {seed: of_b[seed] for seed in seeds}

    def seeds_in_words(self) -> str:
        """Say which seeds there are, and which objectives have all of them wherever they were run."""
        tasks = [*self.tasks("choose"), *self.tasks("judge")]
        seeds: set[int] = set()
        found: dict[str, list[set[int]]] = defaultdict(list)
        for task, name in itertools.product(tasks, self.objectives):
            if name not in (START, TUNED) and (runs := self.by_task[task].get(name)):
                found[name].append({run["seed"] for run in runs})
                seeds |= found[name][-1]
        listed = ", ".join(map(str, sorted(seeds)))
        whole = [name for name, of_tasks in found.items() if all(of_task == seeds for of_task in of_tasks)]
        if len(whole) == len(found):
            return f"seeds {listed}"
        return (
            f"seeds {listed}, all of them on all tasks for {', '.join(whole) or 'no objective'} alone; two objectives "
            "are compared over the seeds that both have"
        )


def main_metric(run: Run) -> str:
    """Return the figure that judges a run: ``map`` or ``spearman``."""
    return next(iter(run["test"]))


def figure(run: Run, part: str, metric: str | None = None) -> float:
    """Return a score of a run on its dev or test part, x 100."""
    return run[part][metric or main_metric(run)]["score"]


def verdicts(study: Study, half: Half, part: str) -> dict[str, dict[str, Any]]:
    """Compare each candidate with the start, MNRL and tuned InfoNCE on the tasks of a half.

    The tests of a candidate against one of these, over all tasks, are one family, adjusted by Holm.

    Args:
        study: The runs.
        half: Which tasks.
        part: ``dev`` or ``test``.
    """
    found: dict[str, dict[str, Any]] = {}
    for candidate in study.candidates:
        found[candidate] = {}
        for other in (START, "MNRL", TUNED):
            tests = {
                "/".join(task): test
                for task in study.tasks(half)
                if (test := study.compare(task, candidate, other, part)) is not None
            }
            if not tests:
                continue
            p_values = holm([test.p_value for test in tests.values()])
            found[candidate][other] = {
                "average": mean(test.difference for test in tests.values()),
                "worst": min(tests, key=lambda name: tests[name].difference),
                "below": [
                    name
                    for (name, test), p in zip(tests.items(), p_values, strict=True)
                    if test.difference < 0 and p <= LEVEL
                ],
                "tests": {
                    name: {"difference": test.difference, "ci95": list(test.ci95), "p": test.p_value, "p_holm": p}
                    for (name, test), p in zip(tests.items(), p_values, strict=True)
                },
            }
    return found


def choice(of_choosing: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the candidate that is nowhere below start and MNRL beyond noise and, of those, best on average."""
    safe = [
        name
        for name, against in of_choosing.items()
        if against and not any(against[o]["below"] for o in (START, "MNRL"))
    ]
    return max(safe, key=lambda name: of_choosing[name]["MNRL"]["average"], default=None)


def write_report(study: Study, folder: Path) -> None:
    """Write ``default_loss.json``, ``.md`` and ``.png`` to a folder."""
    choosing, judging = verdicts(study, "choose", "dev"), verdicts(study, "judge", "test")
    confirming = verdicts(study, "confirm", "test")
    chosen = choice(choosing)
    runs = [
        run for objectives in study.by_task.values() for name, of in objectives.items() if name != TUNED for run in of
    ]
    document = {
        "command": "python -m eval.benchmarks.default_loss run --data DATA --models MODELS",
        "jobs": {
            name: {"kind": job.kind, "half": job.half, "rows": len(job.train[0])} for name, job in study.jobs.items()
        },
        "objectives": {o.name: {"loss": o.loss, "settings": o.settings, "role": o.role} for o in OBJECTIVES},
        "chosen": chosen,
        "choosing": choosing,
        "judging": judging,
        "confirming": confirming,
        "tuned": {"/".join(task): of[TUNED][0]["objective"] for task, of in study.by_task.items() if TUNED in of},
        "runs": [_without_items(run) for run in runs],
    }
    write_json(folder / "default_loss.json", document)
    write_text(folder / "default_loss.md", _markdown(study, choosing, judging, confirming, chosen))
    _picture(study, folder / "default_loss.png")


def _without_items(run: Run) -> Run:
    return run | {part: {name: of["score"] for name, of in run[part].items()} for part in ("dev", "test")}


def _markdown(
    study: Study,
    choosing: Mapping[str, Any],
    judging: Mapping[str, Any],
    confirming: Mapping[str, Any],
    chosen: str | None,
) -> str:
    runs = [run for objectives in study.by_task.values() for of in objectives.values() for run in of]
    seeds = sorted({run["seed"] for run in runs if run["objective"] != START})
    devices = sorted({f"{run['device']}, {run['precision']}" for run in runs})
    lines = [
        "# Which loss should be the default",
        "",
        "`python -m eval.benchmarks.default_loss run --data DATA --models MODELS`, then "
        f"`report --seeds {' '.join(map(str, seeds))}`",
        "",
        f"Runs of at most {max(run['steps'] for run in runs)} steps of 64 rows; {'; '.join(devices)}; "
        f"{study.seeds_in_words()}. Figures are mean average precision x 100 of the held-out queries (of dropout "
        "jobs Spearman x 100), mean ± standard deviation over the seeds. One setting of a candidate for all jobs; "
        f"`{TUNED}` takes for each job the temperature that its development part prefers. Differences are tested by "
        "a paired bootstrap over queries and seeds, p values adjusted by Holm over the tasks of a row at a time; "
        "*below* are the tasks on which a candidate is worse at 0.05.",
        "",
        "The adaptive temperature was thought of when the figures of all others on the first two parts were known, and "
        "chosen by them. What judges it is the third part, to which `sentiment` and `backwards` were then added.",
        "",
        "## Choosing: development parts of the first half of the jobs",
        "",
        *_verdict_table(choosing),
        "",
        f"Nowhere below the start or MNRL, and best on average: **{chosen or 'none'}**.",
        "",
        "## Judging: test parts of the other half",
        "",
        *_verdict_table(judging),
        "",
        "## Confirming: test parts of jobs that were kept back until few candidates were left",
        "",
        *_verdict_table(confirming),
        "",
        "## By kind of data: test parts of both halves, points above MNRL (of dropout jobs above InfoNCE 0.05)",
        "",
        *_kinds_table(study),
        "",
        "The same with 95% intervals, of a paired bootstrap over queries and the seeds that all tasks of a kind have:",
        "",
        *_intervals_table(study),
        "",
    ]
    if apart := study.tasks_apart:
        lines += [
            "## From a masked language model",
            "",
            f"Test parts of jobs of both halves, from `{APART}`, which was never trained to embed; few objectives.",
            "",
            *_score_table(study, apart, "test", None),
            "",
            "The same in points above MNRL (of dropout jobs above InfoNCE 0.05), with 95% intervals:",
            "",
            *_differences_table(study, apart),
            "",
        ]
    halves = ("choose", "test"), ("judge", "test"), ("confirm", "test"), ("apart", "dev"), ("apart", "test")
    for half, part in halves:
        tasks = study.tasks(half)
        for metric, title in ((None, "main figure"), ("accuracy@1", "accuracy@1")):
            shown = [task for task in tasks if metric is None or metric in _any_run(study, task)["test"]]
            if shown:
                lines += [f"## Scores, jobs of the half *{half}*, {part} part, {title}", ""]
                lines += [*_score_table(study, shown, part, metric), ""]
    return "\n".join(lines)


def _any_run(study: Study, task: Task) -> Run:
    return next(iter(study.by_task[task].values()))[0]


def _verdict_table(of_half: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        f"| candidate | - start | - MNRL | - {TUNED} | worst against the start | worst against MNRL | below the start "
        "| below MNRL |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, against in of_half.items():
        if not all(other in against for other in (START, "MNRL")):
            continue
        cells = [f"{against[other]['average']:+.2f}" if other in against else "" for other in (START, "MNRL", TUNED)]
        for other in (START, "MNRL"):
            worst = against[other]["worst"]
            cells.append(f"{against[other]['tests'][worst]['difference']:+.2f} {worst}")
        cells += [", ".join(against[other]["below"]) or "nowhere" for other in (START, "MNRL")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _kinds_table(study: Study) -> list[str]:
    """A row for each kind of data: the average of its tasks, of each objective that was run on all of them."""
    names = [name for name in BY_KIND if name in study.objectives]
    lines = [f"| kind of data | tasks | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for kind, tasks in study.tasks_by_kind().items():
        reference = _reference(kind)
        cells = []
        for name in names:
            differences = [study.difference(task, name, reference) for task in tasks]
            found = [difference for difference in differences if difference is not None]
            cells.append(f"{mean(found):+.2f}" if len(found) == len(tasks) else "")
        lines.append(f"| {kind} | {len(tasks)} | {' | '.join(cells)} |")
    return lines


def _reference(kind: str) -> str:
    return "InfoNCE 0.05" if kind == "dropout" else "MNRL"


def _intervals_table(study: Study) -> list[str]:
    """A row for each kind of data: the same differences with their 95% intervals."""
    names = [name for name in WITH_INTERVALS if name in study.objectives]
    lines = [f"| kind of data | tasks | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for kind, tasks in study.tasks_by_kind().items():
        tests = [
            None if name == (other := _reference(kind)) else study.compare_all(tasks, name, other) for name in names
        ]
        lines.append(f"| {kind} | {len(tasks)} | {' | '.join(map(_with_interval, tests))} |")
    return lines


def _differences_table(study: Study, tasks: Sequence[Task]) -> list[str]:
    """A row for each objective: its difference on each task, with its 95% interval."""
    lines = [f"| objective | {' | '.join(job for job, _ in tasks)} |", "|---" * (len(tasks) + 1) + "|"]
    for name in study.objectives:
        others = [_reference(study.jobs[job].kind) for job, _ in tasks]
        tests = [
            None if name == other else study.compare(task, name, other, "test")
            for task, other in zip(tasks, others, strict=True)
        ]
        if name != START and any(tests):
            lines.append(f"| {name} | {' | '.join(map(_with_interval, tests))} |")
    return lines


def _with_interval(test: PairedTest | None) -> str:
    return "" if test is None else f"{test.difference:+.2f} ({test.ci95[0]:+.2f} to {test.ci95[1]:+.2f})"


def _score_table(study: Study, tasks: Sequence[Task], part: str, metric: str | None) -> list[str]:
    names = [job if start == "minilm" else f"{job}, {start}" for job, start in tasks]
    lines = [f"| objective | {' | '.join(names)} | average |", "|---" * (len(tasks) + 2) + "|"]
    for objective in study.objectives:
        scores = [study.scores(task, objective, part, metric) for task in tasks]
        if not any(scores):
            continue
        cells = [_spread(of_task) for of_task in scores]
        average = f"{mean(mean(of_task) for of_task in scores):.2f}" if all(scores) else ""
        lines.append(f"| {objective} | {' | '.join(cells)} | {average} |")
    return lines


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _picture(study: Study, file: Path) -> None:
    """Draw each candidate's difference to MNRL on each task, as a table in colours."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    tasks = [*study.tasks("choose"), *study.tasks("judge"), *study.tasks("confirm")]
    names = [name for name in study.objectives if name != "MNRL"]
    differences = np.full((len(names), len(tasks)), np.nan)
    for (row, name), (column, task) in itertools.product(enumerate(names), enumerate(tasks)):
        if (difference := study.difference(task, name, "MNRL")) is not None:
            differences[row, column] = difference
    figure, axes = plt.subplots(figsize=(2.5 + 0.62 * len(tasks), 1.8 + 0.3 * len(names)), layout="constrained")
    picture = axes.imshow(np.clip(differences, -10, 10), cmap="RdBu", vmin=-10, vmax=10, aspect="auto")
    for (row, column), value in np.ndenumerate(differences):
        if not np.isnan(value):
            colour = "white" if abs(value) > 6 else "black"
            axes.text(column, row, f"{value:+.1f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(tasks)), [job if start == "minilm" else f"{job}\n{start}" for job, start in tasks])
    axes.tick_params(axis="x", labelrotation=60, labelsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    halves = len(study.tasks("choose"))
    axes.axvline(halves - 0.5, color="black")
    axes.axvline(halves + len(study.tasks("judge")) - 0.5, color="black")
    axes.set_title("Points above MNRL, test parts\nfrom left to right: choosing, judging, confirming", fontsize=9)
    figure.colorbar(picture, ax=axes, label="points, cut off at ±10", shrink=0.6)
    figure.savefig(file, dpi=150)
    plt.close(figure)
