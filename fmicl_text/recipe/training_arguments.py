"""The ``train:`` section of a recipe: the fields of ``SentenceTransformerTrainingArguments`` that have an effect."""

from __future__ import annotations

import dataclasses
import functools
import json
import types
from enum import Enum
from inspect import isclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, JsonValue, create_model
from pydantic_core import PydanticCustomError

from fmicl_text.recipe.accelerate import NO_SHARDING
from fmicl_text.recipe.trackers import unknown_tracker

_PUBLISH = "is not how this publishes; set publish.repo and publish.license"
_ELSEWHERE = {
    "output_dir": "cannot be set in a recipe; give `fmicl train --output FOLDER`",
    "seed": "belongs at the top of the recipe, as `seeds: [42]`",
    "push_to_hub": _PUBLISH,
    **dict.fromkeys(("hub_model_id", "hub_private_repo", "hub_strategy", "hub_always_push", "hub_revision"), _PUBLISH),
    "fsdp": NO_SHARDING,
    "fsdp_config": NO_SHARDING,
    "deepspeed": NO_SHARDING,
    "hub_token": "is a secret, which no recipe should hold: log in by `hf auth login`, or set HF_TOKEN",
}
_WITHOUT_EFFECT = {
    "`fmicl train` trains, and `evaluate` says what follows": ("do_train", "do_predict"),
    "`evaluate` says what is measured during training, and how": (
        *("do_eval", "per_device_eval_batch_size", "prediction_loss_only", "include_for_metrics", "batch_eval_metrics"),
        *("eval_accumulation_steps", "eval_do_concat_batches", "eval_use_gather_object"),
        *("bf16_full_eval", "fp16_full_eval"),
    ),
    "train.batch_sampler says how batches are drawn": ("train_sampling_strategy", "length_column_name"),
    "data.columns says what is read": ("label_names", "remove_unused_columns"),
    "it is for language models": ("use_cache", "liger_kernel_config", "average_tokens_across_devices"),
    "training stops at NaN and infinity": ("logging_nan_inf_filter",),
}
"""What the libraries never read, or not where data and evaluation are those of a recipe."""
_NOT_HERE = _ELSEWHERE | {key: f"has no effect: {why}" for why, keys in _WITHOUT_EFFECT.items() for key in keys}
LARS = "lars"
"""An optimiser beyond the library's: You, Gitman, Ginsburg, arXiv 1708.03888; momentum and so on go to optim_args."""
PRECISION = "precision"
"""A key beyond the library's: ``auto`` is what the device is faster with."""
_PLAIN = {str, int, float, bool, dict, list, types.NoneType}


def check_training_arguments(values: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return ``values`` checked against the training arguments, numbers as the fields have them.

    Importing sentence-transformers takes seconds, so an empty section does not.

    Raises:
        ValidationError: Of all unknown names, wrong types and fields that are set elsewhere.
    """
    if not values:
        return values
    # A recipe holds what JSON can: in JSON mode `linear` may name a member of an enum, and still "8" is no int.
    section = training_arguments_model().model_validate_json(json.dumps(values))
    return section.model_dump(mode="json", exclude_unset=True)


@functools.cache
def training_arguments_model() -> type[BaseModel]:
    """Build the model with one field for each training argument; it is for checking, its defaults mean nothing."""
    from sentence_transformers import SentenceTransformerTrainingArguments

    hints = get_type_hints(SentenceTransformerTrainingArguments)
    fields: dict[str, Any] = {
        field.name: (_refused(field.name) if field.name in _NOT_HERE else _yaml_type(hints[field.name]), None)
        for field in dataclasses.fields(SentenceTransformerTrainingArguments)
    }
    fields["report_to"] = (Annotated[_yaml_type(hints["report_to"]), AfterValidator(_check_trackers)], None)
    fields["optim"] = (fields["optim"][0] | Literal[LARS], None)
    fields[PRECISION] = (Literal["auto"], None)
    return create_model("TrainSection", __config__=ConfigDict(extra="forbid", strict=True), **fields)


def training_arguments_schema() -> dict[str, Any]:
    """Return the JSON schema of the section, without what a recipe must not set."""
    schema = training_arguments_model().model_json_schema()
    properties = {name: field for name, field in schema["properties"].items() if name not in _NOT_HERE}
    for field in properties.values():
        del field["default"]  # the null of a model that is for checking; the library's defaults hold
    return {"properties": properties, "additionalProperties": False, "$defs": schema["$defs"]}


def _check_trackers(report_to: str | list[str] | None) -> str | list[str] | None:
    if wrong := unknown_tracker(report_to):
        raise PydanticCustomError("refused", "{message}", {"message": wrong})
    return report_to


def _refused(name: str) -> Any:
    def refuse(value: object) -> object:
        raise PydanticCustomError("refused", "{message}", {"message": _NOT_HERE[name]})

    return Annotated[JsonValue, BeforeValidator(refuse)]


def _yaml_type(annotation: Any) -> Any:
    """Return the part of an annotation that YAML can hold.

    ``SchedulerType | str`` means the enum or one of its values, not any text; a class or a callable cannot be
    written down.
    """
    is_union = get_origin(annotation) in (Union, types.UnionType)
    members = get_args(annotation) if is_union else (annotation,)
    enums = [member for member in members if isclass(member) and issubclass(member, Enum)]
    if enums:
        members = (*enums, *(member for member in members if member is types.NoneType))
    else:
        members = tuple(m for m in members if m in _PLAIN or get_origin(m) in (dict, list, Literal))
    return Union[members]  # noqa: UP007  # built from a tuple
