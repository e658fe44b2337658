"""What the kinds of evaluation have in common on the command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from fmicl_text.errors import InputError


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where results go, how many sentences are encoded at a time, and whether models may run code."""
    parser.add_argument(
        "--output", type=Path, metavar="FILE|DIR", help="also write JSON: to FILE.json, or to one file per model in DIR"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing results")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else; a list for several models")
    parser.add_argument(
        "--batch-size", type=positive, default=128, metavar="N", help="sentences or images at a time (128)"
    )
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run Python code that comes with the models: only if you have read it",
    )


def result_files(output: Path | None, models: list[str], name: str, overwrite: bool) -> Sequence[Path | None]:
    """Return where the result of each model goes, before anything is computed.

    Args:
        output: A file that ends in ``.json``, a folder, or None for nowhere.
        models: Names of the models.
        name: What they are evaluated on; in a folder, the start of each file's name.
        overwrite: Whether existing results may be replaced.

    Raises:
        InputError: A result exists already, or two would go to the same file.
    """
    if output is None:
        return [None] * len(models)
    if output.suffix == ".json":
        files = [output] * len(models)
    else:
        files = [output / f"{_plain(name)}-{_plain(model)}.json" for model in models]
    problems = [f"{file} already exists; --overwrite replaces it" for file in files if file.exists() and not overwrite]
    if len(set(files)) < len(files):
        problems.append(f"--output {output}: results of several models need a folder, and models of different names")
    if files[0].parent.is_file():
        problems.append(f"--output {output}: {files[0].parent} is a file; give a folder, or a file that ends in .json")
    if problems:
        raise InputError(list(dict.fromkeys(problems)))
    return files


def positive(text: str) -> int:
    """Parse a positive count for ``argparse``."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {number}")
    return number


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")
