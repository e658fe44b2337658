"""Linear layers by oneDNN: the same numbers, and only where they are meant to be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from fmicl_text.evaluation.linear import OneDnnLinear

ONEDNN = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")


def computed(layer: nn.Module, x: Tensor) -> tuple[Tensor, bool]:
    """The layer's output in the mode, and whether oneDNN computed it."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler, OneDnnLinear():
        y = layer(x)
    return y, any(event.key == "aten::mkldnn_linear" for event in profiler.key_averages())


@ONEDNN
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 7, 16), (3, 16), (16,), (0, 16)])
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_the_product_in_float32(shape: tuple[int, ...], bias: bool, context, avx512: bool):
    torch.manual_seed(0)
    layer, x = nn.Linear(16, 8, bias=bias), torch.randn(shape)
    with context():
        y, by_onednn = computed(layer, x)
    exact = x.double() @ layer.weight.double().T + (layer.bias.double() if bias else 0)
    assert by_onednn
    torch.testing.assert_close(y, exact.float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("left_alone", "avx512"),
    [("gradient", True), ("bfloat16", True), ("float64", True), ("autocast", True), ("a CPU without AVX-512", False)],
    indirect=["avx512"],
)
def test_all_else_is_left_alone(left_alone: str, avx512: bool):
    torch.manual_seed(0)
    layer, x = nn.Linear(16, 8), torch.randn(3, 16)
    dtype = {"bfloat16": torch.bfloat16, "float64": torch.float64}.get(left_alone, torch.float32)
    layer, x = layer.to(dtype), x.to(dtype)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=left_alone == "autocast")
    with torch.set_grad_enabled(left_alone == "gradient"), autocast:
        expected = layer(x)
        y, by_onednn = computed(layer, x)
    assert not by_onednn and torch.equal(y, expected) and y.requires_grad == expected.requires_grad
