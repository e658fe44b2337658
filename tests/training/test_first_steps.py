"""Warnings about the first training steps."""

from __future__ import annotations

import pytest
import torch

from fmicl_text.training.first_steps import STEPS, FirstSteps, warn_if_rising


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        ([-1.0 + 0.05 * i for i in range(STEPS)], True),
        ([-1.0 - 0.05 * i for i in range(STEPS)], False),
        ([-1.0] * STEPS, False),
        ([-1.0 + 0.3 * (-1) ** i for i in range(STEPS)], False),
        ([1e-4 * i - 1 for i in range(STEPS)], True),
    ],
    ids=["rises", "falls", "stays", "noise", "rises slowly"],
)
def test_a_rising_positive_term_is_told(caplog, values, warned):
    warn_if_rising(values)
    assert ("the positive term rises over the first 20 steps" in caplog.text) == warned


def test_only_once(caplog):
    steps = FirstSteps()
    for i in range(3 * STEPS):
        steps.see({"positive": torch.tensor(float(i)), "negative": torch.tensor(0.0)})
    assert len(caplog.records) == 1 and "learning_rate" in caplog.text


def test_a_temperature_that_falls_is_no_pair_that_moves_apart(caplog):
    """With an adaptive width: a term of ``(1 - s) / tau`` rises as ``tau`` falls, though ``s`` rises too."""
    steps = FirstSteps()
    for i in range(STEPS):
        cosine, temperature = 0.5 + 0.01 * i, 0.2 - 0.007 * i
        steps.see({"positive": torch.tensor((1 - cosine) / temperature), "temperature": torch.tensor(temperature)})
    assert not caplog.records
