"""What is made of the declarations: classes with signatures, exports, the table of the losses, one's own objectives."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any, Literal

import numpy as np
import pytest
import torch
from loss_cases import MeanOfTokens
from loss_table import LOSS_TABLE
from pydantic import PositiveFloat
from sentence_transformers import CrossEncoder
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.util import cos_sim

import fmicl_text
from fmicl_text import FMICLLoss, InfoNCELoss
from fmicl_text.core import DIVERGENCES
from fmicl_text.errors import InputError
from fmicl_text.losses import LOSSES, ContrastiveLoss, Objective, SentenceLoss, objectives, register, registry
from fmicl_text.losses.objective import OF_RECIPES
from fmicl_text.losses.ranking import instead_of
from fmicl_text.losses.table import README, table


@pytest.mark.parametrize("name", LOSSES)
def test_a_class_says_what_it_takes(name: str):
    made, declaration = LOSSES[name], objectives()[name]
    assert made.__name__ == made.__qualname__ == declaration.loss_name
    assert getattr(fmicl_text, made.__name__) is made and made.__name__ in fmicl_text.__all__
    assert made.__module__ == "fmicl_text.losses" and issubclass(made, SentenceLoss | ContrastiveLoss)
    parameters = inspect.signature(made).parameters
    assert next(iter(parameters)) == "model" and set(parameters) == {"model", *declaration.model_fields} - OF_RECIPES
    for setting in LOSS_TABLE[name].expected[-1][0]:
        assert f"    {setting}: " in made.__doc__
    defaults = {key: parameter.default for key, parameter in parameters.items() if key != "model"}
    assert made(MeanOfTokens(), **defaults).objective == made(MeanOfTokens()).objective == declaration()


def test_positional_divergence_and_numbers_of_numpy_and_torch():
    assert FMICLLoss(MeanOfTokens(), "js").objective.divergence == "js"
    for number in (np.float32(0.5), np.float64(0.5), torch.tensor(0.5)):
        assert FMICLLoss(MeanOfTokens(), sigma=number).objective.sigma == 0.5
    with pytest.raises(TypeError, match="FMICLLoss takes model, divergence by position, got 3"):
        FMICLLoss(MeanOfTokens(), "js", "kl")
    with pytest.raises(TypeError, match="InfoNCELoss takes model by position, got 2"):
        InfoNCELoss(MeanOfTokens(), "js")
    with pytest.raises(TypeError, match="multiple values for argument 'divergence'"):
        FMICLLoss(MeanOfTokens(), "js", divergence="kl")


@pytest.mark.parametrize("by_position", [True, False])
@pytest.mark.parametrize(
    ("make", "meant"),
    [
        (FMICLLoss, "scale=20 is sigma=0.2236 here"),
        (InfoNCELoss, "scale=20 is temperature=0.05 here"),
        (LOSSES["alignment-uniformity"], "scale=20 is t=10 here"),
        (LOSSES["spectral"], "this loss has none"),
    ],
)
def test_the_scale_of_multiple_negatives_ranking_loss(make: Any, meant: str, by_position: bool):
    arguments, settings = ([20.0], {}) if by_position else ([], {"scale": 20.0})
    with pytest.raises(ValueError, match=f"scale is MultipleNegativesRankingLoss's name .* {meant}"):
        make(MeanOfTokens(), *arguments, **settings)


def test_the_scale_by_position_among_others():
    with pytest.raises(ValueError, match=r"scale=20 is sigma=0.2236 here"):
        FMICLLoss(MeanOfTokens(), 20.0, cos_sim)


@pytest.mark.parametrize(
    ("make", "setting", "said"),
    [
        (FMICLLoss, "similarity_fct", "leave it out: pairs are compared by the cosine"),
        (FMICLLoss, "directions", "negatives chooses the pairs"),
        (InfoNCELoss, "directions", "symmetric adds the direction from positives to anchors"),
        (LOSSES["spectral"], "directions", "which this loss has not$"),
        (FMICLLoss, "hardness_strength", "region keeps only the hardest negatives"),
    ],
)
def test_what_multiple_negatives_ranking_loss_has_besides(make: Any, setting: str, said: str):
    with pytest.raises(ValueError, match=f"{setting} is a setting of MultipleNegativesRankingLoss, .*{said}"):
        make(MeanOfTokens(), **{setting: 1})


def test_its_settings_are_all_told():
    """Of the loss itself and of its cached form."""
    theirs = {*inspect.signature(MultipleNegativesRankingLoss).parameters}
    theirs |= {*inspect.signature(CachedMultipleNegativesRankingLoss).parameters}
    here = {"model", "scale", *Objective.model_fields}
    assert {name for name in theirs if not instead_of(name, ())} <= here


@pytest.mark.parametrize("make", [FMICLLoss, InfoNCELoss])
def test_a_flag_is_no_scale(make: Any):
    with pytest.raises((TypeError, ValueError)) as refused:
        make(MeanOfTokens(), True)
    assert "scale" not in str(refused.value)
    with pytest.raises(ValueError, match="this loss has no scale"):
        make(MeanOfTokens(), scale=True)


def test_the_name_of_an_encoder_is_not_an_encoder():
    with pytest.raises(TypeError, match=r'load it: FMICLLoss\(SentenceTransformer\("static"\)\)'):
        FMICLLoss("static")
    with pytest.raises(TypeError, match=r"InfoNCELoss: model must be a SentenceTransformer, got None$"):
        InfoNCELoss(None)
    with pytest.raises(TypeError, match=r"FMICLLoss: model must be a SentenceTransformer, got None$"):
        FMICLLoss()


def test_what_is_no_encoder_is_refused_by_what_it_is(tiny_encoder):
    transformer = tiny_encoder[0]
    for model, got in [
        (transformer, r"a Transformer, which is a part of one: give the whole model"),
        (transformer.auto_model, r"a BertModel of transformers; load its folder or Hub id"),
        (torch.nn.DataParallel(transformer), r"a Transformer, which is a part of one"),
        (CrossEncoder(modules=[transformer], num_labels=1), r"a CrossEncoder, which scores pairs of texts"),
    ]:
        with pytest.raises(TypeError, match=f"FMICLLoss: model must be a SentenceTransformer, got {got}"):
            FMICLLoss(model)


def test_the_width_of_another_kernel_is_told_as_that_of_this_one():
    """A Gaussian of unit vectors is a cosine kernel whose temperature is the square of its width."""
    with pytest.raises(InputError, match=r"got kernel: gaussian; temperature=0.05 is sigma=0.2236 here"):
        FMICLLoss(MeanOfTokens(), temperature=0.05)
    with pytest.raises(InputError, match=r"got kernel: cosine; sigma=0.2 is temperature=0.04 here"):
        InfoNCELoss(MeanOfTokens(), sigma=0.2)
    with pytest.raises(InputError, match=r"got kernel: cosine-critic$"):
        FMICLLoss(MeanOfTokens(), kernel="cosine-critic", sigma=0.2)


def test_a_printed_loss_shows_its_settings():
    printed = repr(FMICLLoss(MeanOfTokens(), "kl", sigma=0.25))
    assert printed.startswith("FMICLLoss(") and "divergence='kl'" in printed and "sigma=0.25" in printed


def test_everything_wrong_is_said_at_once():
    with pytest.raises(InputError) as caught:
        FMICLLoss(MeanOfTokens(), sigm=0.1, alpha=-1, divergence="kll")
    *others, last = (f'"{name}"' for name in DIVERGENCES)
    assert caught.value.problems == [
        f'FMICLLoss: divergence must be {", ".join(others)} or {last}, got "kll" (did you mean "kl"?)',
        'FMICLLoss: alpha must be greater than or equal to 0 or "auto", got -1',
        'FMICLLoss: sigm unknown key (did you mean "sigma"?)',
    ]


def test_the_table_in_the_readme_is_made_of_the_declarations():
    """`python -m fmicl_text.losses.table` writes it anew."""
    assert table() in README.read_text(encoding="utf-8")
    assert all(f"`{name}` `{made.__name__}`" in table() for name, made in LOSSES.items())


@pytest.fixture
def own_objective(monkeypatch: pytest.MonkeyPatch) -> type[Objective]:
    monkeypatch.setattr(registry, "_registered", {})

    @register
    class Margin(Objective):
        """A margin between the cosine of a pair and the largest of a negative."""

        loss_name = "MarginLoss"
        paper = objectives()["infonce"].paper
        formula = "`mean max(0, m - s_ii + max_j s_ij)`"
        when = "here"

        objective: Literal["margin"] = "margin"
        """Which objective."""
        margin: PositiveFloat = 0.5
        """``m``."""

        def terms(self, x: torch.Tensor, y: torch.Tensor, **batch: Any) -> dict[str, torch.Tensor]:
            cosines = x @ y.T
            hardest = (cosines - 2 * torch.eye(len(x))).max(dim=1).values
            return {"margin": (self.margin - cosines.diagonal() + hardest).clamp(min=0).mean()}

    return Margin


def test_ones_own_objective(own_objective: type[Objective]):
    from fmicl_text.losses import MarginLoss

    loss = MarginLoss(MeanOfTokens(), margin=1.0)
    terms = loss.compute_loss_from_embeddings([torch.eye(3), torch.eye(3)[[0, 2, 1]]])
    assert terms["margin"].item() == pytest.approx((0 + 2 + 2) / 3)
    assert registry.chosen({"objective": "margin"}) is own_objective
    with pytest.raises(ValueError, match='is called "infonce", as is InfoNCE'):
        register(type("Mine", (objectives()["infonce"],), {}))


def test_an_objective_must_have_terms():
    class Empty(Objective):
        objective: Literal["empty"] = "empty"

    with pytest.raises(TypeError, match="abstract method terms"):
        Empty()
    with pytest.raises(ValueError, match=r"Empty needs a method terms\(x, y, ...\)"):
        register(Empty)


def test_names_of_the_package_wait_for_torch():
    code = "import sys, fmicl_text; print('FMICLLoss' in fmicl_text.__all__, 'torch' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["True", "False"]


def test_the_choices_are_those_of_core():
    """They are spelled out where types need them, so that reading a recipe need not import torch."""
    from fmicl_text.core import NEGATIVES, SCHEDULES
    from fmicl_text.core.objectives.fmicl import CRITICS, SHIFTS
    from fmicl_text.losses import objective
    from fmicl_text.losses.papers.fmicl import FMICL

    properties = FMICL.model_json_schema()["properties"]
    assert tuple(properties["shift"]["enum"]) == SHIFTS
    assert tuple(properties["critic"]["anyOf"][0]["enum"]) == CRITICS
    assert sorted(properties["negatives"]["enum"]) == sorted(NEGATIVES)
    assert tuple(SCHEDULES) == objective.SCHEDULES
    assert properties["region_schedule"]["anyOf"][0]["enum"] == [*SCHEDULES, "adaptive"]
