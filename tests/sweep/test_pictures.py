"""What the pictures of a sweep show."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fmicl_text.sweep.board import Trial
from fmicl_text.sweep.pictures import _by_arm, _parallel


def test_a_line_is_dotted_past_settings_that_its_trial_does_not_have():
    settings = [{"loss.sigma": 0.1, "loss.balance_cosine": 0.5}, {"loss.balance_cosine": 0.2}, {}]
    trials = [Trial("kl", place, "complete", of, score=float(place)) for place, of in enumerate(settings)]
    axes = Figure().subplots()
    _parallel(axes, trials, "own", ["loss.sigma", "loss.balance_cosine"], set(), higher_is_better=True)
    lines = axes.get_lines()
    values = [np.isfinite(line.get_ydata()).tolist() for line in lines if line.get_linestyle() == "-"]
    assert values == [[True, True, True, True], [True, False, True, True], [True, False, False, True]]
    passed = [np.asarray(line.get_xdata()).tolist() for line in lines if line.get_linestyle() == ":"]
    assert passed == [[0, 1, 2, 3], [0, 2, 3], [0, 3]]


def test_the_default_is_a_ring_wherever_it_is_among_the_trials():
    trials = [Trial("kl", place, "complete", {}, score=float(place)) for place in range(3)]
    axes = Figure().subplots()
    _by_arm(axes, trials, "own", {"kl-001"})
    drawn = [(line.get_fillstyle(), list(line.get_xdata())) for line in axes.get_lines()]
    assert drawn == [("full", [0.0, 2.0]), ("none", [1.0])]
