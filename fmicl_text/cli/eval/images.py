"""``fmicl eval images``."""

from __future__ import annotations

import argparse

from fmicl_text.cli.eval.command import asked, evaluate_models
from fmicl_text.cli.eval.options import add_output_arguments, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("models", metavar="MODEL", nargs="+", help="model folder, run folder or Hub id")
    parser.add_argument(
        "--train", metavar="SOURCE", required=True, help="images with labels: file, folder, zip, Hub id, sample:digits"
    )
    parser.add_argument("--test", metavar="SOURCE", help="images to classify; default the split test of --train")
    parser.add_argument("--image", metavar="COLUMN", help="column of the images (image)")
    parser.add_argument("--label", metavar="COLUMN", help="column of the labels (label)")
    parser.add_argument("--rows", type=positive, metavar="N", help="use the first N labelled images")
    parser.add_argument("--method", choices=["knn", "linear"], help="one of the two methods; default both")
    parser.add_argument("--k", type=positive, metavar="N", help="neighbours that vote (200)")
    parser.add_argument("--labels-per-class", type=positive, metavar="N", help="draw N labels of each class")
    parser.add_argument("--draws", type=positive, metavar="N", help="how often to draw them (1)")
    parser.add_argument("--baselines", action="store_true", help="also raw pixels and an encoder with random weights")
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Classes of images, by nearest neighbours and by a linear classifier on frozen embeddings."""
    from fmicl_text.evaluation.kinds.images import OfImages

    names = ("train", "test", "image", "label", "rows", "k", "labels_per_class", "draws", "baselines")
    options = {name: getattr(args, name) for name in names}
    name = args.method or "images"
    evaluate_models(args, asked(OfImages, name=name, **options), name)
    return 0
