"""Runs side by side: differences with paired tests, seeds as repeated measures, and what is inside the noise."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fmicl_text.evaluation.items import Parts
from fmicl_text.evaluation.paired import PairedTest, paired_test, same_items
from fmicl_text.evaluation.results import Result, Score
from fmicl_text.evaluation.statistics import holm
from fmicl_text.report.results import labels
from fmicl_text.report.runs import Run, spread

LEVEL = 0.05
"""A p value above this is inside the noise."""
_AVERAGE = "average"
_FEW = 5  # seeds, of whose variance a bootstrap sees less than 4/5

Seeds = tuple[int | None, int | None]
"""A seed of a run, and one of the run it is compared with; None for a model that was not trained."""


@dataclass(frozen=True)
class Difference:
    """How one score of a run differs from another run's, in its unit.

    Attributes:
        score: Its label in the table of the suite.
        run: Mean and standard deviation over the seeds of the run.
        other: The same of the run it is compared with.
        difference: Of the means, over the seeds that are compared.
        unit: Of the figures: ``%`` for points, empty for a plain number.
        higher_is_better: None if neither high nor low values are better.
        ci95: 95% interval of the difference; None if no paired test could be made.
        p_value: Two-sided, adjusted for all scores of the suite (Holm); None likewise.
    """

    score: str
    run: tuple[float, float | None]
    other: tuple[float, float | None]
    difference: float
    unit: str = "%"
    higher_is_better: bool | None = True
    ci95: tuple[float, float] | None = None
    p_value: float | None = None

    @property
    def inside_noise(self) -> bool | None:
        """Whether chance alone could have made the difference; None if it was not tested."""
        return None if self.p_value is None else self.p_value > LEVEL

    @property
    def better(self) -> bool | None:
        """Whether the run is better than the other, and worse if not; None if that cannot be said."""
        if self.inside_noise is not False or self.higher_is_better is None:
            return None
        return (self.difference > 0) == self.higher_is_better

    @property
    def verdict(self) -> str:
        """The same in words."""
        if self.inside_noise is None:
            return "not tested"
        if self.inside_noise:
            return "inside the noise"
        return {True: "better", False: "worse", None: "differs"}[self.better]


@dataclass(frozen=True)
class Comparison:
    """A run against another on one suite.

    Attributes:
        run: Name of the run.
        other: Name of the run it is compared with.
        suite: Title of the result.
        seeds: Pairs of seeds, the run's and the other's, that are compared with each other.
        rows: A difference for each score that was measured on the same data.
        warnings: Reasons to read the differences with caution, and why other scores are not compared.
    """

    run: str
    other: str
    suite: str
    seeds: list[Seeds]
    rows: list[Difference]
    warnings: list[str] = field(default_factory=list)


def compare(run: Run, other: Run) -> list[Comparison]:
    """Compare two runs on every suite that both have: all percentages, and of other scores those that can be tested.

    Scores of baselines, such as raw pixels, are not among them: they would only make the adjusted p values larger.

    Seeds are paired by their number, as they share the order of the data; if the runs have none in common, in rising
    order. A model that was not trained is compared with every seed. Scores of different data are not subtracted.
    """
    if not (run.trained and other.trained):
        seeds: list[Seeds] = [(ours, theirs) for ours in run.seeds for theirs in other.seeds]
    else:
        common = [seed for seed in run.seeds if seed in other.seeds]
        seeds = [(seed, seed) for seed in common] or list(zip(run.seeds, other.seeds, strict=False))
    theirs = other.results()
    compared = [_compare(run, other, suite, seeds) for suite in run.results() if suite in theirs]
    return [comparison for comparison in compared if comparison.rows or comparison.warnings]


def _compare(run: Run, other: Run, suite: str, seeds: list[Seeds]) -> Comparison:
    ours, theirs = [run.seeds[seed].results for seed, _ in seeds], [other.seeds[seed].results for _, seed in seeds]
    of_runs = [[results.scores(suite) for results in of_run] for of_run in (ours, theirs)]
    first = {key: score for key, score in of_runs[0][0].items() if not score.baseline}  # it says nothing of a run
    items = [items_of_seeds([results.items.get(suite, {}) for results in of_run]) for of_run in (ours, theirs)]
    keys = [key for key in first if all(key in scores for of_run in of_runs for scores in of_run)]
    keys = [key for key in keys if first[key].unit == "%" or all(key in of_run for of_run in items)]
    measured = [results.by_title[suite] for of_run in (ours, theirs) for results in of_run]
    different = _different({key: first[key] for key in keys}, measured, *items)
    keys = [key for key in keys if key not in different]
    tests = paired_tests({key: first[key] for key in keys}, *items)
    untested = [key for key in keys if key not in tests and not _is_average(first[key])]
    adjusted = dict(zip(tests, holm([test.p_value for test in tests.values()]), strict=True))
    _, names = labels(first.values())
    rows = [
        Difference(
            score=names[key],
            run=spread(_values(run, of_runs[0], key)),
            other=spread(_values(other, of_runs[1], key)),
            difference=float(np.mean([a[key].value - b[key].value for a, b in zip(*of_runs, strict=True)])),
            unit=first[key].unit,
            higher_is_better=first[key].higher_is_better,
            ci95=tests[key].ci95 if key in tests else None,
            p_value=adjusted.get(key),
        )
        for key in keys
    ]
    noise = [row.score for row in rows if row.inside_noise]
    warnings = [f"inside the noise: {', '.join(noise)}; do not call one run better on these"] if noise else []
    warnings += _warn_of_seeds(run, other, seeds, of_sts=measured[0].kind == "sts") if rows else []
    if untested:
        of = ", ".join(names[key] for key in untested)
        warnings.append(f"no paired test of {of}: what each item scored is not among the results")
    for why in dict.fromkeys(different.values()):
        of = ", ".join(names[key] for key in different if different[key] == why)
        warnings.append(f"not compared: {of}, as {why}")
    return Comparison(run.name, other.name, suite, seeds, rows, warnings)


def _values(run: Run, seeds: list[dict[str, Score]], key: str) -> list[float]:
    """Return a score of each compared seed; a model that was not trained has only one."""
    return [scores[key].value for scores in (seeds if run.trained else seeds[:1])]


def _different(
    scores: dict[str, Score], measured: list[Result], a: dict[str, list[Parts]], b: dict[str, list[Parts]]
) -> dict[str, str]:
    """Return why scores were not measured on the same data, by key.

    The items tell it; where they are not known, the number of items and what the results say of the data. An average is
    of different data if any of its tasks is.
    """
    why = {}
    sources = list(dict.fromkeys(result.data for result in measured if result.data is not None))
    for key, score in scores.items():
        if key in a and key in b:
            if not same_items([*a[key], *b[key]]):
                why[key] = "the runs were scored on different items"
            continue
        numbers = dict.fromkeys(s.n for result in measured for s in result.scores if s.key == key and s.n is not None)
        if len(numbers) > 1:
            why[key] = f"the runs were scored on {' and '.join(f'{n:,}' for n in numbers)} items"
        elif len(sources) > 1 and not _is_average(score):
            why[key] = f"the data was {' and '.join(sources)}"
    for key, score in scores.items():
        tasks = [task for task in why if scores[task].metric == score.metric]
        if _is_average(score) and key not in a and tasks:
            why.setdefault(key, why[tasks[0]])
    return why


def _is_average(score: Score) -> bool:
    return score.name == _AVERAGE


def _warn_of_seeds(run: Run, other: Run, seeds: list[Seeds], of_sts: bool) -> list[str]:
    if not (run.trained or other.trained):
        return []
    warnings = []
    compared = len(seeds)
    if any(one.trained and len(one.seeds) > compared for one in (run, other)):
        warnings.append(f"only {compared} of the seeds are compared, as the runs do not have the same ones")
    if compared == 1:
        each = "one seed each" if run.trained and other.trained else "one seed"
        usual = "; unsupervised STS averages move by about 2 points with the seed" if of_sts else ""
        warnings.append(f"{each}: the intervals say what other items would change, not what another seed would{usual}")
    elif compared < _FEW:
        warnings.append(f"{compared} seeds: so few understate how much seeds differ, and the intervals with them")
    return warnings


def paired_tests(
    scores: dict[str, Score], a: dict[str, list[Parts]], b: dict[str, list[Parts]]
) -> dict[str, PairedTest]:
    """Test every score whose items are known by itself, and an average if all tasks of its metric were tested.

    Args:
        scores: Key -> a score of one seed, for its names; all of the same data.
        a: Key -> what each item scored, one entry per seed; see :func:`items_of_seeds`.
        b: The same of the other run.
    """
    tests = {key: paired_test_of(key, scores, a, b) for key in scores}
    return {key: test for key, test in tests.items() if test is not None}


def paired_test_of(
    key: str, scores: dict[str, Score], a: dict[str, list[Parts]], b: dict[str, list[Parts]]
) -> PairedTest | None:
    """Test one score as :func:`paired_tests` does; None if its items, or those of a task of it, are not known."""
    parts = [key]
    if _is_average(scores[key]) and key not in a:
        tasks = [other for other, score in scores.items() if other in a or not _is_average(score)]
        parts = [other for other in tasks if scores[other].metric == scores[key].metric] or tasks
    if any(part not in a or part not in b for part in parts):
        return None
    return paired_test({part: a[part] for part in parts}, {part: b[part] for part in parts})


def items_of_seeds(seeds: list[dict[str, Parts]]) -> dict[str, list[Parts]]:
    """Return the items of each score that every seed has items of, one entry per seed."""
    return {key: [items[key] for items in seeds] for key in seeds[0] if all(key in items for items in seeds)}
