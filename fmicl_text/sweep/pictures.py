"""A sweep on the page of a report: its verdict, its trials, and four pictures of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fmicl_text.report.page import Chapter, Table
from fmicl_text.report.pictures import Picture
from fmicl_text.runs.plots import COLOURS
from fmicl_text.sweep.board import Board, Trial
from fmicl_text.sweep.plan import FINALISTS, Plan
from fmicl_text.sweep.space import Range
from fmicl_text.sweep.verdict import Verdict, tried
from fmicl_text.training.criterion import Criterion

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTHS = ("loss.sigma", "loss.temperature")
_BALANCE = "loss.balance_cosine"
_MAP = "viridis"


def chapter(plan: Plan, board: Board, criterion: Criterion, found: Verdict) -> Chapter:
    """Return the chapter of a sweep."""
    trials = [trial for trial in board.trials() if trial.arm != FINALISTS]
    headings, rows = found.table()
    of_trials = Table(
        "trials", ["number", "default", "best", "settings of the best"], tried(plan, board, trials, criterion)
    )
    done = [trial for trial in trials if trial.score is not None]
    return Chapter(
        title="The sweep",
        text=f"{found.summary}. {found.chooses} chooses, {found.judges} judges, by seeds that chose nothing.",
        tables=[Table("finalist", headings, rows), of_trials],
        pictures=list(pictures(plan, done, found.chooses, bool(criterion.metric.higher_is_better))),
        warnings=[],
        notes=found.warnings,
    )


def pictures(plan: Plan, trials: Sequence[Trial], score: str, higher_is_better: bool) -> list[Picture]:
    """Return the pictures of trials that have a score: those that their settings allow."""
    defaults = {trial.name for trial in trials if plan.is_default(trial.arm, trial.settings)}
    by_arm = partial(_by_arm, trials=trials, score=score, defaults=defaults)
    drawn = [
        Picture("objectives", f"{score} of every trial, by objective", by_arm),
        Picture("cost", f"seconds and {score} of every trial", partial(_cost, trials=trials, score=score)),
    ]
    if any(_width(trial) is not None and _BALANCE in trial.settings for trial in trials):
        text = f"{score} by kernel width and balance"
        drawn.append(Picture("balance-width", text, partial(_map, trials=trials, score=score)))
    axes = list(dict.fromkeys(key for trial in trials for key in trial.settings))
    if len(axes) > 1:
        log = {key for arm in plan.arms for key, of in arm.tuned.items() if isinstance(of, Range) and of.log}
        text = f"settings and {score} of every trial"
        draw = partial(_parallel, trials=trials, score=score, keys=axes, log=log, higher_is_better=higher_is_better)
        drawn.append(Picture("parallel", text, draw))
    return drawn


def _colours(trials: Sequence[Trial]) -> dict[str, str]:
    arms = dict.fromkeys(trial.arm for trial in trials)
    return {arm: COLOURS[number % len(COLOURS)] for number, arm in enumerate(arms)}


def _width(trial: Trial) -> float | None:
    """Return the temperature of a trial's kernel; that of a Gaussian is its width squared."""
    sigma, temperature = (trial.settings.get(key) for key in _WIDTHS)
    if isinstance(sigma, int | float):
        return float(sigma) ** 2
    return float(temperature) if isinstance(temperature, int | float) else None


def _scores(trials: Sequence[Trial]) -> np.ndarray:
    return np.array([trial.score for trial in trials], dtype=float)


def _by_arm(axes: Axes, trials: Sequence[Trial], score: str, defaults: Collection[str]) -> None:
    """Draw every trial as a point, a row for each arm; the default is a ring."""
    colours = _colours(trials)
    for row, (arm, colour) in enumerate(colours.items()):
        of_arm = [trial for trial in trials if trial.arm == arm]
        beside = row + np.linspace(-0.2, 0.2, len(of_arm)) if len(of_arm) > 1 else np.array([float(row)])
        default = np.array([trial.name in defaults for trial in of_arm])
        values = _scores(of_arm)
        axes.plot(values[~default], beside[~default], "o", color=colour, markersize=4, alpha=0.8)
        axes.plot(values[default], beside[default], "o", color=colour, fillstyle="none", markersize=7)
    axes.set_yticks(range(len(colours)), list(colours))
    axes.invert_yaxis()
    axes.set(title="trials by objective; rings: the default", xlabel=score)


