"""The pictures of the pages: ``python docs/pictures.py`` writes them to ``docs/pictures``, a test holds them to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import torch
from scipy.optimize import brentq
from scipy.stats import norm

from fmicl_text.core import DIVERGENCES, Divergence, GaussianKernel, tsallis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "fmicl-text", "font.size": 9, "figure.dpi": 100}

FOLDER = Path(__file__).with_suffix("")
SIGMA = 0.2646
"""A width of f-MICL, temperature 0.07."""
SHOWN = {
    "Kullback-Leibler": (DIVERGENCES["kl"], "-"),
    "Jensen-Shannon": (DIVERGENCES["js"], "--"),
    "squared Hellinger": (DIVERGENCES["sh"], "-"),
    "Tsallis of order 1.25": (tsallis(1.25), "-"),
    "Vincze-Le Cam": (DIVERGENCES["vlc"], "-"),
    "Pearson, Tsallis of order 2": (DIVERGENCES["pearson"], "-"),
}
"""The divergences that the paper recommends; Pearson and Tsallis of order 2 have the same forces."""


def forces() -> Figure:
    """Pull and push of a pair over its cosine, without a shift."""
    figure, (pulls, pushes) = _two(sharey=True)
    cosine = torch.linspace(-0.2, 1, 200, dtype=torch.float64)
    balance = 0.5
    kernel = GaussianKernel(SIGMA)
    for number, (title, (divergence, line)) in enumerate(SHOWN.items()):
        alpha = torch.exp(-kernel(torch.tensor(balance, dtype=torch.float64)))
        for axes, score in ((pulls, divergence.critic), (pushes, divergence.penalty)):
            at = cosine.clone().requires_grad_()
            (force,) = torch.autograd.grad(score(kernel(at)).sum(), at)
            weight = 1 if axes is pulls else alpha
            axes.semilogy(cosine, weight * force, line, color=f"C{number}", label=title)
    for axes, title in ((pulls, "pull on a positive pair"), (pushes, "push on a negative pair")):
        axes.axvline(balance, color="grey", linestyle=":", linewidth=1)
        axes.set(title=title, xlabel="cosine of the pair", ylim=(1e-3, 1e4), xlim=(-0.2, 1))
    pulls.set_ylabel("force (slope of the loss)")
    figure.legend(*pulls.get_legend_handles_labels(), fontsize=8, frameon=False, loc="outside right center")
    pushes.annotate("balance", (balance, 2e-3), xytext=(4, 0), textcoords="offset points", color="grey", fontsize=8)
    return figure


def shares() -> Figure:
    """How the push of one anchor is shared among its negatives, with a shift for each anchor."""
    figure, (linear, logarithmic) = _two()
    negatives = np.linspace(-0.2, 0.7, 91)
    positive = 0.6
    for number, (title, (divergence, line)) in enumerate(SHOWN.items()):
        weights = _weights(divergence, np.append(negatives, positive) / SIGMA**2)
        share = weights[:-1] / weights[:-1].sum()
        for axes in (linear, logarithmic):
            axes.plot(negatives, 100 * share, line, color=f"C{number}", label=title)
    logarithmic.set(yscale="log", ylim=(1e-3, 100), title="the same on a logarithmic scale")
    linear.set(ylabel="percent of the push", title="share of the push on each negative")
    figure.legend(*linear.get_legend_handles_labels(), fontsize=8, frameon=False, loc="outside right center")
    for axes in (linear, logarithmic):
        axes.set(xlabel="cosine of anchor and negative", xlim=(-0.2, 0.7))
    return figure


def _weights(divergence: Divergence, critics: np.ndarray) -> np.ndarray:
    """Return ``w(T_j - v)`` with the ``v`` at which they add up to 1."""
    low = divergence.domain[0]

    def weights(shift: float) -> np.ndarray:
        return divergence.conjugate.ratio(torch.from_numpy(critics - shift).clamp(low)).numpy()

    top = critics.max()
    at = divergence.critic(torch.tensor([1.0, 1 / len(critics)], dtype=torch.float64).log()).tolist()
    shift = brentq(lambda v: weights(v).sum() - 1, top - at[0], top - at[1], xtol=1e-13)
    assert isinstance(shift, float)
    return weights(shift)


def width() -> Figure:
    """Which negatives a width listens to, and where a balance lies."""
    figure, (listens, balances) = _two()
    cosine = np.linspace(-0.3, 1, 300)
    mean, deviation = 0.1, 0.1
    listens.fill_between(cosine, norm.pdf(cosine, mean, deviation), color="lightgrey", label="all negatives")
    for number, temperature in enumerate((0.2, 0.07, 0.05, 0.025)):
        centre = mean + deviation**2 / temperature
        label = f"sigma {temperature**0.5:.2f}, temperature {temperature:g}"
        listens.plot(cosine, norm.pdf(cosine, centre, deviation), color=f"C{number}", label=label)
    listens.set(title="negatives as the push weighs them", xlabel="cosine", yticks=[], ylim=(0, 7.5), xlim=(-0.3, 1))
    listens.legend(fontsize=7, frameon=False, loc="upper right")
    pull = np.full_like(cosine, 1 / SIGMA**2)
    balances.semilogy(cosine, pull, color="black", label="pull, KL")
    for number, balance in enumerate((0.1, 0.3, 0.5, 0.7)):
        push = np.exp((cosine - balance) / SIGMA**2) / SIGMA**2
        balances.semilogy(cosine, push, color=f"C{number}", label=f"push, balance_cosine {balance:g}")
        balances.plot(balance, 1 / SIGMA**2, "o", color=f"C{number}", markersize=4)
    balances.set(title="balance of push and pull, KL, sigma 0.26", xlabel="cosine", ylabel="force")
    balances.set(ylim=(1e-2, 1e6), xlim=(-0.3, 1))
    balances.legend(fontsize=7, frameon=False, loc="upper left")
    return figure


def _two(sharey: bool = False) -> tuple[Figure, tuple[Axes, Axes]]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharey=sharey)
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
    figure.patch.set_facecolor("white")
    return figure, tuple(axes)


PICTURES = {"forces": forces, "shares": shares, "width": width}
"""Name of a picture -> the function that draws it."""


def write(folder: Path) -> None:
    """Draw all pictures."""
    import matplotlib.pyplot as plt

    folder.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        figure = draw()
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)


if __name__ == "__main__":
    write(FOLDER)
