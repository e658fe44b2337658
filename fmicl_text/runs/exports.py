"""What ``fmicl export`` leaves in a run folder: another form of its encoder or embeddings, and what that costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from fmicl_text.evaluation.results import Result, Score, checked
from fmicl_text.files import read_json, write_json
from fmicl_text.runs.folder import RunFolder

RANGES = "ranges.safetensors"
"""File of int8 embeddings: the tensor ``ranges``, least and most of each dimension, float32 ``(2, D)``."""
_RECORD = "export.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Form(_Record):
    """The encoder or its embeddings in one form."""

    name: str
    """What it is called at the head of a table."""
    bytes: int
    """Of what :attr:`Export.sized` says."""
    rows_per_second: float
    """Texts that were embedded, on the machine of the export."""


class Compared(_Record):
    """A score of the run, and what it became."""

    evaluation: str
    """Name of the result."""
    before: Score
    """In the first form."""
    after: Score | None
    """In the second; ``None`` if it could not be measured."""


class Export(_Record):
    """The record of one export."""

    kind: Literal["embeddings", "openvino"]
    """What is in another form."""
    precision: Literal["float32", "int8", "binary"]
    """Of embeddings, or of the encoder's products of matrices."""
    sized: str
    """What the bytes are of."""
    forms: tuple[Form, Form]
    """Before and after."""
    scores: list[Compared]
    """Those of the run's evaluations."""

    def write(self, folder: Path) -> None:
        """Write the record to the folder of the export."""
        write_json(folder / _RECORD, self.model_dump(mode="json"))


def compared(before: Mapping[str, Result], after: Mapping[str, Result]) -> list[Compared]:
    """Return each score of the first results beside the same one of the second, by the names of evaluations."""
    changed = {(name, score.key): score for name, result in after.items() for score in result.scores}
    return [
        Compared(evaluation=name, before=score, after=changed.get((name, score.key)))
        for name, result in before.items()
        for score in result.scores
    ]


def read_exports(run: RunFolder) -> Iterator[tuple[Path, Export]]:
    """Yield the folder and the record of each export of a run.

    Raises:
        InputError: If a record is damaged, with file and key.
    """
    for folder in (run.embeddings, run.openvino):
        for file in sorted(folder.glob(f"*/{_RECORD}")):
            yield file.parent, checked(Export, read_json(file), file)
