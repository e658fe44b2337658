"""The ``fmicl`` command: one module per subcommand, imported only when it runs.

A module declares its options, calls what does the work and prints the outcome. Modules here may import everything else;
at import time nothing heavy, so that ``fmicl --help`` is instant.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence

from fmicl_text.bars import disable_bars
from fmicl_text.cli.parser import COMPLETES, Parser, complete, words_to_complete
from fmicl_text.cli.terminal import visible_output
from fmicl_text.errors import InputError, RunFailedError, RunInterrupted
from fmicl_text.files import user_path

VERBS = {
    "train": "train a sentence encoder from a recipe",
    "sweep": "find the loss and its settings that your data wants",
    "eval": "evaluate sentence encoders",
    "report": "show runs, and how they compare, on one page",
    "export": "convert a run's encoder, or store its embeddings in fewer bits, and say what that costs",
    "publish": "publish a run or an encoder on the Hugging Face Hub",
    "recipe": "list, show, copy, write and validate recipes",
    "env": "print versions, device and caches, for a report of a problem",
}
"""Subcommand -> one line of help. Its module here has ``add_arguments(parser)`` and ``run(args) -> int``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one ``fmicl`` command; control characters in everything it prints are made visible.

    Returns:
        0 if done, 1 if the run failed, 2 if the user's input is wrong, 128 + the signal's number if a signal ended it.
    """
    if COMPLETES in os.environ:
        complete(command_line(words_to_complete()))
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when the Hub's client is imported
    if not sys.stderr.isatty():
        disable_bars()
    with visible_output():
        return _run(list(sys.argv[1:] if arguments is None else arguments))


def command_line(arguments: Sequence[str]) -> Parser:
    """Return the parser of ``fmicl``; only the verb that ``arguments`` begin with has its options.

    Its module is imported, and no other: ``fmicl --help`` stays instant.
    """
    parser = Parser(prog="fmicl", description="Fine-tune sentence encoders with f-MICL losses.")
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for verb, help_line in VERBS.items():
        verb_parser = verbs.add_parser(verb, help=help_line, description=f"{help_line[:1].upper()}{help_line[1:]}.")
        if verb in arguments[:1]:
            importlib.import_module(f"fmicl_text.cli.{verb}").add_arguments(verb_parser)
    return parser


def _run(arguments: list[str]) -> int:
    parser = command_line(arguments)
    args = parser.parse_args(list(map(_with_home, arguments)))
    if args.version:
        from fmicl_text import __version__

        print(f"fmicl-text {__version__}")
        return 0
    if args.verb is None:
        parser.print_help()
        return 2
    try:
        status = importlib.import_module(f"fmicl_text.cli.{args.verb}").run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe; Python would report that again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except InputError as error:
        if os.environ.get("RANK", "0") == "0":  # all processes of a run read the same input, so only one reports
            for problem in error.problems:
                print(f"error: {_without_secrets(problem)}", file=sys.stderr)
        return 2
    except (RunFailedError, OSError) as error:  # such as a file that may not be written
        print(f"error: {_without_secrets(str(error))}", file=sys.stderr)
        return 1
    except RunInterrupted as error:
        print(error, file=sys.stderr)
        return 128 + error.signal
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def _with_home(argument: str) -> str:
    """Return an argument with ``~`` as the home folder, also where no shell replaced it, as in ``--output=~/run``."""
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return f"{option}{equals}{user_path(value)}" if value.startswith("~") else argument


def _without_secrets(message: str) -> str:
    """Return a message without passwords and tokens, such as one in an address that was given to ``--set``."""
    from fmicl_text.hub.private import redact

    return redact(message)
