"""What pydantic found wrong with a recipe, in words for its author."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import isclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fmicl_text.data.yaml_tree import KeyPath
from fmicl_text.recipe.schema import Recipe
from fmicl_text.recipe.training_arguments import training_arguments_model
from fmicl_text.text import nearest

Location = tuple[str | int, ...]
"""Where pydantic found something: keys, indices, and the tags and members of unions in between."""

_PLAINER = {
    "model_type": "must be a mapping of keys",
    "model_attributes_type": "must be a mapping of keys",
    "dict_type": "must be a mapping of keys",
    "none_required": "must be null",
    "too_short": "must not be empty",
}


@dataclass(frozen=True)
class Finding:
    """One thing wrong with a recipe.

    Attributes:
        path: The key it is about.
        message: What is wrong and what would be right.
        unknown: Whether the key is unknown, rather than its value wrong.
        meant: The valid key or value nearest to the one given.
    """

    path: KeyPath
    message: str
    unknown: bool = False
    meant: str | None = None


def explain(error: ValidationError, value: dict[str, Any]) -> list[Finding]:
    """Return one finding for each key of ``value`` that ``error`` is about.

    A union, such as a number or "auto", reports a failure for each of its members; they become one sentence. Of a name
    or a section, what is wrong inside a section that was given says it all.
    """
    by_path: dict[KeyPath, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        by_path.setdefault(_path(details, value), []).append(details)
    inside = {path[:depth] for path in by_path for depth in range(len(path))}
    return [
        _finding(path, failures)
        for path, failures in by_path.items()
        if path not in inside or failures[0]["type"] != "literal_error"
    ]


def _path(details: ErrorDetails, value: Any) -> KeyPath:
    """Return pydantic's location without what is not in the recipe: tags of sections, members of unions."""
    location = details["loc"]
    path: KeyPath = ()
    for depth, step in enumerate(location):
        is_tag = len(_sections(location[:depth])) > 1
        there = (isinstance(value, dict) and step in value) or (isinstance(value, list) and step in range(len(value)))
        if there and not is_tag:
            path, value = (*path, step), value[step]
    if details["type"] in ("missing", "refused") and path[-1:] != location[-1:]:
        path = (*path, location[-1])
    if details["type"].startswith("union_tag"):
        path = (*path, details["ctx"]["discriminator"].strip("'"))
    return path


def _finding(path: KeyPath, failures: list[ErrorDetails]) -> Finding:
    kind, location, given = failures[0]["type"], failures[0]["loc"], failures[0]["input"]
    if kind == "refused":
        return Finding(path, " and ".join(details["msg"] for details in failures))
    if kind == "missing":
        return Finding(path, "is missing")
    if kind == "union_tag_not_found":
        return Finding(path, f"is missing; it is one of {', '.join(_tags(location))}")
    if kind == "extra_forbidden":
        known = _keys(location[:-1])
        meant = nearest(str(location[-1]), known)
        few = "; known here are " + ", ".join(known) if len(known) < 20 else ""
        hint = f' (did you mean "{meant}"?)' if meant else few
        return Finding(path, f"unknown key{hint}", unknown=True, meant=meant)
    if kind == "union_tag_invalid":
        given, valid = given[path[-1]], _tags(location)
        message = "must be one of " + ", ".join(f'"{tag}"' for tag in valid)
    else:
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
    return _PLAINER.get(details["type"]) or re.sub(r"^\w+ should ", "must ", details["msg"])


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _keys(location: Location) -> list[str]:
    """Return the keys of the section at a location."""
    if location == ("train",):
        return list(training_arguments_model().model_fields)
    return [key for section in _sections(location) for key in section.model_fields]


def _tags(location: Location) -> list[str]:
    """Return the tags by which the section at a location is chosen among alternatives."""
    return [tag for section in _sections(location) for tag in _own_tags(section)]


def _sections(location: Location) -> list[type[BaseModel]]:
    """Return the schema of the section at a location, several if the location ends before the tag that chooses."""
    sections: list[type[BaseModel]] = [Recipe]
    for step in location:
        if len(sections) > 1:
            sections = [section for section in sections if step in _own_tags(section)]
        else:
            fields = [section.model_fields[str(step)] for section in sections if step in section.model_fields]
            sections = [inner for field in fields for inner in _models_in(field.annotation)]
    return sections


def _own_tags(section: type[BaseModel]) -> tuple[str, ...]:
    """Return the values of the choice that a section must make, which tells it from its alternatives."""
    choices = (field.annotation for field in section.model_fields.values() if field.is_required())
    return next((get_args(choice) for choice in choices if get_origin(choice) is Literal), ())


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
