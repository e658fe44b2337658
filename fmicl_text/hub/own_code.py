"""Encoders that need Python code of their own, which are not published."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fmicl_text.errors import InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

WHY = "an encoder with Python code of its own is not published, as whoever loads it would run that code"


def check_no_own_code(model: SentenceTransformer) -> None:
    """Refuse, before training, to publish an encoder that cannot be loaded without Python code of its own.

    Raises:
        InputError: A part of it is of such code, which ``model.trust_remote_code`` has run.
    """
    from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME as OWN

    for module in model.modules():
        for part in (module, getattr(module, "config", None), getattr(module, "tokenizer", None)):
            if type(part).__module__.partition(".")[0] == OWN:
                raise InputError(
                    f"publish.repo: {WHY}: {type(part).__name__} is of such code; leave publish.repo out, and "
                    "publish the run's model/ by the Hub's own tools"
                )


@contextmanager
def refusing_own_code(folder: Path) -> Iterator[None]:
    """Say of an encoder that does not load for want of its own code that it is not published.

    Raises:
        InputError: In place of the advice to trust the code, which ``fmicl publish`` never does. Others pass.
    """
    try:
        yield
    except InputError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise InputError(f"{folder}: {WHY}; publish it by the Hub's own tools") from error
