"""The generated parts of the reference, as Markdown: recipe keys, evaluations, formats, commands, losses, Python."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import inspect
import json
import operator
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fmicl_text.cli import VERBS
from fmicl_text.cli import command_line as command_line_of

Schema = Mapping[str, Any]

CODE = re.compile(r"\[`([\w.]+)`\]\((?:\.\./)*(fmicl_text/[\w/]+)\.py\)")
"""A link that is the name of a function, a class or a module in the file of it."""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def recipe_keys() -> str:
    """Return every key of a recipe, a table for each section, from its JSON schema."""
    from fmicl_text.recipe.schema import Recipe

    schema = Recipe.model_json_schema()
    parts = [_keys("Top level", schema)]
    for place, name in _SECTIONS.items():
        parts.append(_keys(f"`{place}`", schema["$defs"][name]))
        if place == "data":
            parts.append("`data.train` may be a list of sources, see [mixtures](../data.md#several-sources).\n\n")
    return "".join([*parts, _loss_keys(), _train_keys()])


_SECTIONS = {
    "model": "ModelSection",
    "model.prompts": "PromptsSection",
    "model.lora": "LoraSection",
    "model.scratch": "ScratchSection",
    "model.projector, model.predictor": "Mlp",
    "data": "DataSection",
    "data.columns": "Columns",
    "data.mine": "MineSection",
    "data.augment": "AugmentSection",
    "data.train[]": "SourceSection",
    "evaluate": "EvaluateSection",
    "publish": "PublishSection",
}
"""Place in a recipe -> the definition in the schema that is there."""


def _keys(title: str, section: Schema, level: int = 2) -> str:
    required = section.get("required", ())
    rows = [
        (f"`{key}`", _type(field), "required" if key in required else _default(field), _described(field))
        for key, field in section["properties"].items()
    ]
    return f"{'#' * level} {title}\n\n{_prose(section)}{table(('key', 'value', 'default', ''), rows)}\n"


def _prose(section: Schema) -> str:
    first = section.get("description", "").split("\n\n")[0]
    return f"{_plain(first)}\n\n" if first else ""


def _described(field: Schema) -> str:
    return _plain(field.get("description", ""))


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _default(field: Schema) -> str:
    default = field.get("default")
    return "" if default is None or isinstance(default, dict) else f"`{json.dumps(default, ensure_ascii=False)}`"


def _type(field: Schema) -> str:
    """Return the values of a key in words."""
    if "$ref" in field:
        return _referred(field["$ref"].rpartition("/")[2])
    for union in ("anyOf", "oneOf"):
        if union in field:
            return " or ".join(dict.fromkeys(filter(None, map(_type, field[union]))))
    if "allOf" in field:
        return _type(field["allOf"][0])
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    kind = field.get("type")
    if kind == "array":
        items = field.get("items") or (field.get("prefixItems") or [{}])[0]
        return f"list of {_type(items) or 'values'}"
    if kind == "object":
        of = field.get("additionalProperties")
        return f"mapping of {_type(of)}" if isinstance(of, Mapping) and _type(of) else "mapping"
    names = {"string": "text", "integer": "integer", "number": "number", "boolean": "`true`, `false`"}
    return names.get(str(kind), "") + _range(field)


def _referred(name: str) -> str:
    sections = {definition: place for place, definition in _SECTIONS.items()}
    if name in sections:
        return f"section {sections[name]}"
    return {"MixtureSection": "list of sources", "JsonValue": "any value"}.get(name, "one of the library's names")


def _range(field: Schema) -> str:
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    said = [f"{sign} {field[key]}" for key, sign in bounds.items() if key in field]
    return f" {', '.join(said)}" if said else ""


def _loss_keys() -> str:
    from fmicl_text.losses import objectives
    from fmicl_text.losses.objective import Objective

    def rows(objective: type[Objective], names: Iterable[str]) -> Iterator[tuple[str, ...]]:
        fields = objective.model_json_schema()["properties"]
        for name in names:
            definition = fields[name]
            yield f"`{name}`", _type(definition), _default(definition), _plain(objective.described(name))

    head = ("key", "value", "default", "")
    first = next(iter(objectives().values()))
    shared = [name for name in Objective.model_fields if name != "objective"]
    parts = [
        "## `loss`\n\nThe objective and its settings; in Python they are arguments of the loss class. "
        "`objective` is one of the names below; [what each is for](losses.md).\n\n"
        f"### Settings of every objective\n\n{table(head, rows(first, shared))}\n"
    ]
    for name, objective in objectives().items():
        own = objective.own_fields()
        body = table(head, rows(objective, own)) if own else "No settings of its own.\n"
        parts.append(f"### `objective: {name}`\n\n{body}\n")
    return "".join(parts)


def _train_keys() -> str:
    from sentence_transformers import SentenceTransformerTrainingArguments

    from fmicl_text.recipe.training_arguments import training_arguments_schema

    schema = training_arguments_schema()
    defaults = {field.name: field.default for field in dataclasses.fields(SentenceTransformerTrainingArguments)}
    rows = []
    for key, field in schema["properties"].items():
        default = defaults.get(key)  # `precision` is not one of the library's
        default = getattr(default, "value", default)  # of an enum
        written = "" if default in (None, dataclasses.MISSING) else f"`{json.dumps(default, default=str)}`"
        rows.append((f"`{key}`", _of_library(field, schema["$defs"]), written))
    return (
        "## `train`\n\nThe fields of `SentenceTransformerTrainingArguments` that have an effect; "
        "[their meaning](https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments) "
        "is the library's, and so are the defaults. `precision: auto` is bfloat16 where the device has "
        "instructions for it, and float32 elsewhere; `optim: lars` is of pytorch_optimizer.\n\n"
        f"{table(('key', 'value', 'default'), rows)}\n"
    )


def _of_library(field: Schema, definitions: Mapping[str, Schema]) -> str:
    members = field.get("anyOf", [field])
    written = []
    for member in members:
        name = member.get("$ref", "").rpartition("/")[2]
        values = definitions.get(name, {}).get("enum", ())
        few = ", ".join(f"`{value}`" for value in values) if len(values) < 12 else f"a value of `{name}`"
        written.append(few if values else _type(member))
    return " or ".join(dict.fromkeys(filter(None, written)))


def evaluations() -> str:
    """Return what can be named in ``evaluate`` of a recipe, with its options."""
    from fmicl_text.evaluation.registry import KINDS

    parts = []
    for kind in KINDS:
        fields = kind.model_json_schema()["properties"]
        rows = [(f"`{key}`", _type(field), _default(field), _described(field)) for key, field in fields.items()]
        about = _plain((inspect.getdoc(kind) or "").split("\n\n")[0])
        parts.append(
            f"### `{kind.kind}`\n\n{about} Names: {kind.names}.\n\n{table(('option', 'value', 'default', ''), rows)}\n"
        )
    return "".join(parts)


def formats() -> str:
    """Return the endings of files of texts that are read."""
    from fmicl_text.data.formats import FORMATS

    return f"Files of texts end in {', '.join(f'`{ending}`' for ending in FORMATS)}; all but Parquet may be `.gz`.\n"


def command_line() -> str:
    """Return the help of every command."""
    os.environ["COLUMNS"] = "110"
    os.environ["NO_COLOR"] = "1"
    parts = []
    for verb in VERBS:
        parts += _helps(_below(command_line_of([verb]))[verb], level=2)
    return "\n".join(parts)


def _helps(parser: argparse.ArgumentParser, level: int) -> Iterator[str]:
    yield f"{'#' * level} `{parser.prog}`\n\n```text\n{parser.format_help()}```\n"
    for below in _below(parser).values():
        yield from _helps(below, level + 1)


def _below(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Return the parsers of a parser's subcommands by name."""
    return next((action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)), {})


