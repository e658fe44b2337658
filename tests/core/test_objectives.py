"""Every objective against loops over pairs in float64: values, gradients, defaults, precision, bad input."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import formulas
from reference.formulas import RECOMMENDED, RULED_OUT, TABLE
from reference.objectives import CASES, GAUSS, LAPLACE, PUBLISHED, parameters, total
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch import Tensor
from torch.nn.functional import normalize

from fmicl_text import core
from fmicl_text.core import (
    DIVERGENCES,
    NEGATIVES,
    CosineKernel,
    GaussianKernel,
    Region,
    SumKernel,
    fmicl,
    infonce,
    tile_memory,
)

SIGMA, TAU = 0.5, 0.5
KERNELS = {
    "gaussian": (GaussianKernel(SIGMA, mu=1.5), formulas.gaussian(SIGMA, mu=1.5)),
    "cosine": (CosineKernel(TAU), formulas.exponential_of_cosine(TAU)),
}
TEXTS = {  # of four pairs and two explicit negatives
    "distinct": None,
    "duplicates": ([(0, 1), (2, 3), (1, 4), (5, 5)], [6, 3]),  # rows 0 and 2 share a text; an explicit negative is y_1
    "all-equal": ([(0, 1)] * 4, [0, 1]),
}


def vectors(*sizes: int, dimension: int = 3, seed: int = 0) -> list[np.ndarray]:
    return list(np.split(np.random.default_rng(seed).normal(size=(sum(sizes), dimension)), np.cumsum(sizes)[:-1]))


def leaves(arrays: list[np.ndarray]) -> list[Tensor]:
    return [torch.tensor(array, requires_grad=True) for array in arrays]


def unit(tensors: list[Tensor]) -> list[Tensor]:
    return [normalize(tensor, dim=1) for tensor in tensors]


def identities(name: str, explicit: bool) -> tuple[dict, dict]:
    """The same text identities for the package (tensors) and for the reference (sets)."""
    if TEXTS[name] is None:
        return {}, {}
    texts, extra = TEXTS[name]
    mine = {"texts": torch.tensor(texts), "extra_texts": torch.tensor(extra) if explicit else None}
    return mine, {"texts": [set(pair) for pair in texts], "extra_texts": extra if explicit else None}


def in_both(texts: str, explicit: bool, region: tuple[float, float] | None) -> tuple[dict, dict]:
    mine, theirs = identities(texts, explicit)
    return mine | {"region": region and Region(*region)}, theirs | {"region": region}


REGIONS = {"": None, "ball": (0.7, 0.0), "ring": (0.7, 0.5)}
COMBINATIONS = [
    pytest.param(name, explicit, texts, REGIONS[region], id="-".join((name, "explicit" * explicit, texts, region)))
    for name, case in CASES.items()
    for explicit in (False, True)
    for texts in TEXTS
    for region in REGIONS
    if (explicit or not case.needs_extra) and (case.region or not region)
    if not (name.startswith("fmicl-dv") and texts == "all-equal")  # no pair, no best shift: see test_without_negatives
]


@pytest.mark.parametrize(("name", "explicit", "texts", "region"), COMBINATIONS)
def test_value(name: str, explicit: bool, texts: str, region: tuple[float, float] | None):
    case = CASES[name]
    arrays = vectors(4, 4, *[2] * explicit, dimension=4)
    mine, theirs = in_both(texts, explicit, region)
    value = total(case.objective, leaves(arrays), **case.settings(False), **mine).item()
    assert value == pytest.approx(case.expected(*arrays, **theirs), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "region"),
    [
        pytest.param(name, REGIONS[region], id=f"{name}-{region}")
        for name, case in CASES.items()
        for region in ("", "ring")
        if case.region or not region
    ],
)
def test_gradient(name: str, region: tuple[float, float] | None):
    """Autograd against central differences of the reference, in every coordinate of every vector.

    Asymmetric InfoNCE has 0.2 of it in the clean view and 0.8 in the noisy one.
    """
    case = CASES[name]
    arrays = vectors(4, 4, 2, dimension=4)
    mine, theirs = in_both("duplicates", True, region)
    tensors = leaves(arrays)
    loss = total(case.objective, tensors, **case.settings(False), **mine)

    def reference(*arrays: np.ndarray) -> float:
        return case.expected(*arrays, **theirs)

    gradients = torch.autograd.grad(loss, tensors)
    for mine_gradient, expected, share in zip(
        gradients, formulas.gradient(reference, *arrays), case.shares, strict=True
    ):
        np.testing.assert_allclose(mine_gradient, share * expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


OFFERED = [[True, False], [False, False], [True, True], [False, True]]


def test_contextual_infonce_compares_with_what_was_offered():
    arrays = vectors(4, 4, 2)
    mine, theirs = identities("duplicates", explicit=True)
    value = total(
        core.contextual_infonce, leaves(arrays), offered=torch.tensor(OFFERED), kernel=CosineKernel(TAU), **mine
    )
    expected = formulas.contextual_infonce(*arrays, temperature=TAU, offered=OFFERED, **theirs)
    assert value.item() == pytest.approx(expected)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.shares == (1, 1, 1)])
def test_gradcheck(name: str):
    """Also of the learned widths, which ``gradcheck`` moves in place together with the vectors."""
    case = CASES[name]
    settings = case.learned()

    def loss(*tensors: Tensor) -> Tensor:
        return total(case.objective, list(tensors[:3]), **settings)

    tensors = leaves(vectors(3, 3, 2, dimension=4))
    assert torch.autograd.gradcheck(loss, (*tensors, *parameters(settings)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_defaults_are_the_published_ones(name: str):
    objective, settings, published = PUBLISHED[name]
    arrays = vectors(4, 4, 2, dimension=4)
    expected = dataclasses.replace(CASES[name], same=published).expected(*arrays)
    assert total(objective, leaves(arrays), **settings).item() == pytest.approx(expected)


def test_default_split_of_asymmetric_infonce():
    x, y = leaves(vectors(4, 4))
    even = torch.autograd.grad(total(infonce, [x, y], kernel=CosineKernel(0.5)), [x, y])
    split = torch.autograd.grad(total(core.asymmetric_infonce, [x, y]), [x, y])
    torch.testing.assert_close(split, (0.2 * even[0], 0.8 * even[1]))


def test_every_objective_is_here():
    functions = {getattr(core, name) for name in core.OBJECTIVES}
    at_defaults = {objective for objective, *_ in PUBLISHED.values()}
    assert {case.objective for case in CASES.values()} == at_defaults == functions


@pytest.mark.parametrize("texts", TEXTS)
@pytest.mark.parametrize("explicit", [False, True], ids=["", "explicit"])
@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", TABLE)
def test_fmicl_value(name: str, kernel: str, negatives: str, explicit: bool, texts: str):
    arrays = vectors(4, 4, *[2] * explicit)
    mine, theirs = identities(texts, explicit)
    mine_kernel, ratio = KERNELS[kernel]
    terms = fmicl(
        *unit(leaves(arrays)),
        divergence=DIVERGENCES[name],
        kernel=mine_kernel,
        alpha=3.0,
        negatives=negatives,
        **mine,
    )
    expected = formulas.fmicl(*arrays, row=TABLE[name], ratio=ratio, alpha=3.0, negatives=negatives, **theirs)
    assert {key: value.item() for key, value in terms.items()} == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("texts", ["distinct", "duplicates"])
@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("name", TABLE)
def test_fmicl_gradient(name: str, negatives: str, texts: str):
    """Autograd against central differences of the reference, in every coordinate of every vector."""
    arrays = vectors(4, 4, 2)
    mine, theirs = identities(texts, explicit=True)
    kernel, ratio = KERNELS["gaussian"]
    tensors = leaves(arrays)
    terms = fmicl(*unit(tensors), divergence=DIVERGENCES[name], kernel=kernel, alpha=3.0, negatives=negatives, **mine)
    gradients = torch.autograd.grad(sum(terms.values()), tensors)

    def loss(*arrays: np.ndarray) -> float:
        row = TABLE[name]
        return sum(formulas.fmicl(*arrays, row=row, ratio=ratio, alpha=3.0, negatives=negatives, **theirs).values())

    for mine_gradient, expected in zip(gradients, formulas.gradient(loss, *arrays), strict=True):
        np.testing.assert_allclose(mine_gradient, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("kernel", [GaussianKernel, CosineKernel])
@pytest.mark.parametrize("name", [*RECOMMENDED, *RULED_OUT, "infonce"])
def test_gradcheck_with_learned_width(name: str, kernel: type):
    """The width is learned too; ``gradcheck`` moves it in place together with the vectors."""
    learned = kernel(0.6, learn=True).double()

    def objective(x: Tensor, y: Tensor, extra: Tensor, *width: Tensor) -> tuple[Tensor, ...]:
        x, y, extra = unit([x, y, extra])
        if name == "infonce":
            return tuple(infonce(x, y, extra, kernel=learned).values())
        return tuple(fmicl(x, y, extra, divergence=DIVERGENCES[name], kernel=learned, negatives="both").values())

    assert torch.autograd.gradcheck(objective, (*leaves(vectors(3, 3, 2)), *learned.parameters()))


@pytest.mark.parametrize("columns", [2, 3, 4], ids=["pairs", "triplets", "quadruplets"])
def test_infonce_is_multiple_negatives_ranking(columns: int):
    """Value and gradients of sentence-transformers' own loss; its negative columns are our explicit negatives."""
    theirs, mine = leaves(vectors(*[5] * columns)), leaves(vectors(*[5] * columns))
    expected = MultipleNegativesRankingLoss(model=None, scale=1 / TAU).compute_loss_from_embeddings(theirs, None)
    x, y, *extra = unit(mine)
    loss = sum(infonce(x, y, torch.cat(extra) if extra else None, kernel=CosineKernel(TAU)).values())
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, mine), torch.autograd.grad(expected, theirs))


