"""Pictures of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_COLOURS = {"positive": "#1f77b4", "negative": "#d62728", "development": "#2ca02c"}


def plot_training(history: list[dict[str, Any]], path: Path, title: str) -> None:
    """Draw both loss terms and, if there was one, the development score over the steps.

    Args:
        history: The trainer's log: entries with ``step`` and either ``positive`` and ``negative``, or an
            ``eval_stsb-dev_spearman_cosine``.
        path: The PNG to write.
        title: The run's name.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    losses = [entry for entry in history if "positive" in entry]
    scores = [entry for entry in history if "eval_stsb-dev_spearman_cosine" in entry]
    panels = ["positive", "negative"] + ["development"] * bool(scores)
    figure = Figure(figsize=(4 * len(panels), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), index + 1)
        if panel == "development":
            steps = [entry["step"] for entry in scores]
            values = [100 * entry["eval_stsb-dev_spearman_cosine"] for entry in scores]
            best = max(range(len(values)), key=values.__getitem__)
            axes.plot(steps[best], values[best], "o", color=_COLOURS[panel])
            axes.annotate(
                f"{values[best]:.2f}", (steps[best], values[best]), xytext=(0, -14), textcoords="offset points"
            )
            axes.set_title("STS-B dev, Spearman x100")
        else:
            steps, values = [entry["step"] for entry in losses], [entry[panel] for entry in losses]
            axes.set_title(f"{panel} term of the loss")
        axes.plot(steps, values, color=_COLOURS[panel])
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
