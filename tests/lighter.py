"""What tests of a tiny training or a report do without, since it would take most of the time."""

from __future__ import annotations

import functools
import os
from typing import IO, Any

import jinja2
import pytest


def compile_templates_once(patch: pytest.MonkeyPatch | None = None) -> None:
    """Compile the template of the model card once, rather than at each checkpoint."""
    compiled = functools.cache(jinja2.Environment.compile)
    (patch or pytest.MonkeyPatch()).setattr(jinja2.Environment, "compile", compiled)


def leave_syncs_out(patch: pytest.MonkeyPatch | None = None) -> None:
    """Do not wait until files are on the disk: tests kill processes, after which files are there, and no machine."""
    (patch or pytest.MonkeyPatch()).setattr(os, "fsync", lambda handle: None)


class Blank:
    """In place of a figure: a file of it has its first bytes alone."""

    def savefig(self, file: IO[Any], *, format: str, **_: object) -> None:
        file.write("<svg/>" if format == "svg" else b"\x89PNG")


def blank_pictures(patch: pytest.MonkeyPatch | None = None) -> None:
    """Leave the pictures of trainings and reports blank."""
    from fmicl_text.runs import plots

    @functools.wraps(plots._figure)
    def blank(*_: object) -> Blank:
        return Blank()

    (patch or pytest.MonkeyPatch()).setattr(plots, "_figure", blank)