def test_infonce_is_multiple_negatives_ranking_without_the_duplicates():
    """Row by row: the library's loss of one anchor whose negative columns are the candidates that share no text."""
    x, y, extra = unit(leaves(vectors(4, 4, 2)))
    texts, extra_texts = TEXTS["duplicates"]
    ranking = MultipleNegativesRankingLoss(model=None, scale=1 / TAU)
    rows = []
    for i in range(4):
        candidates = [y[j] for j in range(4) if not set(texts[i]) & set(texts[j])]
        candidates += [extra[k] for k in range(2) if extra_texts[k] not in texts[i]]
        columns = [vector.unsqueeze(0) for vector in (x[i], y[i], *candidates)]
        rows.append(ranking.compute_loss_from_embeddings(columns, None))
    terms = infonce(
        x, y, extra, kernel=CosineKernel(TAU), texts=torch.tensor(texts), extra_texts=torch.tensor(extra_texts)
    )
    torch.testing.assert_close(sum(terms.values()), torch.stack(rows).mean())


def test_infonce_under_the_gaussian_kernel_is_the_same_with_tau_sigma_squared():
    x, y, extra = unit(leaves(vectors(4, 4, 2)))
    cosine = sum(infonce(x, y, extra, kernel=CosineKernel(0.09)).values())
    torch.testing.assert_close(sum(infonce(x, y, extra, kernel=GaussianKernel(0.3, mu=0.7)).values()), cosine)


