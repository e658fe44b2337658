"""The ``evaluate:`` section of a recipe."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, PositiveInt

from fmicl_text.files import resource_folder
from fmicl_text.section import Conflict, Section, refused
from fmicl_text.text import did_you_mean


def _check_suite(suite: str) -> str:
    known = ["geometry", "heldout", *sorted(path.stem for path in resource_folder("suites").glob("*.yaml"))]
    if suite in known or (suite.endswith((".yaml", ".yml")) and os.path.isfile(suite)):
        return suite
    hint = did_you_mean(suite, known)
    raise refused(f'no suite "{suite}"{hint}; there are {", ".join(known)}, or name a YAML file')


class EvaluateSection(Section):
    """What to measure, and when."""

    during: Literal["stsb-dev"] | None = "stsb-dev"
    """Score that chooses the best checkpoint during training."""
    every_steps: PositiveInt = 125
    """Steps between two scores during training."""
    before: bool = False
    """Also measure everything in `after` before training."""
    after: list[Annotated[str, AfterValidator(_check_suite)]] = []
    """What to measure at the end: names or files of suites, heldout, and geometry."""
    data: str | None = None
    """Where the STS data comes from: a folder, or sample:stsb; default the Hub."""

    def conflicts(self) -> Iterator[Conflict]:
        """Everything is measured once."""
        if len({Path(name).stem for name in self.after}) < len(self.after):  # which is what the results are called
            yield ("after",), f"has something twice: {', '.join(self.after)}"
