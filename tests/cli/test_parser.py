"""What the command line says of a mistyped word, and how a shell completes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fmicl_text.cli import VERBS, main
from fmicl_text.core import DIVERGENCES, KERNELS
from fmicl_text.core.batch import NEGATIVES
from fmicl_text.core.checks import not_one_of
from fmicl_text.core.objectives.fmicl import CRITICS, SHIFTS
from fmicl_text.core.regions import SCHEDULES
from fmicl_text.errors import InputError
from fmicl_text.recipe.file import load_recipe, shipped_recipes
from fmicl_text.recipe.schema import Recipe
from fmicl_text.recipe.training_arguments import training_arguments_schema
from fmicl_text.text import nearest


@pytest.mark.parametrize(
    ("typed", "parser", "meant"),
    [
        ("trian quickstart", "fmicl", "train"),
        ("TRAIN quickstart", "fmicl", "train"),
        ("--versoin", "fmicl", "--version"),
        ("recipe lst", "fmicl recipe", "list"),
        ("recipe copy quickstart --overwrit_", "fmicl recipe copy", "--overwrite"),
        ("eval ste sample:minilm", "fmicl eval", "sts"),
        ("eval sts sample:minilm --siute=stsb", "fmicl eval sts", "--suite"),
        ("train quickstart --ouput runs/x", "fmicl train", "--output"),
        ("export run --embeddings int7", "fmicl export", "int8"),
        ("train one two", "fmicl train", None),
    ],
)
def test_a_mistyped_word_gets_the_nearest(typed: str, parser: str, meant: str | None, capsys):
    with pytest.raises(SystemExit) as exit:
        main(typed.split())
    said = capsys.readouterr().err
    assert exit.value.code == 2 and f"{parser}: error: " in said
    assert said.rstrip().endswith(f'(did you mean "{meant}"?)') if meant else "did you mean" not in said


def choices() -> Iterator[tuple[str, list[str]]]:
    """Every key of a recipe whose value is one of several names, with these, from the schema of a recipe."""
    schema = Recipe.model_json_schema()
    sections = {name: schema["$defs"][f"{name.title()}Section"] for name in ("model", "data")}
    sections["data.mine"] = schema["$defs"]["MineSection"]
    sections["loss"] = next(
        loss for loss in schema["properties"]["loss"]["oneOf"] if loss["properties"]["objective"]["const"] == "fmicl"
    )
    train = training_arguments_schema()
    schema["$defs"] |= train["$defs"]
    sections["train"] = train
    for place, section in sections.items():
        for key, field in section["properties"].items():
            members = [field, *field.get("anyOf", ())]
            members += [schema["$defs"][one["$ref"].rpartition("/")[2]] for one in members if "$ref" in one]
            names = [name for member in members for name in member.get("enum", ()) if isinstance(name, str)]
            if len(names) > 1:
                yield f"{place}.{key}", names


def test_a_mistyped_value_of_any_choice_gets_the_nearest():
    """Without its second letter and in upper case, of every choice that a recipe offers."""
    found = {key: max(names, key=len) for key, names in choices()}
    assert {"loss.divergence", "loss.shift", "model.pooling", "data.views", "train.lr_scheduler_type"} <= found.keys()
    with pytest.raises(InputError) as refused:
        load_recipe(
            "quickstart",
            [f"{key}={name[0]}{name[2:]}".upper().replace(key.upper(), key) for key, name in found.items()],
        )
    said = {problem.split(": ")[1]: problem for problem in refused.value.problems}
    for key, name in found.items():
        assert said[key].endswith(f'(did you mean "{name}"?)'), said[key]


@pytest.mark.parametrize("names", [DIVERGENCES, KERNELS, NEGATIVES, SHIFTS, CRITICS, SCHEDULES])
def test_short_names_have_a_nearest_too(names):
    """``kk`` is ``kl`` with one letter wrong, in a recipe and in :mod:`fmicl_text.core`."""
    for name in names:
        wrong = f"{name[:-1]}_"
        assert nearest(wrong, [name, "-----"]) == name
        assert f"did you mean {name!r}?" in str(not_one_of("it", wrong, [name, "-----"]))
    assert nearest("q", names) is None


BASH = r"""
eval "$(register-python-argcomplete fmicl)"
[[ $(complete -p fmicl) =~ -F\ ([^ ]+) ]]
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9
${BASH_REMATCH[1]} fmicl "${1##* }"
printf '%s\n' "${COMPREPLY[@]}"
"""
"""The line of docs/start.md, then what Tab does: bash calls the function that the line registered."""


def completions(line: str, folder: Path) -> list[str]:
    """What bash offers for the last word of a line."""
    if not (bash := shutil.which("bash")):
        pytest.skip("there is no bash")
    command = folder / "bin" / "fmicl"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f"#!{sys.executable}\nfrom fmicl_text.cli import main\nmain()\n")
    command.chmod(0o755)
    path = os.pathsep.join([str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [bash, "--norc", "-c", BASH, "bash", line], env=environment, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [word.strip() for word in done.stdout.splitlines()]


def test_shells_complete_verbs_options_and_recipes(tmp_path: Path):
    (tmp_path / "my.yaml").touch()
    assert set(VERBS) <= set(completions("fmicl ", tmp_path))
    assert {"--output", "--overwrite"} <= set(completions("fmicl train quickstart --o", tmp_path))
    recipes = completions("fmicl train ", tmp_path)
    assert {*shipped_recipes(), "my.yaml"} <= set(recipes)
    assert completions("fmicl eval transf", tmp_path) == ["transfer"]
