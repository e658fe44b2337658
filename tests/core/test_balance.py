"""Width and balance from the encoder's own cosines: the rule, and what a loss makes of it."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fmicl_text.core import (
    KL,
    NEGATIVES,
    PEARSON,
    Alpha,
    CosineKernel,
    ExponentialKernel,
    GaussianKernel,
    Kernel,
    as_batch,
    balance_cosine_of,
    fmicl,
    measured_temperature,
    tile_memory,
)
from fmicl_text.core.alpha import BATCHES

KERNELS = [GaussianKernel(0.25), GaussianKernel(0.25, mu=1.7), CosineKernel(0.05), GaussianKernel("measured")]


def encoder(seed: int, gathered: float = 0.0, rows: int = 32, dimension: int = 24) -> tuple[Tensor, Tensor]:
    """Pairs whose cosines are near 0 (``gathered`` 0), or near 1 as an untrained BERT's."""
    generator = torch.Generator().manual_seed(seed)
    centre = gathered * torch.randn(dimension, generator=generator, dtype=torch.float64)
    x = torch.randn(rows, dimension, generator=generator, dtype=torch.float64)
    y = x + 0.7 * torch.randn(rows, dimension, generator=generator, dtype=torch.float64)
    return normalize(x + centre, dim=1), normalize(y + centre, dim=1)


def negative_cosines(negatives: str) -> tuple[tuple, dict, Tensor]:
    """A batch with texts that occur twice and explicit negatives, and its negative pairs' cosines, one by one."""
    x, y = encoder(2, rows=6)
    extra = encoder(3, rows=3)[0]
    texts, of_extra = [0, 1, 0, 2, 3, 4], [1, 9, 10]
    columns = {"within": [x], "cross": [y], "both": [x, y], "anchor": [x, y]}[negatives]
    found = [(x[i] @ c[j]).item() for c in columns for i in range(6) for j in range(6) if texts[i] != texts[j]]
    if negatives == "both":
        found += [(y[i] @ c[j]).item() for c in (x, y) for i in range(6) for j in range(6) if texts[i] != texts[j]]
    found += [(x[i] @ extra[j]).item() for i in range(6) for j in range(3) if texts[i] != of_extra[j]]
    identities = {"texts": torch.tensor(texts)[:, None], "extra_texts": torch.tensor(of_extra)}
    return (x, y, extra), identities, torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("tile", [64, None], ids=["tiles", "dense"])
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_width_is_half_the_spread_of_the_pairs_that_count(negatives: str, tile: int | None):
    columns, identities, cosines = negative_cosines(negatives)
    blocks = as_batch(*columns, **identities).negatives(negatives)
    with tile_memory(tile or 2**20):
        assert measured_temperature(blocks) == pytest.approx(cosines.std(correction=0).item() / 2, rel=1e-9)


def test_width_of_cosines_that_are_all_near_one():
    """In float32, where the square of their mean has an error as large as their variance."""
    x, y = (column.float() for column in encoder(0, gathered=12.0))
    spread = (x.double() @ y.double().T)[~torch.eye(len(x), dtype=torch.bool)].std(correction=0).item()
    assert spread < 0.01
    blocks = as_batch(torch.cat([x] * 2), torch.cat([y] * 2)).negatives("cross")
    assert measured_temperature(blocks) == 0.01  # the narrowest
    assert measured_temperature(as_batch(torch.eye(4), -torch.eye(4)).negatives("cross")) == 0.01  # no spread at all


