"""What pydantic found wrong with a section, in words for the person who wrote it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from inspect import isclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fmicl_text.section import KeyPath, Section
from fmicl_text.text import nearest

_PLAINER = {
    "model_type": "must be a mapping of keys",
    "model_attributes_type": "must be a mapping of keys",
    "dict_type": "must be a mapping of keys",
    "none_required": "must be null",
    "too_short": "must not be empty",
    "string_type": "must be text",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("list_type", "tuple_type"), "must be a list"),
}
_FEW = 40
"""Up to this many known keys are listed in full."""


@dataclass(frozen=True)
class SectionOf:
    """Annotates a field whose section is checked by a validator of its own.

    Attributes:
        model: Returns the model that checks the section, given what was written there.
    """

    model: Callable[[Any], type[BaseModel] | None]


@dataclass(frozen=True)
class Finding:
    """One thing wrong with a section.

    Attributes:
        path: The key it is about, as it was written.
        message: What is wrong and what would be right.
        unknown: Whether the key is unknown, rather than its value wrong.
        missing: Whether the key is not there.
        meant: The valid key or value nearest to the one given.
    """

    path: KeyPath
    message: str
    unknown: bool = False
    missing: bool = False
    meant: str | None = None


def explain(error: ValidationError, value: Any, model: type[BaseModel]) -> list[Finding]:
    """Return one finding for each key of ``value``, given to ``model``, that ``error`` is about.

    A union, such as a number or "auto", reports a failure for each of its members; they become one sentence.
    """
    by_path: dict[KeyPath, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        path = _path(details, value, model)
        if details["type"] == "missing" and isinstance(details["loc"][-1], int):  # an item of a list that is too short
            path = path[:-1]
        by_path.setdefault(path, []).append(details)
    return [_finding(path, failures, value, model) for path, failures in by_path.items()]


def _path(details: ErrorDetails, value: Any, model: type[BaseModel]) -> KeyPath:
    """Return pydantic's location as it was written: without the members of unions, and by its older spelling."""
    location = details["loc"]
    path: KeyPath = ()
    section: type[BaseModel] | None = model
    found = False
    for step in location:
        written = section.written_at(value) if section and issubclass(section, Section) else {}
        keys = written.get(str(step), (step,) if _has(value, step) else ())
        found = bool(keys)
        section = _inner(section, step, value)
        for key in keys:
            path, value = (*path, key), value[key]
    if details["type"] in ("missing", "refused") and location and not found:
        path = (*path, location[-1])
    return path


def _has(value: Any, step: str | int) -> bool:
    return (isinstance(value, dict) and step in value) or (isinstance(value, list) and step in range(len(value)))


def _finding(path: KeyPath, failures: Sequence[ErrorDetails], value: Any, model: type[BaseModel]) -> Finding:
    kind, location, given = failures[0]["type"], failures[0]["loc"], failures[0]["input"]
    if kind == "refused":
        return Finding(path, " and ".join(dict.fromkeys(details["msg"] for details in failures)))
    if kind == "missing" and isinstance(location[-1], int):
        return Finding(path, f"must have {int(failures[-1]['loc'][-1]) + 1} items, got {_shown(given)}")
    if kind == "missing":
        return Finding(path, "is missing", missing=True)
    if kind == "extra_forbidden":
        section = _section_at(location[:-1], value, model)
        older = section.keys_of_older(str(path[-2])) if section and issubclass(section, Section) and path[1:] else []
        known = older or list(section.model_fields if section else ())
        meant = nearest(str(location[-1]), known)
        few = "; known here are " + ", ".join(known) if len(known) < _FEW else ""
        hint = f' (did you mean "{meant}"?)' if meant else few
        return Finding(path, f"unknown key{hint}", unknown=True, meant=meant)
    # Several failures are the members of one union.
    expected = " ".join(details.get("ctx", {}).get("expected", "") for details in failures)
    valid = re.findall(r"'([^']*)'", expected)
    first, *others = dict.fromkeys(_needed(details) for details in failures)
    message = " or ".join([first, *(other.removeprefix("must be ") for other in others)]).replace("'", '"')
    meant = nearest(given, valid) if isinstance(given, str) else None
    hint = f' (did you mean "{meant}"?)' if meant else ""
    return Finding(path, f"{message}, got {_shown(given)}{hint}", meant=meant)


def _needed(details: ErrorDetails) -> str:
    """Return pydantic's "Input should be ..." as "must be ..."."""
    if details["type"] == "too_short" and (least := details["ctx"]["min_length"]) > 1:
        return f"must have {least} items or more"
    if details["type"] == "too_long":
        return f"must have {details['ctx']['max_length']} items at most"
    return _PLAINER.get(details["type"]) or re.sub(r"^\w+ should ", "must ", details["msg"])


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _section_at(location: KeyPath, value: Any, model: type[BaseModel]) -> type[BaseModel] | None:
    """Return the model of the section at a location."""
    section: type[BaseModel] | None = model
    for step in location:
        section = _inner(section, step, value)
        value = value[step] if _has(value, step) else value  # a step may be the name of a union's member
    return section


def _inner(section: type[BaseModel] | None, step: str | int, value: Any) -> type[BaseModel] | None:
    """Return the model of the section under one key of a section; the same model for a step that is no key."""
    if section is None or step not in section.model_fields:
        return section
    field = section.model_fields[str(step)]
    for note in field.metadata:
        if isinstance(note, SectionOf):
            return note.model(value[step] if _has(value, step) else None)
    return next(_models_in(field.annotation), None)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
