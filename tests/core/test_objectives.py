"""f-MICL and InfoNCE against loops over pairs in float64: values, gradients, precision, splitting of batches."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import formulas
from reference.formulas import RECOMMENDED, RULED_OUT, TABLE
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch import Tensor
from torch.nn.functional import normalize

from fmicl_text.core import DIVERGENCES, KL, NEGATIVES, CosineKernel, GaussianKernel, fmicl, infonce

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


@pytest.mark.parametrize("texts", TEXTS)
@pytest.mark.parametrize("explicit", [False, True], ids=["", "explicit"])
def test_infonce(explicit: bool, texts: str):
    arrays = vectors(4, 4, *[2] * explicit)
    mine, theirs = identities(texts, explicit)
    tensors = leaves(arrays)
    total = sum(infonce(*unit(tensors), kernel=CosineKernel(TAU), **mine).values())

    def loss(*arrays: np.ndarray) -> float:
        return formulas.infonce(*arrays, temperature=TAU, **theirs)

    assert total.item() == pytest.approx(loss(*arrays))
    for gradient, expected in zip(torch.autograd.grad(total, tensors), formulas.gradient(loss, *arrays), strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("columns", [2, 3, 4], ids=["pairs", "triplets", "quadruplets"])
def test_infonce_is_multiple_negatives_ranking(columns: int):
    """Value and gradients of sentence-transformers' own loss; its negative columns are our explicit negatives."""
    theirs, mine = leaves(vectors(*[5] * columns)), leaves(vectors(*[5] * columns))
    expected = MultipleNegativesRankingLoss(model=None, scale=1 / TAU).compute_loss_from_embeddings(theirs, None)
    x, y, *extra = unit(mine)
    total = sum(infonce(x, y, torch.cat(extra) if extra else None, kernel=CosineKernel(TAU)).values())
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(torch.autograd.grad(total, mine), torch.autograd.grad(expected, theirs))


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


def mean_over_splits(objective, x: Tensor, y: Tensor, size: int) -> float:
    """Mean of the loss over every way to draw a batch of ``size`` of the pairs."""
    batches = itertools.combinations(range(len(x)), size)
    return torch.stack([sum(objective(x[list(b)], y[list(b)]).values()) for b in batches]).mean().item()


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("name", RECOMMENDED)
def test_fmicl_does_not_depend_on_batch_size(name: str, negatives: str):
    """Exactly: averaged over all batches of two or three of six pairs, it is the loss of the six."""
    x, y = unit(leaves(vectors(6, 6)))

    def loss(x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return fmicl(x, y, divergence=DIVERGENCES[name], kernel=GaussianKernel(SIGMA), alpha=3.0, negatives=negatives)

    whole = sum(loss(x, y).values()).item()
    assert mean_over_splits(loss, x, y, 2) == pytest.approx(whole)
    assert mean_over_splits(loss, x, y, 3) == pytest.approx(whole)


def test_infonce_depends_on_batch_size():
    x, y = unit(leaves(vectors(6, 6)))
    assert mean_over_splits(infonce, x, y, 2) < 0.9 * sum(infonce(x, y).values()).item()


PAPER_SIGMA = math.sqrt(1 / 40)


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("objective", [*itertools.product(RECOMMENDED, NEGATIVES), ("infonce", "cross")])
@given(angles=st.lists(st.floats(0, math.pi), max_size=3), seed=st.integers(0, 2**31 - 1))
@settings(deadline=None, max_examples=5)
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


@pytest.mark.parametrize("objective", [fmicl, infonce])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_and_autocast_is_off(objective, dtype: torch.dtype):
    x, y, extra = (v.to(dtype) for v in unit(leaves(vectors(5, 5, 3, dimension=16))))
    expected = objective(x.float(), y.float(), extra=extra.float())
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(objective(x, y, extra=extra), expected, rtol=0, atol=0)
        torch.testing.assert_close(objective(x.float(), y.float(), extra.float()), expected, rtol=0, atol=0)


def test_double_stays_double():
    x, y = unit(leaves(vectors(3, 3)))
    assert {value.dtype for value in (fmicl(x, y) | infonce(x, y)).values()} == {torch.float64}


@pytest.mark.parametrize("objective", [fmicl, infonce])
def test_arguments_by_name(objective):
    x, y, extra = unit(leaves(vectors(3, 3, 2)))
    torch.testing.assert_close(objective(x=x, y=y, extra=extra), objective(x, y, extra))


def test_defaults_are_the_documented_ones():
    x, y = unit(leaves(vectors(4, 4)))
    expected = fmicl(x, y, divergence=KL, kernel=GaussianKernel(0.25, mu=1.0), alpha=1.0, negatives="within")
    torch.testing.assert_close(fmicl(x, y), expected)
    torch.testing.assert_close(infonce(x, y), infonce(x, y, kernel=CosineKernel(0.05)))


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_single_pair_has_no_negative_term(negatives: str):
    x, y = unit(leaves(vectors(1, 1)))
    terms = fmicl(x, y, divergence=KL, negatives=negatives)
    assert terms["negative"].item() == 0
    torch.autograd.grad(sum(terms.values()), x)
    assert sum(infonce(x, y).values()).item() == pytest.approx(0)
