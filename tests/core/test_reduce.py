"""The tiled engine: dense and tiled agree, memory stays a tile, each unordered pair is visited once."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from reference.objectives import CASES, parameters, total
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fmicl_text.core import JS, CosineKernel, GaussianKernel, Kernel, Region, as_batch, fmicl, infonce, tile_memory
from fmicl_text.core.pairs import Block, Rows
from fmicl_text.core.reduce import identity, log_pair_mean, pair_mean, row_log_sum_exp, sum_and_count
from fmicl_text.core.row_shift import row_bound
from fmicl_text.core.tiles import tile_area

DIMENSION = 4
SITUATIONS: dict[str, tuple[int, int, dict[str, Any]]] = {  # rows, explicit negatives, and what else is given
    "plain": (7, 0, {}),
    "extra": (7, 5, {}),
    "duplicates": (
        7,
        5,
        {
            "texts": torch.tensor([[0, 1], [2, 3], [1, 4], [5, 5], [6, 7], [3, 8], [9, 0]]),
            "extra_texts": torch.tensor([10, 3, 7, 11, 10]),
        },
    ),
    "all equal": (7, 5, {"texts": torch.zeros(7, 1).long(), "extra_texts": torch.zeros(5).long()}),
    "one row": (1, 5, {}),
    "ring": (7, 5, {"region": Region(0.8, 0.3)}),
}
OFFERED = torch.rand(7, 5, generator=torch.Generator().manual_seed(0)) < 0.5


def vectors(rows: int, extra: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [rows, rows, *[extra] * (extra > 0)]
    return [torch.randn(size, DIMENSION, generator=generator, dtype=dtype, requires_grad=True) for size in sizes]


def in_tiles_of(pairs: int, dtype: torch.dtype = torch.float64):
    """Let a tile have so many pairs."""
    memory = tile_memory(8 * dtype.itemsize * pairs)
    with memory:
        assert tile_area(torch.zeros(1, dtype=dtype)) == pairs
    return tile_memory(8 * dtype.itemsize * pairs)


def value_and_gradients(name: str, situation: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Also by the learned widths."""
    rows, extra, given = SITUATIONS[situation]
    case, tensors = CASES[name], vectors(rows, extra, dtype)
    settings = case.learned(dtype) | given
    if case.needs_extra and rows == 7:
        settings["offered"] = OFFERED
    loss = total(case.objective, tensors, **settings)
    leaves = [*tensors, *parameters(settings)]
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)  # without negatives the width may be unused
    return loss, *(torch.zeros_like(leaf) if g is None else g for g, leaf in zip(gradients, leaves, strict=True))


COMBINATIONS = [
    pytest.param(name, situation, id=f"{name}-{situation}")
    for name, case in CASES.items()
    for situation, (_, extra, _) in SITUATIONS.items()
    if extra or not case.needs_extra
]


@pytest.mark.parametrize(("name", "situation"), COMBINATIONS)
def test_dense_and_tiled_agree(name: str, situation: str):
    """One-pair tiles, where nothing else has them in it, and tiles whose last are narrower and lower."""
    dense = value_and_gradients(name, situation, torch.float64)
    searches = "dv" in name or "row" in name  # for a shift, in many sweeps
    held = situation in ("plain", "extra", "all equal")  # in "duplicates" or "ring", tile by tile
    for pairs in (10,) if searches or held else (1, 10):
        with in_tiles_of(pairs):
            tiled = value_and_gradients(name, situation, torch.float64)
        for mine, expected in zip(tiled, dense, strict=True):
            scale = 1 + expected.abs().max().item()
            torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-10 * scale)


@pytest.mark.parametrize("situation", ["extra", "duplicates"])
@pytest.mark.parametrize("name", CASES)
def test_dense_and_tiled_agree_in_float32(name: str, situation: str):
    dense = value_and_gradients(name, situation, torch.float32)
    exact = value_and_gradients(name, situation, torch.float64)
    with in_tiles_of(10, torch.float32):
        tiled = value_and_gradients(name, situation, torch.float32)
    for mine, theirs, expected in zip(tiled, dense, exact, strict=True):
        scale = 1 + expected.abs().max().item()
        assert mine.dtype == theirs.dtype == torch.float32
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5 * scale)


