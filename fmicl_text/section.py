"""What every section of a recipe does: refuse unknown keys, wrong types and impossible combinations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, PydanticKnownError, core_schema

KeyPath = tuple[str | int, ...]
"""The keys and list indices that lead to a value."""
Conflict = tuple[tuple[str | int, ...], str]
"""The path from the section to a key, and what is impossible there."""


def refused(message: str) -> PydanticCustomError:
    """Return an error whose message is shown as it is."""
    return PydanticCustomError("refused", "{message}", {"message": message})


def one_of(names: Iterable[str]) -> dict[str, str]:
    """Return the context of pydantic's ``literal_error`` for names of which a value must be one."""
    *others, last = names
    return {"expected": ", ".join(f"'{name}'" for name in others) + f" or '{last}'"}


MAY_BE_IMPORTED = "names may be imported"
"""Key of pydantic's context: whether a name that is unknown may be one that a recipe's imports would register."""


def names_may_be_imported(info: ValidationInfo) -> bool:
    """Return whether an unknown name is no mistake, since what would register it was not run."""
    return bool((info.context or {}).get(MAY_BE_IMPORTED))


@dataclass(frozen=True)
class OneOf:
    """Annotates a text that must be one of several names, known only when it is validated.

    Attributes:
        names: Returns them.
    """

    names: Callable[[], Iterable[str]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the name after the type."""
        return core_schema.with_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the schema of a choice."""
        return handler(schema) | {"enum": list(self.names())}

    def _check(self, name: str, info: ValidationInfo) -> str:
        if name not in (names := list(self.names())) and not names_may_be_imported(info):
            raise PydanticKnownError("literal_error", one_of(names))
        return name


def check_revision(revision: str) -> str:
    """Return the name of a revision on the Hub, or refuse it."""
    if not re.fullmatch(r"\w[\w./-]*", revision, re.ASCII) or ".." in revision:
        raise refused(f'must be a branch, a tag or a commit, got "{revision}"')
    return revision


def check_name(name: str) -> str:
    """Return a name that can be that of a file or folder anywhere, or refuse it."""
    if not is_name(name):
        raise refused(f'must be letters, digits, - _ and ., with a letter or digit first, got "{name}"')
    return name


def is_name(name: str) -> bool:
    """Whether a text is a name as :func:`check_name` accepts it."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is not None


class Section(BaseModel):
    """A mapping in a recipe: an unknown key is an error, and so is a value of another type."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def conflicts(self) -> Iterator[Conflict]:
        """Yield every impossible combination of values that are fine by themselves."""
        yield from ()

    @classmethod
    def written_at(cls, value: Any) -> dict[str, KeyPath]:
        """Return where in ``value`` keys were written that an older spelling has in another place."""
        return {}

    @classmethod
    def keys_of_older(cls, name: str) -> list[str]:
        """Return the keys of a section in it that an older spelling has; none if it has no such, or any keys."""
        return []

    @model_validator(mode="after")
    def _refuse_conflicts(self) -> Self:
        problems = [InitErrorDetails(type=refused(text), loc=loc, input=None) for loc, text in self.conflicts()]
        if problems:
            raise ValidationError.from_exception_data(type(self).__name__, problems)
        return self

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Drop ``null`` where it is the default, so that a resolved recipe has only lines that say something."""
        fields = type(self).model_fields
        kept = handler(self).items()
        return {
            key: value
            for key, value in kept
            if value is not None or key not in fields or fields[key].default is not None
        }