def _cost(axes: Axes, trials: Sequence[Trial], score: str) -> None:
    """Draw time against score."""
    for arm, colour in _colours(trials).items():
        of_arm = [trial for trial in trials if trial.arm == arm and trial.seconds is not None]
        axes.plot([t.seconds or 0.0 for t in of_arm], _scores(of_arm), "o", color=colour, markersize=4, label=arm)
    axes.set(title="cost and score", xlabel="seconds of training", ylabel=score)
    axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _map(axes: Axes, trials: Sequence[Trial], score: str) -> None:
    """Draw the score over temperature and balance."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    found = [(width, t) for t in trials if (width := _width(t)) is not None and _BALANCE in t.settings]
    balances = np.array([t.settings[_BALANCE] for _, t in found], dtype=float)
    shown = axes.scatter([width for width, _ in found], balances, c=_scores([t for _, t in found]), cmap=_MAP, s=30)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(title="width and balance", xlabel="temperature, or sigma squared", ylabel="balance cosine")
    axes.figure.colorbar(shown, ax=axes, label=score)


def _parallel(
    axes: Axes, trials: Sequence[Trial], score: str, keys: Sequence[str], log: set[str], higher_is_better: bool
) -> None:
    """Draw a line for each trial through its settings, the arm first and the score last; better ones are brighter.

    Past an axis of which a trial has no value its line is dotted, as no value is to be read off there.
    """
    import matplotlib

    columns: list[list[object]] = [[trial.arm for trial in trials]]
    columns += [[trial.settings.get(key) for trial in trials] for key in keys]
    heights = [_heights(column, key in log) for column, key in zip(columns, ["", *keys], strict=True)]
    values = _scores(trials)
    span = float(np.ptp(values)) or 1.0
    heights.append((values - values.min()) / span)
    goodness = heights[-1] if higher_is_better else 1 - heights[-1]
    colours = matplotlib.colormaps[_MAP]
    for number in np.argsort(goodness):
        points = np.array([column[number] for column in heights])
        places = np.flatnonzero(np.isfinite(points))
        style = {"color": colours(goodness[number]), "alpha": 0.8}
        axes.plot(places, points[places], ":", linewidth=0.6, **style)
        axes.plot(points, "o-", linewidth=1.2, markersize=3, **style)
    columns.append(list(values.tolist()))
    for x, column in enumerate(columns):
        for height, label in _ends(column):
            axes.annotate(label, (x, height), fontsize=6, xytext=(2, 0), textcoords="offset points", va="center")
    names = ["objective", *(key.rpartition(".")[2] for key in keys), score]
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right", fontsize=7)
    axes.set_yticks([])
    axes.set_title("settings and score of every trial; dotted: past settings it does not have", fontsize=9)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _heights(column: Sequence[object], log: bool) -> np.ndarray:
    """Return where the values of a column are, from 0 to 1; NaN where there is none."""
    given = [value for value in column if value is not None]
    if all(map(_is_number, given)):
        numbers = np.array([np.nan if value is None else value for value in column], dtype=float)
        numbers = np.log(numbers) if log else numbers
        low, high = np.nanmin(numbers), np.nanmax(numbers)
        return (numbers - low) / ((high - low) or 1.0)
    places = _places(given)
    return np.array([np.nan if value is None else places[str(value)] for value in column])


def _ends(column: Sequence[object]) -> list[tuple[float, str]]:
    """Return what is written beside a column: the ends of numbers, or each name."""
    given = [value for value in column if value is not None]
    if all(map(_is_number, given)):
        low, high = min(given), max(given)  # type: ignore[type-var]
        return [(0.0, f"{low:.3g}")] + ([(1.0, f"{high:.3g}")] if high != low else [])
    return [(height, name) for name, height in _places(given).items()]


def _places(values: Sequence[object]) -> dict[str, float]:
    """Return where names are, the first on top."""
    names = list(dict.fromkeys(map(str, values)))
    return {name: 1 - number / max(len(names) - 1, 1) for number, name in enumerate(names)}