def test_the_share_of_pairs_that_counts():
    """``(mean w)^2 / mean w^2`` of normal cosines is ``exp(-(d/tau)^2)``: at half the spread 1.8 percent."""
    spread, temperature = 0.05, 0.025
    cosines = torch.linspace(-0.6, 0.6, 10_001, dtype=torch.float64)
    density = (-(cosines**2) / (2 * spread**2)).exp()
    density /= density.sum()
    weights = (cosines / temperature).exp()
    share = (density * weights).sum() ** 2 / (density * weights**2).sum()
    assert share.item() == pytest.approx(math.exp(-4), rel=1e-6)


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("gathered", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("kernel", KERNELS, ids=["gaussian", "mu", "cosine", "measured"])
def test_the_start_is_balanced(kernel: Kernel, gathered: float, negatives: str):
    """KL's negative term is ``alpha mean u``; a pair at the balance cosine has ``alpha u = 1``."""
    kernel = GaussianKernel("measured") if kernel is KERNELS[-1] else kernel
    x, y = encoder(0, gathered)
    alpha = Alpha(balance_cosine="measured")
    terms = fmicl(x, y, divergence=KL, kernel=kernel, alpha=alpha, negatives=negatives)
    assert terms["negative"].item() == pytest.approx(1, rel=1e-6)
    found = alpha.measured(kernel)["balance_cosine"]
    again = Alpha(balance_cosine=found)
    assert fmicl(x, y, kernel=kernel, alpha=again, negatives=negatives)["negative"].item() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("gathered", [0.0, 4.0])
def test_push_is_pull_in_kl(gathered: float):
    """The slope of each term by a common shift of all log ratios, which is what pulls and pushes."""
    x, y = encoder(1, gathered)

    class Shifted(CosineKernel):
        shift = torch.zeros((), dtype=torch.float64, requires_grad=True)

        def forward(self, cosine: Tensor) -> Tensor:
            return super().forward(cosine) + self.shift

    kernel = Shifted(0.05)
    terms = fmicl(x, y, kernel=kernel, alpha=Alpha(balance_cosine="measured"), negatives="cross")
    pull, push = (torch.autograd.grad(terms[name], kernel.shift, retain_graph=True)[0] for name in terms)
    assert -pull.item() == pytest.approx(push.item(), rel=1e-6)


def test_measured_on_the_first_batches_and_then_constant():
    kernel, alpha = GaussianKernel(0.5), Alpha(balance_cosine="measured")
    ratios = []
    for seed in range(BATCHES + 3):
        x, y = encoder(seed, rows=5)
        unweighted = fmicl(x, y, kernel=kernel, negatives="cross")["negative"].item()
        ratios.append(unweighted)
        found = fmicl(x, y, kernel=kernel, alpha=alpha, negatives="cross")["negative"].item() / unweighted
        used = ratios[:BATCHES]
        assert found == pytest.approx(len(used) / sum(used), rel=1e-5)
    alpha.eval()
    x, y = encoder(99, rows=5)
    weight = fmicl(x, y, kernel=kernel, alpha=alpha, negatives="cross")["negative"]
    assert weight / fmicl(x, y, kernel=kernel, negatives="cross")["negative"] == pytest.approx(4 / sum(ratios[:4]))


@pytest.mark.parametrize("done", [1, BATCHES, BATCHES + 2])
def test_resumed_it_goes_on_as_if_it_had_not_stopped(done: int):
    def steps(kernel: Kernel, alpha: Alpha, seeds: range) -> list[float]:
        batches = [encoder(seed, rows=5) for seed in seeds]
        return [fmicl(x, y, kernel=kernel, alpha=alpha)["negative"].item() for x, y in batches]

    through = [GaussianKernel("measured"), Alpha(balance_cosine="measured")]
    expected = steps(*through, range(8))
    first = [GaussianKernel("measured"), Alpha(balance_cosine="measured")]
    found = steps(*first, range(done))
    second = [GaussianKernel("measured"), Alpha(balance_cosine="measured")]
    for new, old in zip(second, first, strict=True):
        new.load_state_dict(old.state_dict())
    found += steps(*second, range(done, 8))
    assert found == expected
    assert second[1].measured(second[0]) == through[1].measured(through[0])


def test_before_training_a_batch_is_balanced_by_itself():
    x, y = encoder(0)
    alpha = Alpha(balance_cosine="measured").eval()
    assert fmicl(x, y, kernel=GaussianKernel(0.5), alpha=alpha)["negative"].item() == pytest.approx(1, rel=1e-6)
    assert alpha.measured(GaussianKernel(0.5)) == {} and alpha.batches == 0


def test_an_evaluation_before_training_does_not_set_the_width():
    kernel = GaussianKernel("measured").eval()
    x, y = encoder(0, gathered=4.0)
    found = fmicl(x, y, kernel=kernel, negatives="cross")
    own = GaussianKernel(math.sqrt(measured_temperature(as_batch(x, y).negatives("cross"))))
    assert not kernel.has_width
    assert found["negative"].item() == pytest.approx(
        fmicl(x, y, kernel=own, negatives="cross")["negative"].item(), rel=1e-3
    )
    kernel.train()
    x, y = encoder(1)
    fmicl(x, y, kernel=kernel, negatives="cross")
    assert kernel.temperature == pytest.approx(measured_temperature(as_batch(x, y).negatives("cross")))


@pytest.mark.parametrize("copies", [{}, {"texts": torch.zeros(3, 1).long()}], ids=["one row", "copies"])
def test_a_batch_without_negatives_does_not_set_the_width(copies: dict):
    kernel = GaussianKernel("measured")
    terms = fmicl(*encoder(0, rows=3 if copies else 1), kernel=kernel, negatives="cross", **copies)
    assert not kernel.has_width and terms["negative"] == 0 and terms["positive"].isfinite()
    x, y = encoder(1)
    fmicl(x, y, kernel=kernel, negatives="cross")
    assert kernel.temperature == pytest.approx(measured_temperature(as_batch(x, y).negatives("cross")))


def test_a_batch_without_negatives_is_not_counted():
    x, y = encoder(0, rows=3)
    alpha = Alpha(balance_cosine="measured")
    terms = fmicl(x, y, kernel=GaussianKernel(0.5), alpha=alpha, texts=torch.zeros(3, 1).long())
    assert terms["negative"] == 0 and alpha.batches == 0


def test_the_figures_are_said_once(caplog):
    caplog.set_level(logging.INFO, "fmicl_text")
    kernel, alpha = GaussianKernel("measured"), Alpha(balance_cosine="measured")
    for seed in range(BATCHES + 2):
        fmicl(*encoder(seed), kernel=kernel, alpha=alpha)
    (record,) = caplog.records
    assert f"sigma {kernel.sigma:.4g}" in record.message
    assert f"balance_cosine {alpha.measured(kernel)['balance_cosine']:.4g}" in record.message


@pytest.mark.parametrize("kernel", [GaussianKernel(0.3), GaussianKernel(0.3, mu=1.7), CosineKernel(0.05)])
def test_balance_cosine_is_where_u_is_the_mean(kernel: Kernel):
    cosine = balance_cosine_of(kernel, 0.02)
    assert kernel(torch.tensor(cosine, dtype=torch.float64)).exp().item() == pytest.approx(0.02)


def test_a_kernel_that_is_not_linear_has_a_measured_alpha():
    kernel, alpha = ExponentialKernel(), Alpha(balance_cosine="measured")
    assert fmicl(*encoder(0), kernel=kernel, alpha=alpha)["negative"].item() == pytest.approx(1, rel=1e-6)
    assert balance_cosine_of(kernel, 0.5) is None
    assert alpha.measured(kernel) == {"alpha": pytest.approx(1 / alpha.mean_ratio.item())}


@pytest.mark.parametrize(
    ("setting", "push", "said"),
    [
        ({"balance_cosine": 0.2}, None, None),
        ({"balance_cosine": "measured"}, None, None),
        ({"alpha": "auto"}, None, None),
        ({"alpha": 0}, None, None),
        ({"balance_cosine": -0.9}, "above", "positives move apart"),
        ({"balance_cosine": 0.99}, "below", "hardly anything is pushed apart"),
    ],
)
@pytest.mark.parametrize("divergence", [KL, PEARSON], ids=["kl", "pearson"])
def test_a_balance_that_is_far_from_even_is_told_once(caplog, divergence, setting: dict, push: str, said: str):
    kernel, alpha = GaussianKernel(0.25), Alpha(**setting)
    ratio = fmicl(*encoder(0), kernel=kernel)["negative"].item()
    for _ in range(120):
        fmicl(*encoder(0), kernel=kernel, alpha=alpha, divergence=divergence)
    messages = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    if said is None:
        assert not messages
        return
    (message,) = messages
    weight = float(alpha(kernel, []))
    assert f"{said}. Left out, the balance is measured" in message
    assert f"push {weight * ratio:.3g} times as hard" in message
    assert message.startswith(
        f"balance_cosine {balance_cosine_of(kernel, ratio):.2f} (alpha {1 / ratio:.3g}) would be even"
    )


def test_a_balance_that_is_lost_later_is_told(caplog):
    kernel, alpha = GaussianKernel(0.25), Alpha(balance_cosine="measured")
    for step in range(60):
        fmicl(*encoder(0, gathered=0.0 if step < 40 else 8.0), kernel=kernel, alpha=alpha)
    assert (
        "so that positives move apart. The balance of the first 4 batches no longer holds; alpha 'auto'" in caplog.text
    )
    assert "Left out" not in caplog.text, "it was left out"


def test_what_cannot_be_measured():
    with pytest.raises(ValueError, match="the width from which learning starts must be a number, got 'measured'"):
        GaussianKernel("measured", learn=True)
    with pytest.raises(ValueError, match="balance_cosine must be a number or 'measured', got 'mesured'"):
        Alpha(balance_cosine="mesured")
