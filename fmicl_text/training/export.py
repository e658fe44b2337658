"""What a run's embeddings cost and score when they are stored in fewer bits."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from fmicl_text.bars import bars_are_shown
from fmicl_text.data.mixture import SourceSection
from fmicl_text.data.streams import Stream
from fmicl_text.encoders.text import load_model
from fmicl_text.errors import InputError
from fmicl_text.evaluation.dimensions import measure_at
from fmicl_text.evaluation.items import write_result
from fmicl_text.evaluation.kind import Effort
from fmicl_text.evaluation.quantised import Precision, quantised, quantising
from fmicl_text.evaluation.results import Result
from fmicl_text.evaluation.scored_model import ScoredModel, model_revision
from fmicl_text.files import write_bytes, write_json
from fmicl_text.hub.source import find_source
from fmicl_text.recipe.schema import Recipe
from fmicl_text.runs.folder import RunFolder
from fmicl_text.training.build import text_columns
from fmicl_text.training.inputs import Inputs, load_inputs

logger = logging.getLogger(__name__)

RANGES = "ranges.npy"
"""Least and most of each dimension, float32 ``(2, D)``: the ``ranges`` of ``quantize_embeddings``."""
_ROWS = 1000
"""Rows of the training data whose texts are embedded, for the ranges and for the time."""
_FEW_ROWS = 100
_BATCH = 32


@dataclass(frozen=True)
class Stored:
    """Embeddings as they are stored.

    Attributes:
        bytes: Of one vector.
        rows_per_second: Texts embedded and stored, on this machine.
        results: By the names of evaluations.
    """

    bytes: int
    rows_per_second: float
    results: dict[str, Result]


@dataclass(frozen=True)
class Exported:
    """Embeddings as the run's encoder gives them, and in fewer bits; ``folder`` has what the second needs."""

    folder: Path
    precision: Precision
    whole: Stored
    quantised: Stored


def export_embeddings(run: Path, precision: Precision, overwrite: bool = False) -> Exported:
    """Store a run's embeddings in fewer bits, and measure what that costs by the evaluations of the run.

    Queries and documents are both in fewer bits, and nothing is ranked again by whole vectors. The ranges of int8 are
    those of the first training texts. Written are the results, and for int8 the ranges, to the folder
    ``embeddings/PRECISION`` of the run; of several seeds, of the first.

    Raises:
        InputError: No finished run of an encoder of texts; one without evaluations, or whose data is not there any
            more; an earlier export is there.
    """
    source = find_source(run)
    if source.recipe is None:
        raise InputError(f"{run} is an encoder, not a run, whose data and evaluations this needs")
    recipe, folder = source.recipe, RunFolder(source.model.parent).embeddings / precision
    if recipe.trains_on_images:
        raise InputError(f"{run}: its encoder reads images; embeddings of texts are exported")
    if not recipe.evaluate.after:
        raise InputError(f"{run}: it has no evaluations (evaluate.after) that would say what fewer bits cost")
    if folder.exists() and not overwrite:
        raise InputError(f"{folder} already exists; --overwrite replaces it")
    inputs = load_inputs(recipe, mine=False)
    name = str(source.model)
    scored = ScoredModel(load_model(name, trust_remote_code=recipe.model.trust_remote_code), name, model_revision(name))
    embeddings, seconds = _embedded(scored, recipe, inputs)
    ranges = None
    if precision == "int8":
        ranges = np.stack([embeddings.min(axis=0), embeddings.max(axis=0)])  # (2, D)
        if len(embeddings) < _FEW_ROWS:
            logger.warning("the ranges of int8 are those of %d texts alone, which are few", len(embeddings))
    begun = time.perf_counter()
    stored = quantised(embeddings, precision, ranges)
    storing = time.perf_counter() - begun
    shutil.rmtree(folder, ignore_errors=True)  # an earlier one
    results = {}
    with quantising(scored, precision, ranges) as fewer_bits:
        for key, loaded in inputs.after.items():
            logger.info("measuring %s embeddings: %s", precision, key)
            effort = Effort(show_progress=bars_are_shown())
            measured = measure_at(loaded, fewer_bits, effort, recipe.evaluate.dims)
            measured.result.facts["embeddings"] = precision
            results[key] = measured.result
            write_result(measured, folder / "results" / f"{key}.json")
    if ranges is not None:
        write_bytes(folder / RANGES, _as_npy(ranges))
    before = {key: source.results[key] for key in results}
    rows = len(embeddings)
    exported = Exported(
        folder,
        precision,
        Stored(embeddings[0].nbytes, rows / seconds, before),
        Stored(stored[0].nbytes, rows / (seconds + storing), results),
    )
    write_json(folder / "export.json", document(exported))
    return exported


def document(exported: Exported) -> dict[str, object]:
    """Return the table of an export as plain values: size, speed, and each score before and after."""
    whole, fewer = exported.whole, exported.quantised
    after = {(name, score.key): score for name, result in fewer.results.items() for score in result.scores}
    return {
        "precision": exported.precision,
        "bytes_per_vector": {"float32": whole.bytes, exported.precision: fewer.bytes},
        "rows_per_second": {"float32": whole.rows_per_second, exported.precision: fewer.rows_per_second},
        "scores": {
            f"{name}: {score.key}": {
                "float32": score.value,
                exported.precision: after[name, score.key].value if (name, score.key) in after else None,
                "unit": score.unit,
            }
            for name, result in whole.results.items()
            for score in result.scores
        },
    }


def _embedded(scored: ScoredModel, recipe: Recipe, inputs: Inputs) -> tuple[np.ndarray, float]:
    """Embed the first training texts by their roles: ``(n, D)`` in float32, and the seconds it took.

    Of several sources, each gives an equal part of the rows; its prompts are put before its texts.
    """
    model = scored.encoder
    sources = recipe.data.sources
    texts: list[tuple[Callable[..., np.ndarray], list[str], str | None]] = []
    for name, source in sources.items():
        rows, most = inputs.train[name], _ROWS // len(sources)
        anchor, *others = text_columns(source, rows)
        if isinstance(rows, Stream):
            first = list(islice(rows.shuffled(recipe.seeds[0], source.shuffle_buffer), most))
        else:
            first = list(rows.select(range(min(most, len(rows)))))
        own = source.prompts if isinstance(source, SourceSection) else None
        query, document = (own.query, own.document) if own is not None else (None, None)
        encode_anchor: Callable[..., np.ndarray] = model.encode_query if others else model.encode
        texts.append((encode_anchor, [row[anchor] for row in first], query))
        for column in others:
            texts.append((model.encode_document, [row[column] for row in first], document))
    encode, some, _ = texts[0]
    encode(some[:_BATCH])  # the first call is slower than others
    begun = time.perf_counter()
    found = [
        encode(column, prompt=prompt, batch_size=_BATCH, show_progress_bar=False) for encode, column, prompt in texts
    ]
    return np.concatenate(found).astype(np.float32), time.perf_counter() - begun


def _as_npy(array: np.ndarray) -> bytes:
    from io import BytesIO

    file = BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
