"""A run's encoder converted to OpenVINO, and what that costs or gains."""

from __future__ import annotations

from pathlib import Path

from fmicl_text.encoders.openvino import NAMES, OPENVINO, Precision, convert, load_converted, require_openvino
from fmicl_text.evaluation.scored_model import ScoredModel, model_revision
from fmicl_text.runs.exports import Export, Form, compared
from fmicl_text.training.export import embedded, open_run


def export_openvino(path: Path, precision: Precision, overwrite: bool = False) -> tuple[Path, Export]:
    """Convert a run's encoder, and measure size, speed and the evaluations of the run before and after.

    Both are timed on the CPU, in the same number of threads. Written are the encoder (``model/``), the record and the
    results to the folder ``openvino/PRECISION`` of the run; of several seeds, of the first. An adapter is merged.

    Returns:
        The folder, and the record.

    Raises:
        InputError: As :func:`fmicl_text.training.export.open_run` and :func:`fmicl_text.encoders.openvino.convert`, and
            if OpenVINO is not installed.
    """
    require_openvino("--to openvino")
    run, folder = open_run(path, "openvino", precision, overwrite)
    columns, model = run.first_texts(), folder / "model"
    run.scored.encoder.to("cpu")
    rows, seconds = embedded(run.scored, columns)
    by_column = ([column.prompt + text for text in column.texts] for column in columns)
    texts = [text for row in zip(*by_column, strict=False) for text in row]  # the first rows, of all roles
    convert(Path(run.scored.name), model, precision, texts)
    scored = ScoredModel(load_converted(model, precision), run.scored.name, model_revision(str(model)))
    _, seconds_after = embedded(scored, columns)
    results = run.measure(scored, folder, backend="openvino", precision=precision)
    weights = (model / OPENVINO / NAMES[precision]).with_suffix(".bin")
    export = Export(
        kind="openvino",
        precision=precision,
        sized="the weights",
        forms=(
            Form(name="PyTorch", bytes=_bytes(run.scored), rows_per_second=len(rows) / seconds),
            Form(name=f"OpenVINO {precision}", bytes=weights.stat().st_size, rows_per_second=len(rows) / seconds_after),
        ),
        scores=compared(run.results, results),
    )
    export.write(folder)
    return folder, export


def _bytes(scored: ScoredModel) -> int:
    """Return the size of an encoder's weights in memory."""
    return sum(weights.numel() * weights.element_size() for weights in scored.encoder.parameters())
