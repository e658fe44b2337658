"""The format of figures in the page's cells."""

from __future__ import annotations

from fmicl_text.evaluation.results import Score


def number(value: float, unit: str = "%") -> str:
    """Write a figure: two decimals of a percentage, four digits of a plain number."""
    return f"{value:.2f}" if unit == "%" else f"{value:.4g}"


def mean_sd(found: tuple[float, float | None], unit: str = "%") -> str:
    """Write a mean with its deviation, if there is one."""
    mean, sd = found
    return number(mean, unit) + (f"\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{number(sd, unit)}" if sd is not None else "")


def scored(score: Score | None) -> str:
    """Write a score with its interval; nothing if there is no score."""
    if score is None:
        return ""
    return number(score.value, score.unit) + (f" ({interval(score.ci95, score.unit)})" if score.ci95 else "")


def difference(value: float, unit: str = "%") -> str:
    """Write a difference of scores, with its sign."""
    return f"{value:+.2f}" if unit == "%" else f"{value:+.4g}"


def interval(ends: tuple[float, float] | None, unit: str = "%") -> str:
    """Write an interval, unbreakable: a line that is too long breaks before it."""
    return "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}".join(number(end, unit) for end in ends) if ends else ""


def signed_interval(ends: tuple[float, float] | None, unit: str = "%") -> str:
    """Write the interval of a difference of scores."""
    return "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}".join(difference(end, unit) for end in ends) if ends else ""


def p_value(p: float | None) -> str:
    """Write the p-value of a test, if there was one."""
    return "" if p is None else f"{p:.3f}"