PAPER_SIGMA = math.sqrt(1 / 40)


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("objective", [*itertools.product(RECOMMENDED, NEGATIVES), ("infonce", "cross")])
@given(angles=st.lists(st.floats(0, math.pi), max_size=3), seed=st.integers(0, 2**31 - 1))
@settings(max_examples=5)
def test_finite_from_coincident_to_antipodal(
    objective: tuple[str, str], autocast: bool, angles: list[float], seed: int
):
    """Pairs at any angle, 0 and pi always among them, with the paper's narrow kernel."""
    name, negatives = objective
    angle = torch.tensor([0.0, math.pi, *angles])
    axes = torch.linalg.qr(torch.randn(8, 2, generator=torch.Generator().manual_seed(seed))).Q
    x = axes[:, 0].repeat(len(angle), 1).requires_grad_()
    y = (torch.stack([angle.cos(), angle.sin()], dim=1) @ axes.T).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        identity = torch.eye(8)
        a, b = unit([x @ identity, y @ identity])  # a layer of the encoder: in bfloat16 under autocast
        if name == "infonce":
            terms = infonce(a, b, kernel=CosineKernel(PAPER_SIGMA**2))
        else:
            kernel = GaussianKernel(PAPER_SIGMA)
            terms = fmicl(a, b, a, divergence=DIVERGENCES[name], kernel=kernel, alpha=1e5, negatives=negatives)
    gradients = torch.autograd.grad(sum(terms.values()), [x, y])
    assert all(value.isfinite() and value.dtype == torch.float32 for value in terms.values())
    assert all(gradient.isfinite().all() for gradient in gradients)