class Largest(TorchDispatchMode):
    """Watches for the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        sizes = [value.numel() for value in tree_leaves(result) if isinstance(value, Tensor)]
        self.elements = max([self.elements, *sizes])
        return result


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("fmicl-dv-js-both", "fmicl-dv-vlc-cross")])
def test_nothing_is_larger_than_a_tile_or_the_vectors(name: str):
    case, area = CASES[name], 441
    generator = torch.Generator().manual_seed(0)
    x, y = (normalize(torch.randn(40, 4, generator=generator), dim=1).requires_grad_() for _ in range(2))
    extra = normalize(torch.randn(32, 4, generator=generator), dim=1).requires_grad_()
    texts = torch.arange(40).unsqueeze(1) // 2  # each text twice
    for region in [None, Region(0.5, 0.2)] if case.region else [None]:
        watch = Largest()
        with watch, in_tiles_of(area, torch.float32):
            terms = case.objective(x, y, extra, texts=texts, region=region, **case.settings(True))
            torch.autograd.grad(sum(terms.values()), [x, y, extra])
        assert watch.elements <= max(area, (40 + 40 + 32) * 4) < 40 * 32


class Counting(CosineKernel):
    """Counts the cosines it is given."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.pairs = 0

    def forward(self, cosine: Tensor) -> Tensor:
        self.pairs += cosine.numel()
        return super().forward(cosine)