def losses() -> str:
    """Return the losses from their declarations: a table of what each is for, then the equation of each."""
    from fmicl_text.losses import objectives

    rows, parts = [], []
    for name, objective in objectives().items():
        rows.append((f"[`{name}`](#{name})", f"`{objective.loss_name}`", objective.when))
        source = f"{objective.paper.source}, [{objective.paper.arxiv}](https://arxiv.org/abs/{objective.paper.arxiv})"
        parts.append(f"### `{name}`\n\n`{objective.loss_name}`: {objective.when}.\n\n")
        parts.append(_equation(objective.formula, objective.reduction, objective.needs, source))
        for variant in objective.variants:
            parts.append(f"With `{variant.setting}`: {variant.when}.\n\n")
            parts.append(_equation(variant.formula, variant.reduction, objective.needs, variant.source))
    return table(("name", "class", "when"), rows) + "\n## The equations\n\n" + "".join(parts)


def _equation(formula: str, reduction: str, needs: str, source: str) -> str:
    return f"> {formula}\n\nOver pairs: {reduction}. Data: {needs}. Source: {source}.\n\n"


def divergences() -> str:
    """Return the divergences: name, title, and whether the paper rules them out."""
    from fmicl_text.core import DIVERGENCES

    rows = [(f"`{name}`", each.title, each.ruled_out or "") for name, each in DIVERGENCES.items()]
    return table(("name", "divergence", "ruled out by the paper"), rows)


