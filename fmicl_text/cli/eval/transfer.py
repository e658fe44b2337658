"""``fmicl eval transfer``."""

from __future__ import annotations

import argparse

from fmicl_text.cli.eval.command import asked, evaluate_models
from fmicl_text.cli.eval.options import add_output_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("models", metavar="MODEL", nargs="+", help="model folder, run folder, Hub id or sample:minilm")
    parser.add_argument(
        "--tasks", metavar="A,B", help="some of MR, CR, SUBJ, MPQA, SST2, TREC and MRPC; default all, which average"
    )
    parser.add_argument("--data", metavar="DIR", help="folder with transfer/mr.parquet and so on; default the Hub")
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """SentEval's seven classification tasks: logistic regression on frozen embeddings."""
    from fmicl_text.evaluation.kinds.transfer import Transfer

    tasks = [name.strip() for name in args.tasks.split(",")] if args.tasks else None
    evaluate_models(args, asked(Transfer, name="transfer", tasks=tasks, data=args.data), "transfer")
    return 0
