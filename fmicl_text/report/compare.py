"""Runs side by side: differences with paired tests, seeds as repeated measures, and what is inside the noise."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fmicl_text.evaluation.items import Parts
from fmicl_text.evaluation.paired import PairedTest, paired_test, same_items
from fmicl_text.evaluation.statistics import holm
from fmicl_text.report.results import Results
from fmicl_text.report.runs import Run, spread

_LEVEL = 0.05
_AVERAGE = "average"
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
    tests, untested = _tests(names, _items(suite, ours), _items(suite, theirs))
    warnings += untested
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


def _tests(
    names: list[str], a: dict[str, list[Parts]], b: dict[str, list[Parts]]
) -> tuple[dict[str, PairedTest], list[str]]:
    """Test every score by itself, and the average if it is that of tasks which all were; say which could not be."""
    tasks = [name for name in names if name != _AVERAGE]
    known = [name for name in tasks if name in a and name in b]
    paired = [name for name in known if same_items([*a[name], *b[name]])]
    tests = {name: paired_test({name: a[name]}, {name: b[name]}) for name in paired}
    if _AVERAGE in names and paired == tasks:
        ours, theirs = ({name: of_run[name] for name in tasks} for of_run in (a, b))
        tests[_AVERAGE] = paired_test(ours, theirs)
    why = {
        "what each item scored is not among the results": [name for name in tasks if name not in known],
        "the runs were scored on other items": [name for name in known if name not in paired],
    }
    return tests, [f"no paired test of {', '.join(scores)}: {reason}" for reason, scores in why.items() if scores]


def _items(suite: str, seeds: list[Results]) -> dict[str, list[Parts]]:
    """Return the items of each score, once a seed, of those scores of which every seed has them."""
    found = [of_seed.items.get(suite, {}) for of_seed in seeds]
    return {name: [items[name] for items in found] for name in found[0] if all(name in items for items in found)}
