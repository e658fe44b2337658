"""Base models beside runs: what a run measured before training, or the same evaluations run now."""

from __future__ import annotations

from collections.abc import Sequence

from fmicl_text.report.runs import Run, untrained


def read_base(name: str, runs: Sequence[Run]) -> Run:
    """Return a base model with its scores."""
    for run in runs:
        if run.section("model").get("base") == name and run.before.by_title:
            return untrained(name, name, run.path, run.before)
    raise NotImplementedError
