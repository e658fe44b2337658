"""The ``loss:`` section of a recipe, as the type of a field."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import PlainValidator, SerializeAsAny, ValidationInfo, WithJsonSchema

from fmicl_text.findings import SectionOf
from fmicl_text.losses.objective import Objective
from fmicl_text.losses.registry import Undeclared, chosen, declared, json_schema


def _declared_or_none(value: Any, info: ValidationInfo) -> Objective | Undeclared | None:
    return None if value is None else declared(value, info)


LossSection = Annotated[
    SerializeAsAny[Objective | Undeclared], PlainValidator(declared), SectionOf(chosen), WithJsonSchema(json_schema())
]
"""An objective and its settings."""
OptionalLossSection = Annotated[
    SerializeAsAny[Objective | Undeclared] | None,
    PlainValidator(_declared_or_none),
    SectionOf(chosen),
    WithJsonSchema(json_schema()),
]
"""The same, or nothing."""
