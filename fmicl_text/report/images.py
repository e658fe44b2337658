"""Pictures that a run on images left: the views it compared, neighbours of test images, and a map of them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fmicl_text.report.runs import Run
from fmicl_text.runs.folder import RunFolder

_SHOWN = {
    "neighbours": "test images and their nearest neighbours among the labelled ones",
    "map": "test images by t-SNE of their embeddings, coloured by class",
}


@dataclass(frozen=True)
class Photo:
    """A PNG file, and what it shows."""

    text: str
    file: Path

    @property
    def uri(self) -> str:
        """The file as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.file.read_bytes()).decode()


def photos(runs: list[Run]) -> Iterator[Photo]:
    """Yield the pictures of each run's first seed that are there."""
    for run in runs:
        views = RunFolder(run.first.path).views
        if views.is_file():
            yield Photo(f"images and the two views of each that are compared, {run.name}", views)
        for title, result in run.first.results.files.items():
            for what, text in _SHOWN.items():
                file = result.with_suffix(f".{what}.png")
                if file.is_file():
                    yield Photo(f"{text}, {title}, {run.name}", file)
