"""Pictures: each function draws one subject into axes; :func:`save_png` and :func:`svg` make files of them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fmicl_text.evaluation.density_ratio import binned_log_ratio, gaussian_log_ratio
from fmicl_text.evaluation.geometry import Geometry, Layout
from fmicl_text.files import write_bytes
from fmicl_text.quiet import quietened
from fmicl_text.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fmicl_text.evaluation.results import Result

Draw = Callable[["Axes"], None]
Theme = Literal["light", "dark"]
Curve = tuple[Sequence[float], Sequence[float]]
"""Steps, and the value at each."""

COLOURS = ("#3b82c4", "#dd6b3d", "#3f9e6e", "#a56cc1", "#b3892b", "#c75b8a")
"""Colours of runs, of middle brightness: they stand out on white and on black."""
_POSITIVE, _HARD, _RANDOM = COLOURS[0], COLOURS[4], COLOURS[1]
_SIZE = (4.8, 3.3)
_LABEL = 32  # characters of a name in a legend
_STEADY = 0.02  # the least height of an axis, as a share of the values on it
_STYLE = {
    "text.parse_math": False,  # names may have dollar signs
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "fmicl-text",  # the same picture is the same file
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
_FONTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans CJK KR",
    "Source Han Sans",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "IPAexGothic",
    "IPAGothic",
    "Hiragino Sans",
    "PingFang SC",
    "Apple SD Gothic Neo",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Arial Unicode MS",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
)
"""Fonts that have what DejaVu Sans lacks, Chinese, Japanese and Korean first; those that are installed are used."""
_INK = {"light": ("#24292f", "#d8dee4"), "dark": ("#d8dee4", "#3a424c")}
"""Theme -> colour of text and axes, and of the grid."""


def svg(draw: Draw, theme: Theme) -> str:
    """Return a picture as SVG on a transparent ground, for a page of either theme."""
    file = io.StringIO()
    with _style(theme):
        _figure([draw]).savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return visible(file.getvalue())  # XML has no control characters


def save_png(path: Path, *draw: Draw, title: str | None = None) -> None:
    """Write a picture of one or more panels side by side, on white; a link at ``path`` is replaced, not followed."""
    file = io.BytesIO()
    with _style("light"):
        _figure(draw, title).savefig(file, format="png", dpi=150)
    write_bytes(path, file.getvalue())


def plot_training(history: list[dict[str, Any]], path: Path, title: str, criterion: str | None = None) -> None:
    """Draw both loss terms, the learning rate and, if there was one, the development score over the steps.

    Args:
        history: The trainer's log: entries with ``step`` and any of ``positive``, ``negative``, ``learning_rate`` and
            ``eval_`` with the name of the criterion.
        path: The PNG to write.
        title: The run's name.
        criterion: The development score, as in ``metric_for_best_model`` of the training arguments.
    """

    def panel(name: str, curve: Curve) -> Draw:
        return lambda axes: draw_curves(axes, name, {"": [curve]})

    curves = training_curves(history, criterion) or {"loss: nothing was logged": ([], [])}
    save_png(path, *(panel(name, curve) for name, curve in curves.items()), title=title)


def plot_geometry(result: Result, path: Path) -> None:
    """Draw the cosines of an encoder's pairs, and the density ratio of positive to random ones, as a PNG.

    Args:
        result: Of the evaluation ``geometry``.
        path: The file.
    """
    geometry = Layout.model_validate(result.details).geometry
    save_png(path, partial(draw_histograms, geometry=geometry), partial(draw_density_ratio, geometry=geometry))


def training_curves(history: list[dict[str, Any]], criterion: str | None) -> dict[str, Curve]:
    """Return what a trainer's log has of loss terms, bound, learning rate and development score, by title.

    Of several data sets, each has its own terms and bound, as in ``questions/positive``.
    """
    logged = dict.fromkeys(key for entry in history for key in entry)
    of_loss = [(title, key) for kind, title in _OF_LOSS.items() for key in logged if key.rpartition("/")[2] == kind]
    keys = {title + _of_source(key): key for title, key in of_loss} | {
        "learning rate": "learning_rate",
        f"development: {criterion}": f"eval_{criterion}",
    }
    curves: dict[str, Curve] = {}
    for title, key in keys.items():
        if entries := [entry for entry in history if key in entry]:
            curves[title] = [entry["step"] for entry in entries], [entry[key] for entry in entries]
    return curves


_OF_LOSS = {
    "positive": "positive term of the loss",
    "negative": "negative term of the loss",
    "information_bound": "bound of the f-information, minus the loss",
    "temperature": "temperature, from the overlap of each batch",
}
"""What the log of a loss has -> its title."""


def _of_source(key: str) -> str:
    source = key.rpartition("/")[0]
    return f" of {source}" if source else ""


def draw_curves(axes: Axes, title: str, curves: Mapping[str, Sequence[Curve]]) -> None:
    """Draw one quantity over the steps; where there is one value it is a point.

    Args:
        axes: Where.
        title: What it is.
        curves: Run -> the curve of each of its seeds; all have the run's colour.
    """
    size = 6.0 if all(len(steps) < 2 for seeds in curves.values() for steps, _ in seeds) else 2.5
    for (run, seeds), colour in zip(curves.items(), _colours(len(curves)), strict=True):
        for index, (steps, values) in enumerate(seeds):
            label = _short(run) if index == 0 else None
            axes.plot(steps, values, color=colour, label=label, marker="o", markersize=size, linewidth=1.3)
    axes.set(title=_short(title, 60), xlabel="step")
    _whole_steps(axes, [step for seeds in curves.values() for steps, _ in seeds for step in steps])
    _steady(axes, [value for seeds in curves.values() for _, values in seeds for value in values])
    if len(curves) > 1:
        axes.legend()


def draw_by_dimensions(axes: Axes, title: str, curves: Mapping[str, Sequence[Curve]]) -> None:
    """Draw a score over the number of dimensions; the arguments are those of :func:`draw_curves`."""
    draw_curves(axes, title, curves)
    axes.set_xscale("log", base=2)
    dims = sorted({dim for seeds in curves.values() for dims, _ in seeds for dim in dims})
    axes.set_xticks(dims, labels=[str(dim) for dim in dims])
    axes.minorticks_off()
    axes.set_xlabel("dimensions")


def _whole_steps(axes: Axes, steps: Sequence[float]) -> None:
    """Mark whole steps only, and begin at step 0 if there is but one: an axis around it would have no scale."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(set(steps)) == 1:
        axes.set_xlim(0, 1.25 * max(steps[0], 1))


