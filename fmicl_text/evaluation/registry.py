"""All kinds of evaluation. A new one is a module in ``evaluation/kinds`` and a line here."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from fmicl_text.data.yaml_tree import dotted
from fmicl_text.evaluation.kind import Evaluation
from fmicl_text.evaluation.kinds.geometry import GeometryOfPairs
from fmicl_text.evaluation.kinds.heldout import Heldout
from fmicl_text.evaluation.kinds.images import OfImages
from fmicl_text.evaluation.kinds.mteb import Mteb, OwnSuiteFile
from fmicl_text.evaluation.kinds.pairs import OwnPairs
from fmicl_text.evaluation.kinds.sts import Sts
from fmicl_text.evaluation.kinds.transfer import Transfer
from fmicl_text.evaluation.suite_files import shipped_suites
from fmicl_text.findings import Finding, explain
from fmicl_text.section import refused
from fmicl_text.text import did_you_mean

KINDS: tuple[type[Evaluation], ...] = (Sts, OwnSuiteFile, Heldout, OwnPairs, Transfer, GeometryOfPairs, OfImages, Mteb)
"""Names belong to the first kind that claims them."""


def evaluation(asked: Any) -> Evaluation:
    """Return what a recipe asks for, by a name or by a mapping with a name and options.

    Raises:
        PydanticCustomError: No kind has the name, or it does not have the options; as a section of a recipe does.
    """
    if isinstance(asked, Evaluation):
        return asked
    options = {"name": asked} if isinstance(asked, str) else asked
    if not isinstance(options, dict) or not isinstance(options.get("name"), str):
        raise refused(f"must be the name of an evaluation, or a mapping with its name and options, got {asked!r:.60}")
    name = options["name"]
    kind = next((kind for kind in KINDS if kind.claims(name)), None)
    if kind is None:
        known = [*shipped_suites(), "geometry", "heldout", "transfer", "mteb", "images", "knn", "linear"]
        raise refused(
            f'no suite "{name}"{did_you_mean(name, known)}; there are {", ".join(sorted(known))}, '
            "or name a YAML file of a suite, or a file of pairs"
        )
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        raise refused("; ".join(_problem(name, kind, found) for found in explain(error, options, kind))) from None


def _problem(name: str, kind: type[Evaluation], found: Finding) -> str:
    if found.unknown and len(found.path) == 1:
        option, known = str(found.path[0]), [key for key in kind.model_fields if key != "name"]
        return f"{name} has no option {option}{did_you_mean(option, known)}; its options are {', '.join(known)}"
    return ": ".join([name, *([dotted(found.path)] if found.path else []), found.message])
