"""Every objective by its name: those in the folder ``papers``, and those a user has registered."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any, TypeVar

from pydantic import ConfigDict, ValidationError, ValidationInfo
from pydantic_core import InitErrorDetails

from fmicl_text.losses import papers
from fmicl_text.losses.objective import Objective
from fmicl_text.section import Section, names_may_be_imported, one_of, refused

_Declared = TypeVar("_Declared", bound=type[Objective])
_FIRST = ("fmicl", "infonce")

_shipped: dict[str, type[Objective]] = {}
_registered: dict[str, type[Objective]] = {}


def objectives() -> dict[str, type[Objective]]:
    """Return all objectives by name: f-MICL and InfoNCE, then the others by name, then the user's own."""
    if not _shipped:
        found = {}
        for file in pkgutil.iter_modules(papers.__path__):
            module = importlib.import_module(f"{papers.__name__}.{file.name}")
            for value in vars(module).values():
                if inspect.isclass(value) and issubclass(value, Objective) and value.__module__ == module.__name__:
                    found[value.name()] = value
        _shipped.update({name: found[name] for name in (*_FIRST, *sorted(found.keys() - set(_FIRST)))})
    return _shipped | _registered


def register(objective: _Declared) -> _Declared:
    """Make an objective available to recipes by its name; a decorator of a subclass of :class:`Objective`.

    Registering a class again, as when its file is read twice, replaces it.

    Raises:
        ValueError: If the class has no ``terms``, no name, or a name that an objective of the package has.
    """
    if inspect.isabstract(objective):
        raise ValueError(f"{objective.__name__} needs a method terms(x, y, ...), which returns the terms of the loss")
    name = objective.name()
    if not name:
        raise ValueError(f'{objective.__name__} needs a name for recipes: objective: Literal["my-name"] = "my-name"')
    objectives()
    if name in _shipped:
        raise ValueError(
            f'{objective.__name__} is called "{name}", as is {_shipped[name].__name__}; choose another name'
        )
    _registered[name] = objective
    return objective


class Undeclared(Section):
    """An objective of a recipe's imports, which were not run: its name and its settings as they were written."""

    model_config = ConfigDict(extra="allow")

    objective: str
    """Its name."""


def declared(value: Any, info: ValidationInfo) -> Objective | Undeclared:
    """Return the objective that a ``loss:`` section describes.

    Raises:
        ValidationError: If there is no such objective, or a setting is wrong.
    """
    if isinstance(value, Objective | Undeclared):
        return value
    objective: type[Objective] | None = chosen(value)
    if objective is None and isinstance(value, dict):
        if not names_may_be_imported(info) or not isinstance(value.get("objective"), str):
            raise ValidationError.from_exception_data("loss", [_unknown(value)])
        return Undeclared.model_validate({key: setting for key, setting in value.items() if setting is not None})
    return (objective or Objective).model_validate(value, context=info.context)


def chosen(value: Any) -> type[Objective] | None:
    """Return the class of the objective that a ``loss:`` section names, if it does."""
    name = value.get("objective") if isinstance(value, dict) else None
    return objectives().get(name) if isinstance(name, str) else None


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a ``loss:`` section in the one spelling: one alternative for each objective."""
    alternatives = [_self_contained(objective.model_json_schema()) for objective in objectives().values()]
    return {"oneOf": [{**alternative, "required": ["objective"]} for alternative in alternatives]}


def _self_contained(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with the sections in it written out where they are referred to: it becomes part of another."""
    sections = schema.pop("$defs", {})

    def written_out(part: Any) -> Any:
        if isinstance(part, dict):
            if (name := str(part.get("$ref", "")).removeprefix("#/$defs/")) in sections:
                return written_out(sections[name]) | {key: value for key, value in part.items() if key != "$ref"}
            return {key: written_out(value) for key, value in part.items()}
        return [written_out(one) for one in part] if isinstance(part, list) else part

    written: dict[str, Any] = written_out(schema)
    return written


def _unknown(section: dict[Any, Any]) -> InitErrorDetails:
    """Return what is wrong with a section that names no known objective."""
    if "objective" not in section:
        problem = refused(f"is missing; it is one of {', '.join(objectives())}")
        return InitErrorDetails(type=problem, loc=("objective",), input=section)
    given = section["objective"]
    return InitErrorDetails(type="literal_error", loc=("objective",), input=given, ctx=one_of(objectives()))
