"""Transfer tasks of a hundred random texts."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from words import WORDS


def fit_roughly(monkeypatch: pytest.MonkeyPatch) -> None:
    """For labels that no text explains, most of the time goes to the last digits of the classifiers' weights."""
    from fmicl_text.evaluation import transfer

    monkeypatch.setitem(transfer._SETTINGS, "tol", 0.1)


def write_small_tasks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write TREC and MRPC with 120 random texts in each part, and let the package expect so many."""
    from fmicl_text.evaluation.transfer_tasks import TASKS

    fit_roughly(monkeypatch)

    draw = random.Random(0)
    for name in ("TREC", "MRPC"):
        parts = {part: replace(of_task, n=120) for part, of_task in TASKS[name].parts.items()}
        task = replace(TASKS[name], parts=parts)
        monkeypatch.setitem(TASKS, name, task)
        columns = {"split": [part.splits[0] for part in task.parts.values() for _ in range(part.n)]}
        n = len(columns["split"])
        columns |= {column: [" ".join(draw.choices(WORDS, k=2)) for _ in range(n)] for column in task.texts}
        columns["label"] = [draw.randrange(task.classes) for _ in range(n)]
        (folder / "transfer").mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), folder / "transfer" / f"{name.lower()}.parquet")