@pytest.mark.parametrize("area", [1, 10])
@pytest.mark.parametrize(("reduction", "sweeps"), [(pair_mean, 1), (row_log_sum_exp, 2)])
def test_how_often_a_pair_is_visited(reduction, sweeps: int, area: int):
    """Once for a mean and its gradient, twice for a log-sum-exp; of the pairs within one set each unordered one."""
    x, y = (normalize(v, dim=1) for v in vectors(7, 0))
    high = math.isqrt(area)
    for negatives, most in (("cross", 7 * 7), ("within", 7 * 6 // 2 + 7 * high)):  # tiles on the diagonal are whole
        kernel = Counting()
        with in_tiles_of(area):
            found = reduction(as_batch(x, y).negatives(negatives), kernel)
            (found if isinstance(found, Tensor) else found.log).sum().backward(retain_graph=True)
        assert 7 * 6 // 2 * sweeps <= kernel.pairs <= most * sweeps


def test_pairs_of_a_row_are_counted():
    rows, extra, given = SITUATIONS["duplicates"]
    x, y, n = (normalize(v, dim=1) for v in vectors(rows, extra))
    blocks = as_batch(x, y, n, given["texts"], given["extra_texts"]).negatives("within")
    texts, others = given["texts"].tolist(), given["extra_texts"].tolist()
    expected = [sum(not set(a) & set(b) for b in texts) + sum(b not in a for b in others) for a in texts]
    for area in (1, 10, 1000):
        with in_tiles_of(area):
            assert row_log_sum_exp(blocks, CosineKernel()).pairs.tolist() == expected


@pytest.mark.parametrize("area", [1, 1000])
def test_reductions_of_nothing(area: int):
    """Mean 0, log of the mean 0, log-sum-exp minus infinity; no gradient, and none that is not a number."""
    x = normalize(vectors(4, 0)[0], dim=1)
    rows = Rows(x, torch.zeros(4, 1).long())
    with in_tiles_of(area):
        blocks = [Block(rows, rows)]
        mean, log = pair_mean(blocks, CosineKernel()), log_pair_mean(blocks, CosineKernel())
        sums = row_log_sum_exp(blocks, CosineKernel())
        gradients = torch.autograd.grad(mean + log + sums.log.masked_fill(sums.log.isneginf(), 0).sum(), x)
    assert mean == log == 0 and sums.log.isneginf().all() and not sums.pairs.any()
    assert (gradients[0] == 0).all()


class WithoutGradient(CosineKernel):
    """Refuses to be differentiated."""

    def forward(self, cosine: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        return super().forward(cosine)


@pytest.mark.parametrize("area", [10, 1000])
@pytest.mark.parametrize("name", CASES)
def test_no_grad(name: str, area: int):
    case = CASES[name]
    tensors = vectors(7, 5)
    expected = total(case.objective, tensors, **case.settings(True))
    with torch.no_grad(), in_tiles_of(area):
        value = total(case.objective, tensors, **case.settings(True))
    assert not value.requires_grad
    torch.testing.assert_close(value, expected.detach())


@pytest.mark.parametrize("area", [10, 1000])
def test_no_gradient_is_computed_where_none_is_asked_for(area: int):
    x, y = (normalize(v, dim=1) for v in vectors(7, 0))
    with torch.no_grad(), in_tiles_of(area):
        for objective in (fmicl, infonce):
            objective(x, y, kernel=WithoutGradient(0.5))


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (3,), (0, 2), (1, 3)])
@pytest.mark.parametrize("area", [10, 1000])
@pytest.mark.parametrize(
    "name", ["fmicl-kl", "fmicl-js-cross", "fmicl-pearson-both", "infonce-symmetric", "ntxent", "hcl"]
)
def test_gradient_of_some_of_the_inputs(name: str, area: int, wanted: tuple[int, ...]):
    """Anchors, positives, explicit negatives, the width: the others need no gradient, or are frozen."""
    case = CASES[name]
    _, *expected = value_and_gradients(name, "extra", torch.float64)
    tensors, settings = vectors(7, 5), case.learned()
    leaves = [*tensors, *parameters(settings)]
    for place, leaf in enumerate(leaves):
        leaf.requires_grad_(place in wanted)
    with in_tiles_of(area):
        loss = total(case.objective, tensors, **settings)
        gradients = torch.autograd.grad(loss, [leaves[place] for place in wanted])
    torch.testing.assert_close(gradients, tuple(expected[place] for place in wanted), rtol=1e-6, atol=1e-10)


def test_backward_may_be_repeated():
    x, y, _ = vectors(7, 5)
    with in_tiles_of(10):
        for objective in (fmicl, infonce):
            loss = total(objective, [x, y])
            first = torch.autograd.grad(loss, [x, y], retain_graph=True)
            torch.testing.assert_close(torch.autograd.grad(3 * loss, [x, y]), tuple(3 * g for g in first))


def test_the_gradient_of_a_mean_is_held_once():
    x, y = (normalize(torch.randn(4096, 512), dim=1).requires_grad_() for _ in range(2))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        pair_mean(as_batch(x, y).negatives("cross"), CosineKernel(), torch.tanh).backward()
    taken = [event.nbytes() for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    assert x.grad.nbytes + y.grad.nbytes < max(itertools.accumulate(taken)) < 2 * x.nbytes + 8 * 2**20  # and a tile


def test_a_graph_that_is_gone_is_not_swept_again():
    x, y = (normalize(v, dim=1) for v in vectors(7, 0))
    with in_tiles_of(10):
        value, _ = sum_and_count(as_batch(x, y).negatives("cross"), CosineKernel(), torch.exp)
        value.backward()
        with pytest.raises(RuntimeError, match="second time"):
            value.backward()


@pytest.mark.parametrize(
    "reduced",
    [
        lambda blocks, kernel: sum_and_count(blocks, kernel, torch.exp)[0],
        lambda blocks, kernel: row_log_sum_exp(blocks, kernel).log.sum(),
        lambda blocks, kernel: row_bound(blocks, torch.zeros(7).double(), kernel, identity, JS).sum(),
    ],
    ids=["mean", "log-sum-exp", "bound"],
)
def test_a_width_that_was_trained_meanwhile_is_refused(reduced):
    """A second backward pass sweeps again, and would do so at another width."""
    x, y = (normalize(v, dim=1).detach() for v in vectors(7, 0))
    kernel = GaussianKernel(0.5, learn=True)
    with in_tiles_of(10):
        value = reduced(as_batch(x, y).negatives("cross"), kernel)
        value.backward(retain_graph=True)
        with torch.no_grad():
            kernel.log_temperature.add_(0.1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            value.backward()


@pytest.mark.parametrize("objective", [fmicl, infonce])
def test_second_derivative_is_refused_in_tiles(objective):
    x, y = vectors(7, 0)
    with in_tiles_of(10), pytest.raises(NotImplementedError, match="no second derivative; for one, let tile_memory"):
        torch.autograd.grad(total(objective, [x, y]), x, create_graph=True)
    assert torch.autograd.gradgradcheck(lambda x, y: total(objective, [x, y]), [x, y])


@pytest.mark.parametrize("kernel", [CosineKernel(0.05), GaussianKernel(0.158)])
def test_uneven_weights_of_rows(kernel: Kernel):
    """A log-sum-exp's gradient is each row's own, in both places where a row of a symmetric block appears."""
    weights = torch.tensor([1.0, -2.0, 0.0, 3.0, 0.5, 0.0, 1.0], dtype=torch.float64)

    def gradient() -> Tensor:
        (x, y) = vectors(7, 0)
        logs = row_log_sum_exp(as_batch(normalize(x, dim=1), normalize(y, dim=1)).negatives("within"), kernel).log
        return torch.autograd.grad(logs @ weights, x)[0]

    dense = gradient()
    for area in (1, 4, 10):
        with in_tiles_of(area):
            torch.testing.assert_close(gradient(), dense, rtol=1e-10, atol=1e-10)


def test_tile_memory_ends_with_its_context():
    before = tile_area(torch.zeros(1))
    with tile_memory(8 * 4 * 100):
        assert tile_area(torch.zeros(1)) == 100 and tile_area(torch.zeros(1, dtype=torch.float64)) == 50
        with tile_memory(1):
            assert tile_area(torch.zeros(1)) == 1
    assert tile_area(torch.zeros(1)) == before > 64 * 64


def test_a_tile_of_no_memory():
    with pytest.raises(ValueError, match="size must be a positive finite number, got 0"), tile_memory(0):
        pass
