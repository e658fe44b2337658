"""Recipes as text: YAML in, a checked :class:`Recipe` out; every error with its line and its remedy."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fmicl_text.data import yaml_tree
from fmicl_text.data.formats import FORMATS, ending
from fmicl_text.data.yaml_tree import Tree, dotted
from fmicl_text.errors import InputError
from fmicl_text.files import resource_folder
from fmicl_text.findings import Finding, explain
from fmicl_text.recipe.imports import run_imports
from fmicl_text.recipe.schema import Recipe
from fmicl_text.recipe.training_arguments import PRECISION
from fmicl_text.section import MAY_BE_IMPORTED, KeyPath
from fmicl_text.text import did_you_mean


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that come with the package, name to file, what to begin with first.

    ``text/x`` is ``text/x.yaml``.
    """
    folder = resource_folder("recipes")
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.yaml")}
    return {name: found[name] for name in sorted(found, key=lambda name: ("/" in name, name != "quickstart", name))}


def find_recipe(source: str | Path) -> Path:
    """Return the file of a recipe.

    Args:
        source: A path, or the name of a shipped recipe; its last part is enough where that is unique.

    Raises:
        InputError: If there is no such recipe, or several.
    """
    if os.path.isfile(source):
        return Path(source)
    shipped = shipped_recipes()
    name = str(source)
    if name in shipped:
        return shipped[name]
    alike = [full for full in shipped if Path(full).name == name]
    if len(alike) == 1:
        return shipped[alike[0]]
    if alike:
        raise InputError(f'"{name}" is the name of several recipes: {", ".join(alike)}')
    if name.endswith((".yaml", ".yml")):
        raise InputError(f"{name}: no such file")
    hint = did_you_mean(name, [*shipped, *(Path(full).name for full in shipped)])
    raise InputError(f'no recipe "{name}"{hint}; `fmicl recipe list` shows what there is, a file ends in .yaml')


def load_recipe(source: str | Path, overrides: Sequence[str] = (), *, imports: bool = False) -> Recipe:
    """Read and check a recipe.

    A misspelt key or value is taken for the nearest valid one in order to find what else is wrong. Rules about
    several keys are checked when each of them is sound by itself.

    Args:
        source: A path, or the name of a shipped recipe.
        overrides: ``a.b=c``, with c in YAML, applied in order.
        imports: Whether the Python files under ``imports:`` are run. If they are not, names in ``loss:`` that are
            unknown may be theirs, and are taken as they are.

    Raises:
        InputError: With every problem, in the order of the file's lines.
    """
    tree = Tree(find_recipe(source))
    problems: list[tuple[int, str]] = []
    for override in overrides:
        try:
            tree.set(override)
        except InputError as error:
            problems.append((sys.maxsize, str(error)))
    _let_precision_be_overridden(tree, overrides)
    files = imported_files(tree.value)
    if imports:
        run_imports(files)
    context = {MAY_BE_IMPORTED: bool(files) and not imports}
    seen: set[KeyPath] = set()
    while findings := _findings(tree, seen, context):
        for finding in findings:
            place = tree.place(finding.path)
            problems.append((place.order, f"{place.text}: {dotted(finding.path)}: {finding.message}"))
            seen.add(finding.path)
        for finding in findings:
            _correct(tree, finding)
    problems += [(place.order, f"{place.text}: {text}") for place, text in tree.problems]
    if problems:
        raise InputError([text for _, text in sorted(problems, key=lambda problem: problem[0])])
    return Recipe.model_validate(tree.value, context=context)


def _let_precision_be_overridden(tree: Tree, overrides: Sequence[str]) -> None:
    """Drop the file's ``precision: auto``, which every new recipe has, where an override says what it is to be."""
    keys, train = {override.partition("=")[0].strip() for override in overrides}, tree.value.get("train")
    if keys & {"train.bf16", "train.fp16"} and "train.precision" not in keys and isinstance(train, dict):
        train.pop(PRECISION, None)


@contextmanager
def places_named(source: str | Path, overrides: Sequence[str] = ()) -> Iterator[None]:
    """Name file and line of the recipe's key with which an error begins, as of one that only a loaded model shows.

    Args:
        source: The recipe, which :func:`load_recipe` has found right.
        overrides: Those that it was loaded with.
    """
    try:
        yield
    except InputError as error:
        tree = Tree(find_recipe(source))
        for override in overrides:
            tree.set(override)
        raise InputError([_with_place(tree, problem) for problem in error.problems]) from error


_KEY = re.compile(r"([a-z_]+(?:\.[a-z_]+|\[\d+\])*): ")


def _with_place(tree: Tree, problem: str) -> str:
    """Put before a problem where the key it begins with was written, or else the section that lacks it."""
    if not (match := _KEY.match(problem)) or ending(match[1]) in FORMATS:  # `train.csv: ...` is about a file
        return problem
    path = tuple(int(step) if step.isdecimal() else step for step in re.findall(r"\w+", match[1]))
    written = tree.has(path) or (len(path) > 1 and tree.has(path[:-1]))
    return f"{tree.place(path).text}: {problem}" if written else problem


def imported_files(value: Mapping[str, Any]) -> list[str]:
    """Return the Python files under ``imports:`` in a recipe that is not checked yet."""
    files = value.get("imports")
    return [file for file in files if isinstance(file, str) and file.endswith(".py")] if isinstance(files, list) else []


def dump_recipe(recipe: Recipe) -> str:
    """Return the resolved recipe, defaults included, as YAML that loads to an equal recipe."""
    return yaml_tree.dump(recipe.model_dump(mode="json"))


def _findings(tree: Tree, seen: set[KeyPath], context: dict[str, bool]) -> list[Finding]:
    """Return what is wrong and has not been reported yet."""
    try:
        Recipe.model_validate(tree.value, context=context)
    except ValidationError as error:
        findings = explain(error, tree.value, Recipe)
        # What is missing or impossible where a key is misspelt is looked at again when the key is right.
        misspelt = {finding.path[:-1] for finding in findings if finding.meant is not None and finding.unknown}
        later = [one for one in findings if one.missing and one.path[:-1] in misspelt]
        return [one for one in findings if one.path not in seen and one not in later]
    return []


def _correct(tree: Tree, finding: Finding) -> None:
    if finding.unknown:
        tree.rename(finding.path, finding.meant)
    elif finding.meant is not None:
        tree.replace(finding.path, finding.meant)
