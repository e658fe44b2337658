"""The ``fmicl`` command in processes of its own, forked from a server that has imported the libraries once.

For what needs real processes: several that train together, and some that are killed. What is about the importing, such
as environment variables that are read then, needs an interpreter of its own.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch.multiprocessing
from lighter import blank_pictures, compile_templates_once, leave_syncs_out, leave_tracebacks_of_seeds_out

_SERVED = multiprocessing.get_context("forkserver")
_SERVED.set_forkserver_preload(["fmicl_text.training.train", "fmicl_text.cli.train", "jinja2", "pytest"])


def fmicl(
    *arguments: object,
    output: Path,
    folder: Path | None = None,
    **environment: str,
) -> BaseProcess:
    """Start a command; what it writes to the two streams goes into a file.

    Args:
        arguments: Of the command.
        output: That file.
        folder: Where the command runs.
        environment: Further variables.
    """
    given = [str(argument) for argument in arguments], output, folder or Path.cwd(), environment
    process = _SERVED.Process(target=_run, args=given)
    process.start()
    return process


def _run(arguments: Sequence[str], output: Path, folder: Path, environment: dict[str, str]) -> None:
    from fmicl_text.cli import main

    gc.freeze()
    multiprocessing.set_start_method(None, force=True)  # workers of a loader start as in a process that was not forked
    compile_templates_once()
    blank_pictures()
    leave_syncs_out()
    leave_tracebacks_of_seeds_out()
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.environ.update(environment)
    os.chdir(folder)
    sys.exit(main(arguments))


def together(function: Callable[..., None], processes: int, *arguments: Any) -> None:
    """Call a function in several processes with its number and the arguments, and wait for all; raise as they do."""
    torch.multiprocessing.start_processes(function, arguments, nprocs=processes, start_method="forkserver")
