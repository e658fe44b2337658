"""What exports of a run share: its evaluations and training texts, and the record of what another form costs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fmicl_text.bars import bars_are_shown
from fmicl_text.data.streams import Stream
from fmicl_text.encoders.text import load_model
from fmicl_text.errors import InputError
from fmicl_text.evaluation.dimensions import measure_at
from fmicl_text.evaluation.items import write_result
from fmicl_text.evaluation.kind import Effort
from fmicl_text.evaluation.results import Result
from fmicl_text.evaluation.scored_model import ScoredModel, model_revision
from fmicl_text.hub.source import find_source
from fmicl_text.hub_errors import explained
from fmicl_text.recipe.schema import Recipe
from fmicl_text.runs.folder import RunFolder
from fmicl_text.training.build import prompts_of, text_columns
from fmicl_text.training.inputs import Inputs, load_inputs

_ROWS = 1000
"""Rows of the training data whose texts are embedded, for ranges and for the time."""
_BATCH = 32


Role = Literal["query", "document"] | None
"""Of a text; a text that is its own positive has none."""


@dataclass(frozen=True)
class Texts:
    """Texts of one column and source, what is put before them, and their role, by which a Router sends them."""

    texts: list[str]
    prompt: str
    role: Role


@dataclass(frozen=True)
class Run:
    """A finished run of an encoder of texts.

    Attributes:
        folder: The run folder; of several seeds, the first one's.
        recipe: Its recipe.
        inputs: Its data and evaluations, loaded.
        scored: Its encoder.
        results: Those from after training, by the names of evaluations.
    """

    folder: RunFolder
    recipe: Recipe
    inputs: Inputs
    scored: ScoredModel
    results: dict[str, Result]

    def first_texts(self) -> list[Texts]:
        """Return the texts of the first training rows by column; of several sources, each gives an equal part."""
        sources = self.recipe.data.sources
        return [
            texts
            for name, source in sources.items()
            for texts in self._texts(name, source.shuffle_buffer, _ROWS // len(sources))
        ]

    def _texts(self, name: str, buffer: int, most: int) -> Iterator[Texts]:
        source, rows = self.recipe.data.sources[name], self.inputs.train[name]
        if isinstance(rows, Stream):
            with explained(f"{rows.source}: its first rows cannot be read", rows.source, "data set", rows.revision):
                first = list(islice(rows.shuffled(self.recipe.seeds[0], buffer), most))
        else:
            first = list(rows.select(range(min(most, len(rows)))))
        columns = text_columns(source, rows)
        before = prompts_of(source, self.scored.encoder).by_column(columns)
        for number, column in enumerate(columns):
            role: Role = None if len(columns) == 1 else "document" if number else "query"
            yield Texts([row[column] for row in first], before.get(column, ""), role)

    def measure(self, scored: ScoredModel, folder: Path, **facts: Any) -> dict[str, Result]:
        """Measure the encoder in another form by the evaluations of the run, and write the results to a folder.

        Args:
            scored: What is measured.
            folder: The folder of the export.
            facts: What is written into the results about the form.
        """
        results = {}
        for key, loaded in self.inputs.after.items():
            effort = Effort(show_progress=bars_are_shown())
            measured = measure_at(loaded, scored, effort, self.recipe.evaluate.dims)
            measured.result.facts.update(facts)
            results[key] = measured.result
            write_result(measured, folder / "results" / f"{key}.json")
        return results


def open_run(path: Path, kind: Literal["embeddings", "openvino"], precision: str, overwrite: bool) -> tuple[Run, Path]:
    """Load a run that is exported, and return the folder of the export too, from which an earlier one is deleted.

    Raises:
        InputError: No finished run of an encoder of texts; one without evaluations, or whose data is not there any
            more; an earlier export is there.
    """
    source = find_source(path)
    if source.recipe is None:
        raise InputError(f"{path} is an encoder, not a run, whose data and evaluations this needs")
    recipe, run = source.recipe, RunFolder(source.model.parent)
    if recipe.trains_on_images:
        raise InputError(f"{path}: its encoder reads images; what reads texts is exported")
    if not recipe.evaluate.after:
        raise InputError(f"{path}: it has no evaluations (evaluate.after) that would say what an export costs")
    folder = (run.embeddings if kind == "embeddings" else run.openvino) / precision
    if folder.exists() and not overwrite:
        raise InputError(f"{folder} already exists; --overwrite replaces it")
    inputs = load_inputs(recipe, mine=False)
    name = str(source.model)
    encoder = load_model(name, trust_remote_code=recipe.model.trust_remote_code)
    shutil.rmtree(folder, ignore_errors=True)
    results = {key: source.results[key] for key in inputs.after}
    return Run(run, recipe, inputs, ScoredModel(encoder, name, model_revision(name)), results), folder


def embedded(scored: ScoredModel, columns: Sequence[Texts]) -> tuple[np.ndarray, float]:
    """Embed texts: ``(n, D)`` in float32, and the seconds it took."""
    model = scored.encoder
    encode = {None: model.encode, "query": model.encode_query, "document": model.encode_document}
    encode[columns[0].role](columns[0].texts[:_BATCH])  # the first call is slower than others
    begun = time.perf_counter()
    found = [
        encode[one.role](one.texts, prompt=one.prompt, batch_size=_BATCH, show_progress_bar=False) for one in columns
    ]
    return np.concatenate(found).astype(np.float32), time.perf_counter() - begun
