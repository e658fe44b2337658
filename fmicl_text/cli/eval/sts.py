"""``fmicl eval sts``."""

from __future__ import annotations

import argparse

from fmicl_text.cli.eval.command import asked, evaluate_models
from fmicl_text.cli.eval.options import add_output_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("models", metavar="MODEL", nargs="+", help="model folder, run folder, Hub id or sample:minilm")
    parser.add_argument(
        "--suite",
        default="sts7",
        metavar="NAME|FILE",
        help="sts7 (SimCSE's protocol, the default), sts7-mteb, stsb, stsb-dev, or the YAML file of a suite",
    )
    parser.add_argument(
        "--data", metavar="DIR|sample:stsb", help="folder of Parquet files, or the sample package; default the Hub"
    )
    parser.add_argument(
        "--bf16", action="store_true", help="twice as fast where the CPU or GPU has bfloat16; less exact"
    )
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Spearman correlation between the cosine of two sentences and the scores that people gave them."""
    from fmicl_text.evaluation.kinds.sts import Sts
    from fmicl_text.evaluation.suites import load_suite

    evaluation = asked(Sts, name=args.suite, data=args.data, bf16=args.bf16)
    evaluate_models(args, evaluation, load_suite(args.suite).name)
    return 0
