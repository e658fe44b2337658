"""Tables of published figures, with their sources and caveats."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from fmicl_text.data.readers import read_text
from fmicl_text.errors import InputError
from fmicl_text.files import resource_folder
from fmicl_text.text import did_you_mean

SUITE = "sts7"
"""The suite whose protocol the tables follow: SimCSE's."""
TASKS = ("STS12", "STS13", "STS14", "STS15", "STS16", "STSBenchmark", "SICK-R")


@dataclass(frozen=True)
class Figure:
    """One row of a published table, Spearman x 100.

    Attributes:
        method: Name of the method.
        encoder: What it starts from.
        training: ``none``, ``unsupervised`` or ``supervised``.
        tasks: Task -> score; empty if only the average was published.
        average: Of the seven tasks.
        sd: Standard deviation over seeds, if it was published.
        source: Paper or repository.
        caveat: What to know before comparing it.
    """

    method: str
    encoder: str
    training: str
    tasks: dict[str, float]
    average: float
    sd: float | None
    source: str
    caveat: str


def published_names() -> list[str]:
    """Return the names of the shipped tables."""
    return sorted(file.stem for file in resource_folder("published").glob("*.csv"))


def load_published(name: str) -> list[Figure]:
    """Read a shipped table by name, or a CSV file of the same columns.

    Raises:
        InputError: No such table, or a line of it is not what it should be.
    """
    path = Path(name) if name.endswith(".csv") else resource_folder("published") / f"{name}.csv"
    if not path.is_file():
        known = published_names()
        raise InputError(f'no published table "{name}"{did_you_mean(name, known)}; there are {", ".join(known)}')
    figures = []
    for number, row in enumerate(csv.DictReader(io.StringIO(read_text(path))), 2):
        try:
            figures.append(
                Figure(
                    **{key: row[key] for key in ("method", "encoder", "training", "source", "caveat")},
                    tasks={task: float(row[task]) for task in TASKS if row[task]},
                    average=float(row["average"]),
                    sd=float(row["sd"]) if row["sd"] else None,
                )
            )
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"{path}, line {number}: not a row of a published table: {error!r}") from None
    return figures
