"""What all kinds of ``fmicl eval`` share: load the data, score each model, write and print the results."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fmicl_text.bars import bars_are_shown, silence_model_files
from fmicl_text.cli.eval.options import result_files
from fmicl_text.errors import InputError

if TYPE_CHECKING:
    from fmicl_text.evaluation.items import Measured
    from fmicl_text.evaluation.kind import Evaluation
    from fmicl_text.evaluation.results import Result
    from fmicl_text.evaluation.scored_model import ScoredModel


def asked(kind: type[Evaluation], **options: object) -> Evaluation:
    """Return an evaluation with options from the command line; options that are None take their defaults.

    Raises:
        InputError: The options contradict each other.
    """
    from pydantic import ValidationError

    try:
        return kind.model_validate({key: value for key, value in options.items() if value is not None})
    except ValidationError as error:
        raise InputError(
            [": ".join([*map(str, details["loc"]), details["msg"]]) for details in error.errors()]
        ) from None


def evaluate_models(
    args: argparse.Namespace,
    evaluation: Evaluation,
    name: str,
    also: Callable[[Measured, Path], None] | None = None,
) -> list[Result]:
    """Score each of ``args.models``, write results as ``--output`` says, and print them.

    Args:
        args: With ``models`` and what :func:`fmicl_text.cli.eval.options.add_output_arguments` declares.
        evaluation: What to run.
        name: Start of the names of result files in a folder.
        also: Called with each result and its file, to write something beside it.

    Raises:
        InputError: Wrong data, no such model, or files that are there already.
    """
    from fmicl_text.evaluation.items import write_result
    from fmicl_text.evaluation.kind import Effort, Given

    files = result_files(args.output, args.models, name, args.overwrite)
    effort = Effort(args.batch_size, show_progress=bars_are_shown())
    results = []
    silence_model_files()
    with contextlib.redirect_stdout(sys.stderr):  # whatever a library may print
        loaded = evaluation.load(Given())
        for model, file in zip(args.models, files, strict=True):
            measured = loaded.measure(load_scored(model, args), effort)
            results.append(measured.result)
            if file is not None:
                write_result(measured, file)
                if also is not None:
                    also(measured, file)
    show(args, results)
    return results


def load_scored(model: str, args: argparse.Namespace) -> ScoredModel:
    """Load a model, whose own code is run only if ``args.trust_remote_code`` says so: a run may be somebody else's.

    Raises:
        InputError: There is no such model, or it does not load.
    """
    from fmicl_text.evaluation.scored_model import scored_model

    return scored_model(model, trust_remote_code=args.trust_remote_code)


def show(args: argparse.Namespace, results: list[Result]) -> None:
    """Print results as JSON, a list if they are of several models, or as a table."""
    from fmicl_text.cli.console import Console
    from fmicl_text.cli.eval.table import print_results

    documents = [result.document() for result in results]
    if args.json:
        print(json.dumps(documents if len(documents) > 1 else documents[0], indent=2, allow_nan=False))
    else:
        print_results(Console(), results)
