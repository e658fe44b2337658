"""Products of one tile's matrices against float64, on whichever library computes them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fmicl_text.core import JS, CosineKernel, GaussianKernel, fmicl, infonce, tile_memory, tiles
from fmicl_text.core.products import add_product, product, takes_tf32, tensor_cores
from fmicl_text.losses import ContrastiveLoss, InfoNCE

SHAPES = [(1, 1, 1), (1, 7, 3), (5, 1, 384), (129, 64, 17), (512, 300, 384)]


@pytest.mark.parametrize("avx512", [True, False], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "m", "d"), SHAPES)
def test_a_product_is_that_of_float64(n, m, d, dtype, avx512):
    torch.manual_seed(0)
    a, b = torch.randn(n, d, dtype=dtype), torch.randn(m, d, dtype=dtype)
    found = product(a, b)
    assert found.dtype == dtype
    tolerance = 32 * torch.finfo(dtype).eps * d**0.5
    torch.testing.assert_close(found.double(), a.double() @ b.double().T, rtol=0, atol=tolerance)


@pytest.mark.parametrize("avx512", [True, False], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "m", "d"), SHAPES)
def test_a_product_is_added_to_what_is_there_from_slices_and_transposes(n, m, d, dtype, avx512):
    torch.manual_seed(0)
    slopes, columns = torch.randn(m, n, dtype=dtype).T, torch.randn(m + 2, d, dtype=dtype)[1:-1]
    buffer = torch.randn(n + 3, d, dtype=dtype)
    expected = buffer.double().clone()
    expected[1 : n + 1] += slopes.double() @ columns.double()
    add_product(buffer[1 : n + 1], slopes, columns)
    tolerance = 32 * torch.finfo(dtype).eps * m**0.5
    torch.testing.assert_close(buffer.double(), expected, rtol=0, atol=tolerance)


# TF32, whose rounding is done here by hand: what a card has of it is PyTorch's.


def rounded(values: Tensor, bits: int) -> Tensor:
    """Round float32 numbers to so many bits, the leading one included."""
    mantissa, exponent = torch.frexp(values.double())
    return torch.ldexp((mantissa * 2**bits).round() / 2**bits, exponent)


TF32, BFLOAT16 = 11, 8


@pytest.mark.parametrize("dimensions", [2, 32, 768])
def test_a_cosine_in_tf32_is_within_the_bound_that_is_stated(dimensions: int):
    torch.manual_seed(0)
    x, y = normalize(torch.randn(400, dimensions), dim=1), normalize(torch.randn(400, dimensions), dim=1)
    y[:100] = x[:100]  # also coincident pairs
    error = (rounded(x, TF32) @ rounded(y, TF32).T - x.double() @ y.double().T).abs()
    assert error.max() <= 2**-10
    assert error.square().mean().sqrt() <= 2**-11 / dimensions**0.5
    of_encoder = (rounded(x, BFLOAT16) @ rounded(y, BFLOAT16).T - x.double() @ y.double().T).abs()
    assert error.max() < of_encoder.max() / 4


@pytest.mark.parametrize("shift", ["none", "row"])
def test_loss_and_gradient_in_tf32_are_nearer_than_those_of_embeddings_in_bfloat16(
    shift: str, monkeypatch: pytest.MonkeyPatch
):
    torch.manual_seed(0)
    x = normalize(torch.randn(64, 32), dim=1)
    y = normalize(x + 0.5 * torch.randn(64, 32), dim=1)

    def gradient(x: Tensor, y: Tensor) -> Tensor:
        x, y = x.double().requires_grad_(), y.double().requires_grad_()
        weight = {} if shift == "row" else {"alpha": 9.0}
        terms = fmicl(x, y, divergence=JS, kernel=GaussianKernel(0.2646), shift=shift, **weight)
        return torch.cat(torch.autograd.grad(terms["positive"] + terms["negative"], [x, y]))

    def add_in_tf32(into: Tensor, a: Tensor, b: Tensor) -> None:
        into += rounded(a, TF32) @ rounded(b, TF32)

    with tile_memory(16 * 16 * 64):
        right = gradient(x, y)
        in_bfloat16 = gradient(normalize(rounded(x, BFLOAT16), dim=1), normalize(rounded(y, BFLOAT16), dim=1))
        monkeypatch.setattr(tiles, "product", lambda a, b: rounded(a, TF32) @ rounded(b, TF32).T)
        monkeypatch.setattr(tiles, "add_product", add_in_tf32)
        in_tf32 = gradient(x, y)
    error, of_encoder = ((found - right).norm() / right.norm() for found in (in_tf32, in_bfloat16))
    assert 0 < error < 2e-3 and error < of_encoder / 3


def test_tensor_cores_are_switched_on_and_back():
    before = takes_tf32()
    with tensor_cores():
        assert takes_tf32()
        with tensor_cores(wanted=False):
            assert not takes_tf32()
        assert takes_tf32()
    assert takes_tf32() == before
    with pytest.raises(KeyError), tensor_cores():
        raise KeyError
    assert takes_tf32() == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_loss_takes_tf32_on_top_of_a_bfloat16_encoder_alone(dtype: torch.dtype, autocast: bool):
    seen = []

    class Seen(InfoNCE):
        def terms(self, *args: Any, **kwargs: Any) -> Any:
            seen.append(takes_tf32())
            return super().terms(*args, **kwargs)

    x, y = torch.randn(2, 4, 3).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        ContrastiveLoss(Seen(objective="infonce"))([x, y])
    assert seen == [autocast or dtype == torch.bfloat16]


@pytest.mark.parametrize("cores", [True, False])
def test_a_backward_pass_in_another_thread_has_the_surroundings_of_the_forward_pass(cores: bool):
    """As on a GPU: tiles are as small there, and products as exact."""
    seen = []

    class Noting(CosineKernel):
        def forward(self, cosine: Tensor) -> Tensor:
            seen.append((cosine.shape, takes_tf32()))
            return super().forward(cosine)

    x, y = normalize(torch.randn(40, 4), dim=1).requires_grad_(), normalize(torch.randn(40, 4), dim=1)
    for shift in ("row", "none"):
        with tile_memory(10 * 10 * 32), tensor_cores(cores):
            if shift == "row":
                terms = fmicl(x, y, divergence=JS, kernel=Noting(0.1), negatives="cross", shift=shift)
            else:
                terms = infonce(x, y, kernel=Noting(0.1))
        seen.clear()
        with ThreadPoolExecutor() as pool, tensor_cores(not cores):
            pool.submit((terms["positive"] + terms["negative"]).backward).result()
        assert ({(10, 10)}, {cores}) == ({tuple(shape) for shape, _ in seen}, {taken for _, taken in seen})