DIMENSION = 16
SITUATIONS = {  # of anchors, positives and explicit negatives, from random unit rows
    "collapsed": lambda z: (z[:1].expand(6, -1), z[:1].expand(6, -1), z[:1].expand(3, -1)),
    "coincident": lambda z: (z[:6], z[:6], z[:3]),
    "antipodal": lambda z: (z[:6], -z[:6], -z[:3]),
    "two opposite points": lambda z: (
        z[:1] * torch.tensor([[1.0], [-1.0]]).repeat(3, 1),
        z[:1].expand(6, -1),
        -z[:1].expand(3, -1),
    ),
    "mixed": lambda z: (torch.cat([z[:2], z[:2], -z[:2]]), torch.cat([z[:2], -z[:2], z[2:4]]), z[:3]),
    "on the axes": lambda z: (
        torch.eye(DIMENSION)[:6],
        torch.eye(DIMENSION)[[0, 0, 9, 9, 3, 15]],
        torch.eye(DIMENSION)[:3],
    ),
}


@pytest.mark.parametrize("texts", [None, "all-equal"], ids=["", "all-equal"])
@pytest.mark.parametrize("precision", ["float32", "autocast", "bfloat16"])
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("name", PUBLISHED)
def test_finite_at_the_defaults(name: str, situation: str, precision: str, texts: str | None):
    objective, settings, *_ = PUBLISHED[name]
    random = torch.randn(6, DIMENSION, generator=torch.Generator().manual_seed(0))
    raw = [v.clone().requires_grad_() for v in SITUATIONS[situation](normalize(random, dim=1))]
    given = raw
    if precision == "bfloat16":
        given = [v.bfloat16() for v in raw]
    ids = {"texts": torch.zeros(6, 1, dtype=torch.long), "extra_texts": torch.zeros(3).long()} if texts else {}
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
        if precision == "autocast":
            given = [v @ torch.eye(DIMENSION) for v in raw]  # a layer of the encoder
        terms = objective(*(normalize(v, dim=1) for v in given), **settings, **ids)
        loss = sum(terms.values())
    gradients = torch.autograd.grad(loss, raw, allow_unused=True)
    assert all(value.isfinite() and value.dtype == torch.float32 for value in terms.values())
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


WITHOUT_NEGATIVES = {
    "all texts equal": (4, 2, {"texts": torch.zeros(4, 1).long(), "extra_texts": torch.zeros(2).long()}),
    "each shares a text": (3, 0, {"texts": torch.tensor([[0, 1], [1, 2], [2, 0]])}),
    "one row": (1, 0, {}),
    "one row, its own negative": (1, 1, {"texts": torch.tensor([[5]]), "extra_texts": torch.tensor([5])}),
}


