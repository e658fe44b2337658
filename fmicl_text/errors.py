"""The exceptions that the command line prints without a traceback."""

from __future__ import annotations

import signal
from collections.abc import Sequence


class InputError(ValueError):
    """Something the user gave cannot be used.

    The command line prints the problems and exits with status 2, without a traceback.

    Args:
        problems: One message, or several found at once. Each says what was wrong, where
            (file, line or key) and what would be right.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class RunFailedError(RuntimeError):
    """The run failed although the user's input is right: the network, the Hub, or weights that became NaN.

    The command line prints it and exits with status 1.
    """


class RunInterrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM ended the run. No ``except Exception`` on the way may stop that.

    The command line prints it and exits with status 128 + the signal's number, as shells do.

    Attributes:
        signal: The signal.
    """

    def __init__(self, number: int, message: str) -> None:
        self.signal = signal.Signals(number)
        super().__init__(message)
