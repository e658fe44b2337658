"""A run's embeddings stored in fewer bits, and what that costs."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from fmicl_text.evaluation.quantised import Precision, quantised, quantising
from fmicl_text.files import write_bytes
from fmicl_text.runs.exports import RANGES, Export, Form, compared
from fmicl_text.training.export import embedded, open_run

logger = logging.getLogger(__name__)

_FEW_TEXTS = 100


def export_embeddings(path: Path, precision: Precision, overwrite: bool = False) -> tuple[Path, Export]:
    """Store a run's embeddings in fewer bits, and measure what that costs by the evaluations of the run.

    Queries and documents are both in fewer bits, and nothing is ranked again by whole vectors. The ranges of int8 are
    those of the first training texts. Written are the record, the results, and for int8 the ranges, to the folder
    ``embeddings/PRECISION`` of the run; of several seeds, of the first.

    Returns:
        The folder, and the record.

    Raises:
        InputError: As :func:`fmicl_text.training.export.open_run`.
    """
    run, folder = open_run(path, "embeddings", precision, overwrite)
    embeddings, seconds = embedded(run.scored, run.first_texts())
    ranges = None
    if precision == "int8":
        ranges = np.stack([embeddings.min(axis=0), embeddings.max(axis=0)])  # (2, D)
        if len(embeddings) < _FEW_TEXTS:
            logger.warning("the ranges of int8 are those of %d texts alone, which are few", len(embeddings))
    begun = time.perf_counter()
    stored = quantised(embeddings, precision, ranges)
    storing = time.perf_counter() - begun
    with quantising(run.scored, precision, ranges) as fewer_bits:
        results = run.measure(fewer_bits, folder, embeddings=precision)
    if ranges is not None:
        write_bytes(folder / RANGES, save({"ranges": ranges}))
    rows = len(embeddings)
    export = Export(
        kind="embeddings",
        precision=precision,
        sized="a vector",
        forms=(
            Form(name="float32", bytes=embeddings[0].nbytes, rows_per_second=rows / seconds),
            Form(name=precision, bytes=stored[0].nbytes, rows_per_second=rows / (seconds + storing)),
        ),
        scores=compared(run.results, results),
    )
    export.write(folder)
    return folder, export
