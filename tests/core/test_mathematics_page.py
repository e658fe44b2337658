"""The page of mathematics and the code say the same: the table of divergences, and where each equation is computed."""

from __future__ import annotations

import importlib
import operator
import re
from pathlib import Path

import pytest
import sympy
import torch
from sympy.parsing.sympy_parser import convert_xor, implicit_multiplication_application, standard_transformations
from sympy.parsing.sympy_parser import parse_expr as parse

from fmicl_text.core import DIVERGENCES

PAGE = (Path(__file__).parents[2] / "docs/mathematics.md").read_text(encoding="utf-8")
ROWS = {
    name: re.findall(r"\$([^$]+)\$", cells) for name, cells in re.findall(r"^\| \[`(\w+)`\]\S+([^\n]+)\|$", PAGE, re.M)
}
ORDER = 2  # of Tsallis, its default
U = sympy.Symbol("u", positive=True)


def read(formula: str) -> sympy.Expr:
    """Return what a formula in LaTeX says, of the few commands that the table has."""
    text = re.sub(r"\\frac(\w)(\w)", r"((\1)/(\2))", formula)
    text = re.sub(r"\^\{([^{}]+)\}", r"^(\1)", text)
    text = re.sub(r"\\frac\{([^{}]+)\}\{([^{}]+)\}", r" ((\1)/(\2))", text)
    text = re.sub(r"\\sqrt u", " sqrt(u)", text).replace("\\log", " log ")
    rules = (*standard_transformations, convert_xor, implicit_multiplication_application)
    return parse(text, {"u": U, "a": sympy.Integer(ORDER)}, rules)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_formulas_are_those_of_the_code(name: str):
    generator, critic, penalty, curvature = map(read, [formula for formula in ROWS[name] if formula != "a"])
    divergence = DIVERGENCES[name]
    at = torch.tensor([0.05, 0.3, 1.0, 1.7], dtype=torch.float64)
    for formula, function in (
        (generator, divergence.generator),
        (critic, lambda u: divergence.critic(u.log())),
        (penalty, lambda u: divergence.penalty(u.log())),
    ):
        torch.testing.assert_close(
            function(at), torch.tensor([float(formula.subs(U, u)) for u in at.tolist()]).double()
        )
    assert sympy.simplify(sympy.diff(generator, U) - critic) == 0
    assert sympy.simplify(U * critic - generator - penalty) == 0
    assert sympy.simplify(U**2 * sympy.diff(generator, U, 2) - curvature) == 0


CODE = re.compile(r"→[^→$]*?\[`([\w.]+)`\]\(\.\./(fmicl_text/[\w/]+)\.py\)")


def test_every_equation_leads_to_what_computes_it():
    """By name, so that one that is renamed is found here; the page that Sphinx makes leads to the reference."""
    equations = re.findall(r"\$\$([^$]+)\$\$(.*?)(?=\$\$|^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert len(equations) > 8
    for equation, text in equations:
        assert CODE.search(text), equation


@pytest.mark.parametrize(("name", "file"), sorted(set(re.findall(r"\[`([\w.]+)`\]\(\.\./(\S+)\.py\)", PAGE))))
def test_what_the_page_names_is_in_the_file_that_it_names(name: str, file: str):
    module = importlib.import_module(file.replace("/", "."))
    if name in DIVERGENCES:
        assert module.DIVERGENCE is DIVERGENCES[name]
    else:
        assert operator.attrgetter(name)(module).__module__ == module.__name__
