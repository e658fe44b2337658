"""``fmicl eval geometry``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fmicl_text.cli.eval.command import asked, evaluate_models
from fmicl_text.cli.eval.options import add_output_arguments

if TYPE_CHECKING:
    from fmicl_text.evaluation.items import Measured


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
    source.add_argument(
        "--images", metavar="SOURCE", help="images, for an encoder of images: two views of one are a positive pair"
    )
    parser.add_argument("--column", default="image", metavar="NAME", help="the column of --images (image)")
    parser.add_argument(
        "--columns",
        nargs=2,
        metavar=("A", "B"),
        default=["anchor", "positive"],
        help="the two columns of --pairs (anchor positive)",
    )
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """How sentences or images lie on the sphere, and whether the density ratio is the Gaussian that f-MICL assumes.

    Each JSON file of --output gets a picture of cosines and density ratio beside it, NAME.png.
    """
    from fmicl_text.evaluation.kinds.geometry import GeometryOfPairs

    options = {"data": args.data, "pairs": args.pairs, "columns": list(args.columns)}
    options |= {"images": args.images, "column": args.column}
    evaluation = asked(GeometryOfPairs, name="geometry", **options)
    results = evaluate_models(args, evaluation, "geometry", also=_draw)
    if not args.json and any(result.details["geometry"]["density_ratio"] is None for result in results):
        from fmicl_text.cli.console import Console

        Console().print(
            "No Gaussian fits the density ratio: positive pairs are all nearer than random ones, or no nearer"
        )
    return 0


def _draw(measured: Measured, file: Path) -> None:
    """Draw the cosines and the density ratio of a result beside it."""
    from fmicl_text.runs.plots import plot_geometry

    plot_geometry(measured.result, file.with_suffix(".png"))