def python(module: str) -> str:
    """Return the public names of a module, each with its docstring; those of the package itself only there."""
    import fmicl_text
    from fmicl_text.losses import loss_names

    names = list(importlib.import_module(module).__all__)
    if module == "fmicl_text":  # what most come for is first
        names.sort(key=lambda name: name not in loss_names())
    else:
        names = [name for name in names if name not in fmicl_text.__all__]
    written = "\n".join(_documented(module, name) for name in names if not name.startswith("_"))
    return f"```{{eval-rst}}\n{written}```\n"


def _documented(module: str, name: str) -> str:
    thing = getattr(importlib.import_module(module), name)
    if inspect.isclass(thing):
        return f".. autoclass:: {module}.{name}\n   :members:\n"
    if callable(thing):
        return f".. autofunction:: {module}.{name}\n"
    about = getattr(thing, "title", None) or f"Of {', '.join(f'``{each}``' for each in thing)}"
    return f".. py:data:: {module}.{name}\n\n   {about}.\n"


def behind_core() -> str:
    """Return what the page of mathematics leads to that ``fmicl_text.core`` has no name for."""
    page = Path(__file__).parents[1] / "mathematics.md"
    names = {full_name(*link) for link in CODE.findall(page.read_text(encoding="utf-8"))}
    inner = sorted(name for name in names if not _is_public(name))
    written = "\n".join(map(_documented_inside, inner))
    return f"```{{eval-rst}}\n{written}```\n"


def full_name(name: str, file: str) -> str:
    """Return what the reference calls a thing of a module's file: by its place in ``fmicl_text.core`` if it is public.

    Raises:
        AttributeError: If the module does not have it.
    """
    import fmicl_text.core

    module = importlib.import_module(file.replace("/", "."))
    if name == module.__name__.rpartition(".")[2] and not hasattr(module, name):
        return module.__name__
    thing = operator.attrgetter(name.partition(".")[0])(module)
    operator.attrgetter(name)(module)
    is_public = getattr(fmicl_text.core, name.partition(".")[0], None) is thing
    return f"{fmicl_text.core.__name__ if is_public else module.__name__}.{name}"


def _is_public(name: str) -> bool:
    import fmicl_text.core

    return name.removeprefix("fmicl_text.core.").partition(".")[0] in fmicl_text.core.__all__


def _documented_inside(name: str) -> str:
    kind = "module" if name.startswith("fmicl_text.core.divergences.") else "function"
    return f".. auto{kind}:: {name}\n" + ("   :members:\n" if kind == "module" else "")


PAGES: dict[str, Callable[[], str]] = {
    "recipe_keys": recipe_keys,
    "evaluations": evaluations,
    "formats": formats,
    "command_line": command_line,
    "losses": losses,
    "divergences": divergences,
    "python": functools.partial(python, "fmicl_text"),
    "python_core": functools.partial(python, "fmicl_text.core"),
    "behind_core": behind_core,
    "python_losses": functools.partial(python, "fmicl_text.losses"),
}
