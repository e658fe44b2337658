"""``fmicl eval``: one module per kind of evaluation, which may import what those of ``cli`` may."""

from __future__ import annotations

import argparse
import importlib

KINDS = {
    "sts": "semantic textual similarity",
    "geometry": "alignment, uniformity and the density ratio",
    "images": "classes of images, by nearest neighbours and a linear classifier",
    "mteb": "mteb's tasks and benchmarks, and your own tasks scored the same way",
    "pairs": "your own scored or labelled pairs",
    "transfer": "SentEval's classification tasks",
}
"""Kind -> one line of help. ``fmicl_text.cli.eval.<kind>`` has ``add_arguments(parser)`` and ``run(args) -> int``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a subcommand for each kind; it sets ``evaluate``, the function that runs it."""
    kinds = parser.add_subparsers(metavar="WHAT", title="what to evaluate", required=True)
    for kind, help_line in KINDS.items():
        module = importlib.import_module(f"fmicl_text.cli.eval.{kind}")
        kind_parser = kinds.add_parser(kind, help=help_line, description=module.run.__doc__)
        kind_parser.set_defaults(evaluate=module.run)
        module.add_arguments(kind_parser)


def run(args: argparse.Namespace) -> int:
    """Run ``fmicl eval``."""
    from fmicl_text.training.memory import keep_memory

    keep_memory()
    return args.evaluate(args)
