"""What tests of a tiny training or a report do without, since it would take most of the time."""

from __future__ import annotations

import functools
import os
from types import SimpleNamespace
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


def leave_tracebacks_of_seeds_out(patch: pytest.MonkeyPatch | None = None) -> None:
    """Do not note where each seed is set: torch does until a GPU is first used, and it takes 1 ms on a deep stack."""
    import torch

    for device in (torch.cuda, torch.xpu):
        (patch or pytest.MonkeyPatch()).setattr(device, "traceback", SimpleNamespace(format_stack=list))


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
