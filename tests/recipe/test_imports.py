"""Python files that a recipe imports: run when asked, named in the plan, and what is wrong in them told by line."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from loss_cases import MeanOfTokens

from fmicl_text.cli import main
from fmicl_text.errors import InputError
from fmicl_text.losses import registry
from fmicl_text.recipe.build import build_loss
from fmicl_text.recipe.file import dump_recipe, load_recipe

EXTENDING = Path(__file__).parents[2] / "docs/extending.md"
MINIMAL = "name: small\nmodel: {base: some/encoder}\ndata: {train: a.csv, columns: {anchor: a, positive: b}}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the documentation's file in it; what it registers is forgotten afterwards."""
    from fmicl_text.core import DIVERGENCES, KERNELS

    code, recipe = (
        re.search(rf"^```{kind}\n(.*?)^```", EXTENDING.read_text("utf-8"), re.S | re.M)[1]
        for kind in ("python", "yaml")
    )
    (tmp_path / "my_losses.py").write_text(code, encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(MINIMAL + recipe, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(sys, "modules", {k: v for k, v in sys.modules.items() if not k.startswith("fmicl_imports_")})
    for of_core in (DIVERGENCES, KERNELS):
        monkeypatch.setattr(of_core, "_things", dict(of_core._things))
    return tmp_path


def test_the_documented_file_works(folder: Path):
    recipe = load_recipe("recipe.yaml", ["loss.balance_cosine=0.1"], imports=True)
    loss = build_loss(recipe, MeanOfTokens())
    x, y = torch.nn.functional.normalize(torch.randn(2, 5, 6, dtype=torch.float64), dim=2)
    u = 1 / (1 + (2 - 2 * x @ y.T) / 0.3)
    alpha = 1 + (2 - 2 * 0.1) / 0.3
    off = ~torch.eye(5, dtype=torch.bool)
    terms = loss.terms(x, y)
    torch.testing.assert_close(terms["positive"], -(3 * u.diagonal().sqrt()).mean())
    torch.testing.assert_close(terms["negative"], alpha * (u[off] ** 1.5 + 2).mean(), rtol=1e-6, atol=1e-6)
    margin = load_recipe("recipe.yaml", ["loss={objective: triplet, margin: 0.5}"], imports=True)
    terms = build_loss(margin, MeanOfTokens()).compute_loss_from_embeddings([torch.eye(3), torch.eye(3)[[0, 2, 1]]])
    assert terms["violation"].item() == pytest.approx((1.5 + 1.5 + 0.5 + 0.5) / 9)


def test_wrong_settings_of_ones_own_are_told(folder: Path):
    with pytest.raises(InputError) as caught:
        load_recipe("recipe.yaml", ["loss={objective: triplet, margn: 1}"], imports=True)
    assert caught.value.problems[0].endswith('loss.margn: unknown key (did you mean "margin"?)')
    with pytest.raises(InputError, match=r'got "triplt" \(did you mean "triplet"\?\)'):
        load_recipe("recipe.yaml", ["loss={objective: triplt}"], imports=True)
    with pytest.raises(InputError, match=r'got "min" \(did you mean "mine"\?\)'):
        load_recipe("recipe.yaml", ["loss.divergence=min"], imports=True)


def test_without_being_asked_nothing_is_run(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "my_losses.py").write_text("open('ran', 'w')")
    for loss in (
        "{objective: triplet, margin: 0.5, head: null}",
        "{objective: fmicl, divergence: mine, kernel: student}",
    ):
        recipe = load_recipe("recipe.yaml", [f"loss={loss}"])
        (folder / "resolved.yaml").write_text(dump_recipe(recipe))
        assert load_recipe("resolved.yaml") == recipe
    with pytest.raises(InputError, match=r'"triplet" is declared by my_losses\.py, which was not run'):
        build_loss(load_recipe("recipe.yaml", ["loss={objective: triplet}"]), MeanOfTokens())
    with pytest.raises(InputError, match=r"loss\.alpha: must be greater"):
        load_recipe("recipe.yaml", ["loss.alpha=-1"])
    assert main(["recipe", "validate", "recipe.yaml"]) == 0
    unchecked = "my_losses.py was not run, so names it may declare are not checked"
    assert capsys.readouterr().out == f"recipe.yaml: ok; {unchecked}\n"
    (folder / "run").mkdir()
    (folder / "recipe.yaml").rename(folder / "run" / "recipe.yaml")
    (folder / "run" / "manifest.json").write_text("{}")
    for source in ("run", "run/recipe.yaml"):
        assert main(["train", source, "--dry-run"]) == 2
        assert "imports my_losses.py; --allow-imports runs that code" in capsys.readouterr().err.replace("\n", " ")
    assert not (folder / "ran").exists()
    main(["train", "run", "--dry-run", "--allow-imports"])
    assert (folder / "ran").exists()


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (None, r"imports: my_losses\.py: no such file \(paths start at "),
        ("x = 1\nx.y\n", r"imports: my_losses\.py:2: AttributeError: 'int' object has no attribute 'y'"),
        ("x = 1\nx = = 2\n", r"imports: my_losses\.py:2: SyntaxError: invalid syntax"),
        (
            "from typing import Literal\nfrom fmicl_text.losses import Objective, register\n\n\n"
            'class Empty(Objective):\n    objective: Literal["empty"] = "empty"\n\n\nregister(Empty)\n',
            r"imports: my_losses\.py:9: ValueError: Empty needs a method terms",
        ),
    ],
)
def test_a_file_that_fails(folder: Path, code: str | None, problem: str):
    (folder / "my_losses.py").unlink()
    if code is not None:
        (folder / "my_losses.py").write_text(code)
    with pytest.raises(InputError, match=problem):
        load_recipe("recipe.yaml", imports=True)


def test_only_python_files(folder: Path):
    with pytest.raises(InputError, match=r'imports\[0\]: must be a Python file, such as my_losses.py, got "my_losses"'):
        load_recipe("recipe.yaml", ["imports=[my_losses]"], imports=True)
