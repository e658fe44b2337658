"""The overlap of positive and negative pairs, and the temperature that it gives."""

from __future__ import annotations

import math

import pytest
import torch
from reference import formulas
from scipy.stats import mannwhitneyu
from torch import Tensor
from torch.nn.functional import normalize

from fmicl_text.core import (
    JS,
    KL,
    NEGATIVES,
    PEARSON,
    Alpha,
    CosineKernel,
    GaussianKernel,
    Region,
    as_batch,
    fmicl,
    infonce,
    tile_memory,
)
from fmicl_text.core import overlap as module
from fmicl_text.core.overlap import overlap

ADAPTIVE = {"kernel": CosineKernel("adaptive"), "shift": "row", "negatives": "cross"}


def pairs(noise: float, rows: int = 24, seed: int = 0, dimension: int = 8) -> tuple[Tensor, Tensor]:
    """Anchors, and positives that noise takes away from them."""
    generator = torch.Generator().manual_seed(seed)
    x, z = torch.randn(2, rows, dimension, generator=generator, dtype=torch.float64)
    return normalize(x, dim=1), normalize(x + noise * z, dim=1)


def labels(count: int, rows: int, noise: float = 0.0) -> tuple[Tensor, Tensor]:
    """Pairs of texts of one label each, as a perfect encoder or, with noise, a good one sees them."""
    of_label = torch.eye(count, dtype=torch.float64)[torch.arange(rows) % count]
    x, y = of_label + noise * torch.randn(2, rows, count, generator=torch.Generator().manual_seed(0))
    return normalize(x, dim=1), normalize(y, dim=1)


def of(x: Tensor, y: Tensor, negatives: str = "cross", **batch: Tensor) -> float:
    found = as_batch(x, y, **batch)
    return overlap(found.candidates(negatives), (x * y).sum(dim=1)).item()


@pytest.mark.parametrize("tile", [64, 2**20], ids=["tiles", "dense"])
@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("noise", [0.8, 1.3])
def test_against_the_reference(noise: float, negatives: str, tile: int):
    """With texts that occur twice and explicit negatives."""
    x, y = pairs(noise, rows=7)
    extra = pairs(noise, rows=3, seed=1)[0]
    texts, of_extra = [0, 1, 0, 2, 3, 4, 5], [1, 9, 10]
    batch = {"texts": torch.tensor(texts)[:, None], "extra": extra, "extra_texts": torch.tensor(of_extra)}
    expected = formulas.overlap(
        formulas.Pairs(x.numpy(), y.numpy(), extra.numpy(), [{t} for t in texts], of_extra), negatives
    )
    assert 0 < expected < 1
    with tile_memory(tile):
        assert of(x, y, negatives, **batch) == pytest.approx(expected, abs=1e-12)


def test_is_twice_what_the_area_under_the_curve_lacks():
    """By row, with one anchor: scipy's statistic of Mann and Whitney."""
    x, y = pairs(1.5, rows=40, seed=3)
    cosines = x @ y.T
    areas = [
        mannwhitneyu([cosines[i, i].item()], [c.item() for j, c in enumerate(cosines[i]) if j != i]).statistic / 39
        for i in range(40)
    ]
    assert of(x, y) == pytest.approx(2 * (1 - sum(areas) / 40))


@pytest.mark.parametrize("count", [2, 4, 10])
def test_of_labels_is_the_share_of_negatives_with_the_label(count: int):
    """Which a perfect encoder cannot tell from the positive: ties, of which half count."""
    rows = 40
    assert of(*labels(count, rows)) == pytest.approx((rows / count - 1) / (rows - 1))
    assert of(*labels(count, 400, noise=0.05)) == pytest.approx((400 / count - 1) / 399, abs=0.02)
    groups = (torch.arange(rows) % count)[:, None]
    assert of(*labels(count, rows), texts=groups) == 0  # the labels are known


def test_ends():
    x, y = pairs(0.0)
    assert of(x, y) == 0
    assert of(x, -x) == 1  # worse than chance counts as chance
    assert of(x, torch.roll(x, 1, dims=0)) > 0.8  # positives of chance
    assert of(x[:1], y[:1]) == 0  # no negative pair
    assert of(x, y, texts=torch.zeros(len(x), 1, dtype=torch.int64)) == 0


@pytest.mark.parametrize("rows", [16, 64, 256])
def test_does_not_depend_on_the_size_of_the_batch(rows: int):
    """In expectation: the mean over batches of one size is that of the whole."""
    x, y = pairs(1.2, rows=1024, seed=2)
    parts = [of(x[i : i + rows], y[i : i + rows]) for i in range(0, 1024, rows)]
    assert sum(parts) / len(parts) == pytest.approx(of(x, y), abs=0.015)


