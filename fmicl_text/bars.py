"""Progress bars: where they are shown, and which of the libraries' are."""

from __future__ import annotations

import os
import sys

DISABLED = "TQDM_DISABLE"
"""The environment variable that turns bars off; tqdm reads it when it is imported."""


def disable_bars() -> None:
    """Show no bars from here on, neither our own nor the libraries', which are not imported yet."""
    os.environ[DISABLED] = "1"


def bars_are_shown() -> bool:
    """Return whether bars are shown: on a terminal, unless they are turned off."""
    return sys.stderr.isatty() and not os.environ.get(DISABLED)


def silence_model_files() -> None:
    """Show no bar for each model that transformers reads or writes; those of downloads stay."""
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils.logging import disable_progress_bar

    of_downloads = not are_progress_bars_disabled()
    disable_progress_bar()
    if of_downloads:
        enable_progress_bars()
