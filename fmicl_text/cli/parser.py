"""The parser of every command: it names what is nearest to a mistyped word, and shells complete by it."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from fmicl_text.text import did_you_mean

COMPLETES = "_ARGCOMPLETE"
"""The environment variable by which a shell asks what a word on its command line may become."""

_INVALID_CHOICE = re.compile(r"invalid choice: '?(.*?)'? \(choose from (.*)\)")
_OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")


class Parser(argparse.ArgumentParser):
    """A parser whose errors name the nearest valid word; those of its verbs are of this class too."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse, and refuse what is unknown here, in the parser of the verb, which knows the options that there are."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            options = [word.partition("=")[0] for word in unknown if word.startswith("-")]
            hint = did_you_mean(options[0], _OPTION.findall(self.format_usage())) if options else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong, and exit with status 2."""
        if choice := _INVALID_CHOICE.search(message):
            message += did_you_mean(choice[1], re.findall(r"[\w-]+", choice[2]))
        super().error(message)


def completed_by(names: Callable[[], Iterable[str]], argument: argparse.Action) -> None:
    """Have shells complete an argument by names that are found when they are asked for, and by files."""

    def complete(prefix: str, **_: Any) -> list[str]:
        from argcomplete.completers import FilesCompleter

        return [*names(), *FilesCompleter()(prefix)]

    argument.completer = complete  # type: ignore[attr-defined]


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes."""
    from fmicl_text.recipe.file import shipped_recipes

    return list(shipped_recipes())


def words_to_complete() -> list[str]:
    """Return the words after ``fmicl`` on the command line that a shell asks about."""
    return os.environ["COMP_LINE"].split()[1:]


def complete(parser: Parser) -> NoReturn:
    """Tell the shell what the word at its cursor may become, and exit."""
    import argcomplete

    argcomplete.autocomplete(parser)  # exits
    raise AssertionError("the shell asked for no completion")