@pytest.mark.parametrize("tiled", [False, True], ids=["dense", "tiled"])
@pytest.mark.parametrize("region", [None, Region(0.5, 0.2)], ids=["", "ring"])
@pytest.mark.parametrize("situation", WITHOUT_NEGATIVES)
@pytest.mark.parametrize("name", PUBLISHED)
def test_without_negatives(name: str, situation: str, region: Region | None, tiled: bool):
    """The anchors' pull towards their positives is all there is, and it is finite."""
    objective, settings, *_ = PUBLISHED[name]
    rows, explicit, texts = WITHOUT_NEGATIVES[situation]
    if name == "contextual-infonce" and not explicit:
        pytest.skip("needs explicit negatives")
    x, y = leaves(vectors(rows, rows, dimension=4))
    extra = unit(leaves(vectors(explicit, dimension=4)))[0] if explicit else None
    with tile_memory(1 if tiled else 2**23):
        terms = objective(*unit([x, y]), extra, **settings, **texts, region=region)
        pull = torch.autograd.grad(terms["positive"], [x, y], retain_graph=True)
        both = torch.autograd.grad(sum(terms.values()), [x, y])
    in_denominator = abs(terms["negative"].item() + terms["positive"].item()) < 1e-9
    if in_denominator:  # InfoNCE and its kin: the positive is the only one to choose
        torch.testing.assert_close(both, tuple(torch.zeros_like(g) for g in both))
    else:
        assert terms["negative"] == 0
        torch.testing.assert_close(both, pull)
        assert pull[0].abs().max() > 0


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_and_autocast_is_off(name: str, dtype: torch.dtype):
    objective, settings, *_ = PUBLISHED[name]
    x, y, extra = (v.to(dtype) for v in unit(leaves(vectors(5, 5, 3, dimension=16))))
    expected = objective(x.float(), y.float(), extra=extra.float(), **settings)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(objective(x, y, extra=extra, **settings), expected, rtol=0, atol=0)
        if dtype == torch.bfloat16:
            wide = objective(x.float(), y.float(), extra.float(), **settings)
            torch.testing.assert_close(wide, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_double_stays_double(name: str):
    objective, settings, *_ = PUBLISHED[name]
    x, y, extra = unit(leaves(vectors(3, 3, 2, dimension=4)))
    assert {value.dtype for value in objective(x=x, y=y, extra=extra, **settings).values()} == {torch.float64}


@pytest.mark.parametrize("sigma", [0.01, 1e-3, 1e-30])
def test_weights_of_dclw_do_not_overflow(sigma: float):
    x, y = (
        normalize(torch.randn(4, 8, dtype=torch.float64), dim=1),
        normalize(torch.randn(4, 8, dtype=torch.float64), dim=1),
    )
    cosines = (x * y).sum(dim=1)
    weights = 2 - 4 * (cosines / sigma).softmax(dim=0)
    found = core.dcl(x.float(), y.float(), weight_sigma=sigma)["positive"].item()
    assert found == pytest.approx(-(weights * cosines / 0.1).mean().item(), rel=1e-3)


def test_explicit_negatives_may_be_none_of_them():
    x, y, none = *unit(leaves(vectors(3, 3))), torch.zeros(0, 3, dtype=torch.float64)
    for objective in (fmicl, infonce, core.dhel):
        torch.testing.assert_close(objective(x, y, none), objective(x, y))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("fmicl", {"alpha": -1.0}, "alpha must be a finite number of at least 0, got -1.0"),
        ("fmicl", {"alpha": math.nan}, "alpha must be a finite number of at least 0, got nan"),
        ("fmicl", {"negatives": "all"}, "negatives must be one of within, cross, both, anchor, got 'all'"),
        ("fmicl_dv", {"negatives": "all"}, "negatives must be one of within, cross, both, anchor, got 'all'"),
        ("fmicl", {"shift": "dv"}, "shift must be one of none, batch, row, got 'dv'"),
        ("fmicl", {"shift": "row", "critic": "cosine"}, "critic must be one of paper, ratio, got 'cosine'"),
        ("fmicl", {"critic": "ratio"}, "critic 'ratio' needs shift 'batch' or 'row'"),
        ("fmicl", {"shift": "row", "alpha": core.Alpha(2.0)}, "alpha must be a number with shift 'row'"),
        ("fmicl", {"shift": "batch", "alpha": 0.0}, "alpha must be a positive finite number, got 0.0"),
        ("fmicl", {"shift": "row", "negatives": "all"}, "negatives must be one of within, cross, both, anchor, got"),
        ("alignment_uniformity", {"power": 3.0}, "power must be above 0 and at most 2, got 3.0"),
        ("alignment_uniformity", {"t": 0.0}, "t must be a positive finite number, got 0.0"),
        ("spectral", {"mu": 0.0}, "mu must be a positive finite number, got 0.0"),
        ("kcl", {"gamma": -1.0}, "gamma must be a positive finite number, got -1.0"),
        ("dcl", {"weight_sigma": 0.0}, "weight_sigma must be a positive finite number, got 0.0"),
        ("focal_infonce", {"temperature": 0.0}, "temperature must be a positive finite number, got 0.0"),
        ("hcl", {"tau_plus": 1.0}, r"tau_plus must be in \[0, 1\), got 1.0"),
        ("hcl", {"beta": -0.5}, "beta must be a finite number of at least 0, got -0.5"),
        ("asymmetric_infonce", {"degree": 1.5}, r"degree must be in \[0, 1\], got 1.5"),
        ("kernel_infonce_mixed", {"first": LAPLACE, "second": GAUSS, "weight": 2.0}, r"weight must be in \[0, 1\]"),
        ("kernel_infonce_concatenated", {"first": LAPLACE, "second": GAUSS}, "even number of dimensions.* got 3"),
        ("contextual_infonce", {}, "extra must hold the items that were offered and not chosen, got None"),
    ],
)
def test_bad_settings(name: str, settings: dict, message: str):
    x, y = unit(leaves(vectors(4, 4)))
    with pytest.raises(ValueError, match=message):
        getattr(core, name)(x, y, **settings)


