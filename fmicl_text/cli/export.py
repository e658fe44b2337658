"""``fmicl export``: a run's encoder or embeddings in another form, and what that costs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fmicl_text.bars import silence_model_files
from fmicl_text.errors import InputError

if TYPE_CHECKING:
    from fmicl_text.cli.console import Console
    from fmicl_text.evaluation.results import Score
    from fmicl_text.runs.exports import Export

_NO_ONNX = (
    "--to onnx: sentence-transformers converts to ONNX, and loads it, by optimum-onnx, whose newest release (0.1.0) "
    "needs transformers below 4.58, while sentence-transformers 6 needs 5.0 or newer; a newer release of optimum-onnx "
    "could change that. --to openvino works"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "run", metavar="RUN", type=Path, help="a run folder (of several seeds the first is taken), or a seed's folder"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--embeddings", choices=["int8", "binary"], help="store a whole number of 8 bits for each dimension, or 1 bit"
    )
    what.add_argument("--to", choices=["openvino", "onnx"], help="convert the encoder; onnx says what it lacks")
    parser.add_argument(
        "--quantize",
        choices=["int8"],
        default="float32",
        dest="precision",
        help="with --to: weights and activations in 8 bits",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    parser.add_argument("--json", action="store_true", help="print the table as JSON and nothing else")


def run(args: argparse.Namespace) -> int:
    """Export, and print what it costs beside the run as it is."""
    from fmicl_text.cli.console import Console

    if args.to == "onnx":
        raise InputError(_NO_ONNX)
    if args.embeddings and args.precision == "int8":
        raise InputError("--quantize goes with --to; --embeddings says itself in how many bits")
    with Console(stderr=True).status("loading libraries"):
        from fmicl_text.training.memory import keep_memory

        silence_model_files()
    keep_memory()
    if args.embeddings:
        from fmicl_text.training.export_embeddings import export_embeddings

        folder, export = export_embeddings(args.run, args.embeddings, args.overwrite)
    else:
        from fmicl_text.training.export_openvino import export_openvino

        folder, export = export_openvino(args.run, args.precision, args.overwrite)
    if args.json:
        print(export.model_dump_json(indent=2))
    else:
        _print(Console(), folder, export)
    return 0


def _print(console: Console, folder: Path, export: Export) -> None:
    from rich.table import Table

    table = Table()
    for heading in ("", *(form.name for form in export.forms)):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_row(f"bytes of {export.sized}", *(f"{form.bytes:,}" for form in export.forms))
    table.add_row("rows a second", *(f"{form.rows_per_second:,.0f}" for form in export.forms))
    for score in export.scores:
        unit = f" ({score.before.unit})" if score.before.unit else ""
        table.add_row(f"{score.evaluation}: {score.before.key}{unit}", _shown(score.before), _shown(score.after))
    console.print(table)
    console.print(f"in {folder}", soft_wrap=True)
    if export.kind == "openvino":
        from fmicl_text.encoders.openvino import loaded_by

        console.print(f"load it by {loaded_by(str(folder / 'model'), export.precision)}", soft_wrap=True, markup=False)


def _shown(score: Score | None) -> str:
    if score is None:
        return "missing"
    interval = "" if score.ci95 is None else f" ({' to '.join(map(score.written, score.ci95))})"
    return score.written(score.value) + interval
