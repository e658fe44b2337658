"""``fmicl recipe``: list, show, copy, write and validate recipes, and their JSON schema for editors."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fmicl_text.cli.parser import completed_by, recipe_names
from fmicl_text.data.readers import read_text
from fmicl_text.errors import InputError
from fmicl_text.files import write_text
from fmicl_text.recipe.file import find_recipe, load_recipe, shipped_recipes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="name and first comment of each shipped recipe")
    show = actions.add_parser("show", help="print a recipe")
    completed_by(recipe_names, show.add_argument("name", metavar="NAME", help="a shipped recipe or a file"))
    copy = actions.add_parser("copy", help="copy a shipped recipe to edit it")
    completed_by(recipe_names, copy.add_argument("name", metavar="NAME", help="a shipped recipe"))
    copy.add_argument(
        "path", metavar="PATH", type=Path, nargs="?", default=Path(), help="file or folder; default the current folder"
    )
    copy.add_argument("--overwrite", action="store_true", help="replace an existing file")
    new = actions.add_parser("new", help="inspect a file of texts and write a recipe for it")
    new.add_argument("data", metavar="FILE", help="csv, tsv, jsonl, parquet or txt")
    new.add_argument(
        "--output",
        metavar="PATH",
        type=Path,
        help="where to write; default FILE's name with .yaml, in the current folder",
    )
    new.add_argument("--base", metavar="MODEL", help="encoder to start from: Hub id, folder or sample:minilm")
    new.add_argument("--overwrite", action="store_true", help="replace an existing recipe")
    validate = actions.add_parser("validate", help="check recipes and print every problem")
    files = validate.add_argument("files", metavar="FILE", nargs="+", help="files or names of shipped recipes")
    completed_by(recipe_names, files)
    actions.add_parser("schema", help="print the JSON schema of a recipe")


def run(args: argparse.Namespace) -> int:
    """Run one action; see :func:`add_arguments`."""
    if args.action == "list":
        _list()
    elif args.action == "show":
        sys.stdout.write(read_text(find_recipe(args.name)))
    elif args.action == "copy":
        _copy(args.name, args.path, args.overwrite)
    elif args.action == "new":
        _new(args.data, args.base, args.output, args.overwrite)
    elif args.action == "validate":
        _validate(args.files)
    else:
        print(json.dumps(_schema(), indent=2))
    return 0


def _list() -> None:
    recipes = shipped_recipes()
    width = max(map(len, recipes))
    for name, path in recipes.items():
        comment = read_text(path).split("\n", 1)[0].removeprefix("#").strip()
        print(f"{name:{width}}  {comment}")


def _copy(name: str, target: Path, overwrite: bool) -> None:
    source = find_recipe(name)
    if target.is_dir():
        target = target / source.name
    if target.exists() and not overwrite:
        raise InputError(f"{target} already exists; --overwrite replaces it")
    write_text(target, read_text(source))
    print(target)


def _new(data: str, base: str | None, target: Path | None, overwrite: bool) -> None:
    from fmicl_text.recipe.new import is_data, new_recipe

    target = target or Path(f"{Path(data).name.partition('.')[0]}.yaml")
    if is_data(str(target)):
        raise InputError(f"--output {target}: is the name of a file of texts; that of a recipe ends in .yaml")
    if target.exists() and not overwrite:
        raise InputError(f"{target} already exists; --overwrite replaces it, --output names another file")
    write_text(target, new_recipe(data, base))
    print(target)


def _validate(files: list[str]) -> None:
    problems: list[str] = []
    for file in files:
        try:
            recipe = load_recipe(file)
            imports = f"; {', '.join(recipe.imports)} was not run, so names it may declare are not checked"
            print(f"{file}: ok" + (imports if recipe.imports else ""))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)


def _schema() -> dict[str, object]:
    """Return the schema of a recipe with the training arguments' in it."""
    from fmicl_text.recipe.schema import Recipe
    from fmicl_text.recipe.training_arguments import training_arguments_schema

    schema, train = Recipe.model_json_schema(), training_arguments_schema()
    schema["$defs"] |= train.pop("$defs")
    schema["properties"]["train"] |= train
    return schema