def _steady(axes: Axes, values: Sequence[float]) -> None:
    """Let a curve that is nearly constant look like it, and write values in full, not as differences from one."""
    axes.ticklabel_format(axis="y", useOffset=False)
    low, high = min(values, default=0), max(values, default=0)
    least = _STEADY * max(abs(low), abs(high))
    if high - low < least:
        middle = (low + high) / 2
        axes.set_ylim(middle - least / 2, middle + least / 2)


def draw_plane(
    axes: Axes, points: Mapping[str, Sequence[tuple[float, float]]], start: Mapping[str, tuple[float, float]]
) -> None:
    """Draw alignment against uniformity, where the lower left is best (Wang & Isola 2020).

    Args:
        axes: Where.
        points: Run -> (uniformity, alignment) of each of its seeds.
        start: Run -> the same of the encoder before training, if it was measured.
    """
    for (run, seeds), colour in zip(points.items(), _colours(len(points)), strict=True):
        if run in start:
            for seed in seeds:
                axes.annotate("", seed, start[run], arrowprops={"arrowstyle": "->", "color": colour, "alpha": 0.6})
            axes.plot(*start[run], "o", color=colour, fillstyle="none", label=f"{_short(run)}, before")
        axes.plot(*zip(*seeds, strict=True), "o", color=colour, label=_short(run))
    axes.margins(0.2)
    axes.set(title="alignment and uniformity: lower left is better", xlabel="uniformity", ylabel="alignment")
    axes.legend()


