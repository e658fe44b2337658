"""Products of one tile's matrices against float64, on whichever library computes them."""

from __future__ import annotations

import pytest
import torch

from fmicl_text.core.products import add_product, product

SHAPES = [(1, 1, 1), (1, 7, 3), (5, 1, 384), (129, 64, 17), (512, 300, 384)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "m", "d"), SHAPES)
def test_a_product_is_that_of_float64(n, m, d, dtype):
    torch.manual_seed(0)
    a, b = torch.randn(n, d, dtype=dtype), torch.randn(m, d, dtype=dtype)
    found = product(a, b)
    assert found.dtype == dtype
    tolerance = 32 * torch.finfo(dtype).eps * d**0.5
    torch.testing.assert_close(found.double(), a.double() @ b.double().T, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "m", "d"), SHAPES)
def test_a_product_is_added_to_what_is_there_from_slices_and_transposes(n, m, d, dtype):
    torch.manual_seed(0)
    slopes, columns = torch.randn(m, n, dtype=dtype).T, torch.randn(m + 2, d, dtype=dtype)[1:-1]
    buffer = torch.randn(n + 3, d, dtype=dtype)
    expected = buffer.double().clone()
    expected[1 : n + 1] += slopes.double() @ columns.double()
    add_product(buffer[1 : n + 1], slopes, columns)
    tolerance = 32 * torch.finfo(dtype).eps * m**0.5
    torch.testing.assert_close(buffer.double(), expected, rtol=0, atol=tolerance)
