"""The table of divergences on the page of mathematics is that of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sympy
import torch
from sympy.parsing.sympy_parser import convert_xor, implicit_multiplication_application, standard_transformations
from sympy.parsing.sympy_parser import parse_expr as parse

from fmicl_text.core import DIVERGENCES

PAGE = (Path(__file__).parents[2] / "docs/mathematics.md").read_text(encoding="utf-8")
ROWS = {name: re.findall(r"\$([^$]+)\$", cells) for name, cells in re.findall(r"^\| `(\w+)`([^\n]+)\|$", PAGE, re.M)}
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
