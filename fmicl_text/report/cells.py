"""How figures are written in the page's cells."""

from __future__ import annotations

from fmicl_text.evaluation.geometry import Estimate
from fmicl_text.report.results import Table
from fmicl_text.report.runs import spread


def mean_sd(found: tuple[float, float | None]) -> str:
    """Write a mean with its deviation, if there is one."""
    mean, sd = found
    return f"{mean:.2f}" + (f" ± {sd:.2f}".replace(" ", "\N{NO-BREAK SPACE}") if sd is not None else "")


def scored(of_seed: Table, name: str) -> str:
    """Write a score with its interval."""
    score = of_seed.scores.get(name)
    if score is None:
        return ""
    return f"{score.value:.2f}" + (f" ({written_interval(score.ci95)})" if score.ci95 else "")


def measured(of_seeds: list[Estimate | float | None]) -> str:
    """Write a measure of the geometry: mean and deviation over the seeds; one seed has its interval instead."""
    values = [found.value if isinstance(found, Estimate) else found for found in of_seeds if found is not None]
    if not values:
        return "none" if of_seeds else ""
    if len(of_seeds) == 1 and isinstance(of_seeds[0], Estimate):
        return f"{values[0]:.4g} ({written_interval(of_seeds[0].ci95, '.4g')})"
    mean, sd = spread(values)
    return f"{mean:.4g}" + (f" ± {sd:.2g}" if sd else "")


def points(difference: float) -> str:
    """Write a difference of scores, with its sign."""
    return f"{difference:+.2f}"


def signed_interval(interval: tuple[float, float] | None) -> str:
    """Write the interval of a difference of scores."""
    return written_interval(interval, "+.2f")


def written_interval(interval: tuple[float, float] | None, digits: str = ".2f") -> str:
    """Write an interval, unbreakable: a line that is too long breaks before it."""
    return f"{interval[0]:{digits}} to {interval[1]:{digits}}".replace(" ", "\N{NO-BREAK SPACE}") if interval else ""


def p_value(p: float | None) -> str:
    """Write the p-value of a test, if there was one."""
    return "" if p is None else f"{p:.3f}"
