"""``fmicl eval pairs``."""

from __future__ import annotations

import argparse
from pathlib import Path

from fmicl_text.cli.eval.command import asked, evaluate_models
from fmicl_text.cli.eval.options import add_output_arguments
from fmicl_text.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("models", metavar="MODEL", nargs="+", help="model folder, run folder, Hub id or sample:minilm")
    parser.add_argument("file", metavar="FILE", help="last: csv, tsv, jsonl or Parquet file, one pair per row")
    parser.add_argument(
        "--sentences",
        nargs=2,
        metavar="COLUMN",
        default=("sentence1", "sentence2"),
        help="the columns of the two sentences (sentence1 sentence2)",
    )
    gold = parser.add_mutually_exclusive_group()
    gold.add_argument("--score", metavar="COLUMN", help="the column of the scores, the higher the more alike (score)")
    gold.add_argument("--label", metavar="COLUMN", help="the column of the labels, 0 or 1, if pairs have no scores")
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """How well the cosine of two sentences agrees with the scores or labels of your own pairs."""
    from fmicl_text.evaluation.kinds.pairs import OwnPairs

    if misplaced := [name for name in args.models if OwnPairs.claims(name)]:
        raise InputError(f"{misplaced[0]} is a file of pairs, which comes last: fmicl eval pairs MODEL... FILE")
    if not OwnPairs.claims(args.file):
        raise InputError(
            f"{args.file} is no file of pairs, which comes last and ends in .csv, .tsv, .jsonl or .parquet"
        )
    columns = {"sentences": list(args.sentences), "score": args.score, "label": args.label}
    evaluate_models(args, asked(OwnPairs, name=args.file, **columns), f"pairs-{Path(args.file).stem}")
    return 0
