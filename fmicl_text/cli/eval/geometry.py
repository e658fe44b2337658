"""``fmicl eval geometry``."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from functools import partial
from typing import TYPE_CHECKING

from fmicl_text.cli.eval.options import add_output_arguments, result_files

if TYPE_CHECKING:
    from fmicl_text.cli.console import Console
    from fmicl_text.evaluation.geometry import Estimate, GeometryResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("models", metavar="MODEL", nargs="+", help="model folder, run folder, Hub id or sample:minilm")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--data", metavar="DIR|sample:stsb", help="where STS-B dev comes from: a folder, or the sample; default the Hub"
    )
    source.add_argument(
        "--pairs", metavar="FILE|HUB ID", help="pairs of your own that mean the same, instead of STS-B: csv, jsonl, ..."
    )
    parser.add_argument(
        "--columns",
        nargs=2,
        metavar=("A", "B"),
        default=["anchor", "positive"],
        help="the two columns of --pairs (anchor positive)",
    )
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """How sentences lie on the sphere, and whether the density ratio is the Gaussian that f-MICL assumes.

    Beside each JSON file of --output goes a picture of the density ratio, NAME.png.
    """
    from fmicl_text.cli.console import Console
    from fmicl_text.data.section import Columns
    from fmicl_text.evaluation.geometry import measure_geometry
    from fmicl_text.evaluation.pair_sets import own_pair_set, stsb_pair_set
    from fmicl_text.files import write_json
    from fmicl_text.runs.plots import draw_density_ratio, save_png

    files = result_files(args.output, args.models, "geometry", args.overwrite)
    if args.pairs:
        pairs = own_pair_set(args.pairs, Columns(anchor=args.columns[0], positive=args.columns[1]))
    else:
        pairs = stsb_pair_set(args.data)
    documents = []
    for model, file in zip(args.models, files, strict=True):
        with contextlib.redirect_stdout(sys.stderr):  # whatever a library may print
            result = measure_geometry(model, pairs, args.batch_size, show_progress=sys.stderr.isatty())
        documents.append(result.document())
        if not args.json:
            _print(Console(), result)
        if file is not None:
            write_json(file, documents[-1])
            save_png(file.with_suffix(".png"), partial(draw_density_ratio, geometry=result.geometry))
    if args.json:
        print(json.dumps(documents if len(documents) > 1 else documents[0], indent=2, allow_nan=False))
    return 0


def _print(console: Console, result: GeometryResult) -> None:
    from rich.table import Table

    geometry, ratio = result.geometry, result.geometry.density_ratio
    console.print(f"{result.model} on {result.data}", soft_wrap=True)
    console.print(
        f"{geometry.sentences:,} sentences, {geometry.positives:,} positive pairs, {geometry.dimensions} dimensions"
    )
    table = Table()
    table.add_column("measure")
    for heading in ("value", "95% interval"):
        table.add_column(heading, justify="right")

    def add(name: str, figure: Estimate | float | None) -> None:
        if figure is None:
            table.add_row(name, "none", "")
        elif isinstance(figure, float):
            table.add_row(name, f"{figure:.4g}", "")
        else:
            table.add_row(name, f"{figure.value:.4g}", "{:.4g} to {:.4g}".format(*figure.ci95))

    add("alignment", geometry.alignment)
    add("uniformity", geometry.uniformity)
    add("Wasserstein uniformity", geometry.wasserstein_uniformity)
    add("effective rank", geometry.effective_rank)
    add("anisotropy", geometry.anisotropy)
    add("hubness", geometry.hubness)
    table.add_section()
    if ratio:
        add("sigma of the density ratio", ratio.sigma)
        add("its misfit, nats", ratio.misfit)
        for name, bound in geometry.mutual_information.items():
            add(f"f-MI lower bound, {name}", bound)
    console.print(table)
    if not ratio:
        console.print(
            "No Gaussian fits the density ratio: positive pairs are all nearer than random ones, or no nearer"
        )
