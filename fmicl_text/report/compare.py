"""Runs side by side: differences with paired tests, seeds as repeated measures, and what is inside the noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fmicl_text.evaluation.statistics import PairedTest, holm, paired_test
from fmicl_text.report.runs import PairScores, Run, spread

_LEVEL = 0.05
_FEW = 5  # seeds, of whose variance a bootstrap sees less than 4/5


@dataclass(frozen=True)
class Difference:
    """How one score of a run differs from another run's, in points.

    Attributes:
        score: Its name.
        run: Mean and standard deviation over the seeds of the run.
        other: The same of the run it is compared with.
        difference: Of the means, over the seeds that are compared.
        ci95: 95% interval of the difference; None if no paired test could be made.
        p_value: Two-sided, adjusted for all scores of the suite (Holm); None likewise.
    """

    score: str
    run: tuple[float, float | None]
    other: tuple[float, float | None]
    difference: float
    ci95: tuple[float, float] | None = None
    p_value: float | None = None

    @property
    def inside_noise(self) -> bool | None:
        """Whether chance alone could have made the difference; None if it was not tested."""
        return None if self.p_value is None else self.p_value > _LEVEL

    @property
    def verdict(self) -> str:
        """The same in words."""
        return {None: "not tested", True: "inside the noise", False: "differs"}[self.inside_noise]


@dataclass(frozen=True)
class Comparison:
    """A run against another on one suite.

    Attributes:
        run: Name of the run.
        other: Name of the run it is compared with.
        suite: Name of the suite.
        seeds: Pairs of seeds, the run's and the other's, that are compared with each other.
        rows: A difference a score.
        warnings: What keeps the differences from meaning more.
    """

    run: str
    other: str
    suite: str
    seeds: list[tuple[int, int]]
    rows: list[Difference]
    warnings: list[str] = field(default_factory=list)


def compare(run: Run, other: Run) -> list[Comparison]:
    """Compare two runs on every suite that both have.

    Seeds are paired by their number, as they share the order of the data; if the runs have none in common, in rising
    order.
    """
    common = [seed for seed in run.seeds if seed in other.seeds]
    seeds = [(seed, seed) for seed in common] or list(zip(sorted(run.seeds), sorted(other.seeds), strict=False))
    theirs = other.tables()
    return [_compare(run, other, suite, seeds) for suite in run.tables() if suite in theirs]


def _compare(run: Run, other: Run, suite: str, seeds: list[tuple[int, int]]) -> Comparison:
    warnings = []
    if len(run.seeds) > len(seeds) or len(other.seeds) > len(seeds):
        warnings.append(f"only {len(seeds)} of the seeds are compared, as the runs do not have the same ones")
    if len(seeds) == 1:
        warnings.append(
            "one seed each: the intervals say what other sentences would change, not what another seed would; "
            "unsupervised STS averages move by about 2 points with the seed"
        )
    ours, theirs = [run.seeds[seed].results for seed, _ in seeds], [other.seeds[seed].results for _, seed in seeds]
    names = [
        name
        for name in ours[0].tables[suite].scores
        if all(name in result.tables[suite].scores for result in (*ours, *theirs))
    ]
    if 1 < len(seeds) < _FEW:
        warnings.append(f"{len(seeds)} seeds: so few understate how much seeds differ, and the intervals with them")
    values, others = (
        {name: [result.tables[suite].scores[name].value for result in of_run] for name in names}
        for of_run in (ours, theirs)
    )
    tests: dict[str, PairedTest] = {}
    if all(suite in result.pairs for result in (*ours, *theirs)):
        a, b = ([result.pairs[suite] for result in of_run] for of_run in (ours, theirs))
        if _same_pairs([*a, *b]):
            tests = _tests(a, b, names)
        else:
            warnings.append("no paired test: the runs were scored on other pairs")
    else:
        warnings.append("no paired test: what each item scored is not among the results")
    adjusted = dict(zip(tests, holm([test.p_value for test in tests.values()]), strict=True))
    rows = [
        Difference(
            score=name,
            run=spread(values[name]),
            other=spread(others[name]),
            difference=float(np.mean(values[name]) - np.mean(others[name])),
            ci95=tests[name].ci95 if name in tests else None,
            p_value=adjusted.get(name),
        )
        for name in names
    ]
    noise = [row.score for row in rows if row.inside_noise]
    if noise:
        warnings.insert(0, f"inside the noise: {', '.join(noise)}; do not call one run better on these")
    return Comparison(run.name, other.name, suite, seeds, rows, warnings)


def _tests(a: list[dict[str, PairScores]], b: list[dict[str, PairScores]], names: list[str]) -> dict[str, PairedTest]:
    """Test every task by itself, and the average of all."""
    gold = {task: scores.gold for task, scores in a[0].items()}
    systems = [{task: np.stack([seed[task].similarities for seed in of_run]) for task in gold} for of_run in (a, b)]

    def test(tasks: Mapping[str, np.ndarray]) -> PairedTest:
        ours, theirs = ({task: system[task] for task in tasks} for system in systems)
        return paired_test(tasks, ours, theirs)

    by_task = {task: test({task: gold[task]}) for task in gold if task in names}
    return by_task | ({"average": test(gold)} if "average" in names else {})


def _same_pairs(seeds: list[dict[str, PairScores]]) -> bool:
    first = seeds[0]
    return all(
        seed.keys() == first.keys() and all(np.array_equal(seed[task].gold, first[task].gold) for task in first)
        for seed in seeds[1:]
    )