def test_of_a_large_batch_is_estimated_by_some_of_its_rows(monkeypatch: pytest.MonkeyPatch):
    x, y = pairs(1.2, rows=300, seed=4)
    whole = of(x, y)
    monkeypatch.setattr(module, "_ROWS", 64)  # of 300 every fifth
    assert of(x, y) != whole
    assert of(x, y) == pytest.approx(whole, abs=0.06)
    chosen = slice(None, None, 5)
    extra = {"extra": y, "extra_texts": torch.arange(300)}
    texts = {"texts": torch.arange(0, 300, 5)[:, None]}
    alone = as_batch(x[chosen], y[chosen], **extra, **texts)
    expected = overlap([alone.against(alone.x, alone.extra)], (x * y).sum(dim=1)[chosen])
    assert of(x, y) == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize("divergence", [KL, JS, PEARSON], ids=["kl", "js", "pearson"])
@pytest.mark.parametrize("tile", [64, 2**20], ids=["tiles", "dense"])
@pytest.mark.parametrize("kernel", [CosineKernel, GaussianKernel])
def test_loss_is_that_of_the_temperature(kernel: type, divergence, tile: int):
    """In value and gradient; two batches one after the other, of which each has its own."""
    batches = [tuple(v.requires_grad_() for v in pairs(noise)) for noise in (0.5, 1.5)]
    adaptive = kernel("adaptive")
    settings = {"divergence": divergence, "shift": "row", "negatives": "cross"}
    with tile_memory(tile):
        losses = [sum(fmicl(x, y, kernel=adaptive, **settings).values()) for x, y in batches]
        gradients = [torch.autograd.grad(loss, xy) for loss, xy in zip(losses, batches, strict=True)]
        for (x, y), loss, gradient in zip(batches, losses, gradients, strict=True):
            tau = 0.05 * (1 + 3 * of(x.detach(), y.detach()))
            assert 0.05 < tau < 0.2
            fixed = kernel(tau if kernel is CosineKernel else math.sqrt(tau))
            expected = sum(fmicl(x, y, kernel=fixed, **settings).values())
            torch.testing.assert_close(loss, expected)
            torch.testing.assert_close(gradient, torch.autograd.grad(expected, (x, y)))


def test_a_region_does_not_change_the_temperature():
    """Its hardest negatives alone would overlap with any positive."""
    x, y = pairs(0.7)
    tau = 0.05 * (1 + 3 * of(x, y))
    region = Region(0.1, 0.0)
    found = fmicl(x, y, divergence=JS, region=region, **ADAPTIVE)
    expected = fmicl(x, y, divergence=JS, region=region, **{**ADAPTIVE, "kernel": CosineKernel(tau)})
    torch.testing.assert_close(found, expected)


def test_nothing_is_kept_but_the_latest_of_training():
    kernel = CosineKernel("adaptive")
    x, y = pairs(1.0)
    fmicl(x, y, divergence=JS, **{**ADAPTIVE, "kernel": kernel})
    assert kernel.latest_temperature.item() == pytest.approx(0.05 * (1 + 3 * of(x, y)))
    fmicl(x, -y, divergence=JS, **{**ADAPTIVE, "kernel": kernel.eval()})
    assert kernel.latest_temperature < 0.2
    assert not kernel.state_dict()
    with pytest.raises(ValueError, match=r"width is 'adaptive', and no batch has given it: core\.fmicl takes"):
        infonce(x, y, kernel=kernel)


@pytest.mark.parametrize(
    ("settings", "got"),
    [
        ({"shift": "none"}, "'none' and 'paper'"),
        ({"shift": "none", "alpha": Alpha(2.0)}, "'none' and 'paper'"),
        ({"shift": "batch"}, "'batch' and 'paper'"),
        ({"shift": "row", "critic": "paper"}, "'row' and 'paper'"),
    ],
)
def test_refuses_other_shifts(settings: dict, got: str):
    with pytest.raises(ValueError, match=f"an adaptive width needs shift 'row' and critic 'ratio', got {got}"):
        fmicl(*pairs(1.0), kernel=GaussianKernel("adaptive"), **settings)
    with pytest.raises(ValueError, match="from which learning starts must be a number, got 'adaptive'"):
        GaussianKernel("adaptive", learn=True)


def test_a_word_that_is_no_width_is_refused():
    with pytest.raises(ValueError, match="a width must be a number, 'measured' or 'adaptive', got 'adaptiv'"):
        CosineKernel("adaptiv")