@pytest.mark.parametrize("offered", [torch.ones(4, 3).bool(), torch.ones(4, 2)])
def test_offered_of_another_shape_or_type(offered: Tensor):
    x, y, extra = unit(leaves(vectors(4, 4, 2)))
    with pytest.raises(ValueError, match=r"offered must be bool \(4, 2\), got"):
        core.contextual_infonce(x, y, extra, offered=offered)


@pytest.mark.parametrize("name", PUBLISHED)
def test_bad_vectors(name: str):
    """Every objective refuses them, before it computes anything."""
    objective, settings, *_ = PUBLISHED[name]
    x, y = unit(leaves(vectors(4, 4, dimension=4)))
    with pytest.raises(ValueError, match=r"y must have rows of length 1, got 2 in row 3"):
        objective(x, torch.cat([y[:3], 2 * y[3:]]), **settings)


def test_nan_passes_for_the_trainer_to_report():
    x, y = unit(leaves(vectors(4, 4)))
    x = torch.cat([x[:3], torch.full_like(x[3:], math.nan)])
    assert infonce(x, y)["positive"].isnan()


def test_sum_kernel_is_inside_one_logarithm_and_the_mix_is_not():
    x, y = unit(leaves(vectors(4, 4)))
    inside = sum(core.kernel_infonce(x, y, kernel=SumKernel(LAPLACE, GAUSS)).values())
    mixed = sum(core.kernel_infonce_mixed(x, y, first=LAPLACE, second=GAUSS).values())
    assert abs(inside - mixed) > 0.01