def draw_histograms(axes: Axes, geometry: Geometry, name: str = "") -> None:
    """Draw the cosines of positive, hard and random pairs, in shares of each kind; ``name`` is the encoder's."""
    histograms = geometry.histograms
    for sort, colour in (("positive", _POSITIVE), ("hard", _HARD), ("random", _RANDOM)):
        counts = np.array(getattr(histograms, sort))
        shares = 100 * counts / max(counts.sum(), 1)
        axes.stairs(shares, histograms.edges, fill=True, color=colour, alpha=0.25)
        axes.stairs(shares, histograms.edges, color=colour, label=f"{sort} ({counts.sum():,})")
    occupied = np.flatnonzero(np.sum([histograms.positive, histograms.hard, histograms.random], axis=0))
    axes.set_xlim(histograms.edges[max(occupied[0] - 1, 0)], 1)
    axes.set(title=_titled("cosine of pairs", name), xlabel="cosine", ylabel="percent of its kind")
    axes.legend()


def draw_density_ratio(axes: Axes, geometry: Geometry, name: str = "") -> None:
    """Draw the log density ratio of positive to random pairs over the squared distance, and the Gaussian's line.

    The bars are 95% intervals of the counts; ``name`` is the encoder's.
    """
    histograms, ratio = geometry.histograms, geometry.density_ratio
    edges = np.array(histograms.edges)
    cosine = (edges[:-1] + edges[1:]) / 2
    log_ratio, error = binned_log_ratio(np.array(histograms.positive), np.array(histograms.random))
    distance, known = 2 - 2 * cosine, np.isfinite(log_ratio)
    axes.errorbar(
        distance[known],
        log_ratio[known],
        1.96 * error[known],
        fmt="o",
        markersize=3.5,
        color=_POSITIVE,
        label="counted",
    )
    if ratio is not None and known.any():
        ends = np.array([distance[known].min(), distance[known].max()])
        line = gaussian_log_ratio(1 - ends / 2, ratio.sigma, ratio.log_mu)
        axes.plot(ends, line, color=_RANDOM, label=f"Gaussian, sigma {ratio.sigma:.3f}")
    axes.set(title=_titled("density ratio, positive to random", name), xlabel="squared distance", ylabel="log ratio")
    if known.any():
        axes.legend()


def draw_differences(axes: Axes, title: str, rows: Mapping[str, tuple[float, tuple[float, float] | None, str]]) -> None:
    """Draw differences with their intervals, one below the other.

    Args:
        axes: Where.
        title: Of what.
        rows: Name -> difference in points, its interval if there is one, and the verdict on it.
    """
    for place, (difference, interval, verdict) in enumerate(rows.values()):
        colour = _VERDICTS.get(verdict, "gray")
        if interval is not None:
            axes.plot(interval, [place, place], color=colour, linewidth=2)
        axes.plot(difference, place, "o", color=colour)
    axes.axvline(0, color="gray", linewidth=1)
    axes.set_yticks(range(len(rows)), [_short(name) for name in rows])
    axes.invert_yaxis()
    axes.set(title=title, xlabel="points")


_VERDICTS = {"better": COLOURS[0], "worse": COLOURS[1], "differs": COLOURS[3], "inside the noise": _HARD}
"""Verdict -> colour; what was not tested is gray."""


def _figure(draws: Sequence[Draw], title: str | None = None) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_SIZE[0] * len(draws), _SIZE[1]), layout="constrained")
    FigureCanvasAgg(figure)
    for index, draw in enumerate(draws):
        draw(figure.add_subplot(1, len(draws), index + 1))
    if title:
        figure.suptitle(title)
    return figure


@contextmanager
def _style(theme: Theme) -> Iterator[None]:
    from matplotlib import rc_context
    from matplotlib.font_manager import get_font_names

    ink, grid = _INK[theme]
    coloured = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    installed = set(get_font_names())
    fonts = [
        "DejaVu Sans",
        *(font for font in _FONTS if font in installed),
    ]  # it warns of each that is missing
    style = {**_STYLE, **dict.fromkeys(coloured, ink), "grid.color": grid, "font.family": fonts}
    # The font manager warns of fonts without a regular weight.
    with rc_context(style), warnings.catch_warnings(), quietened("matplotlib.font_manager"):
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")  # no installed font has the character
        yield


def _colours(number: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(number)]


def _titled(title: str, name: str) -> str:
    return f"{title}\n{_short(name)}" if name else title


def _short(name: str, most: int = _LABEL) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
