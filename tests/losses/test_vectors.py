"""Unit vectors and their gradients against torch's in float64, for rows of any length, in little memory."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn.functional import normalize

from fmicl_text.losses.vectors import unit_vectors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unit_vectors_and_gradients_are_those_of_torch_in_float64(dtype: torch.dtype):
    torch.manual_seed(0)
    rows = torch.randn(2500, 7, dtype=dtype) * torch.logspace(-20, 20, 2500, dtype=dtype)[:, None]
    rows[9] = 0
    given, exact = rows.clone().requires_grad_(), rows.double().requires_grad_()
    weights = torch.randn(2500, 7)
    unit, expected = unit_vectors(given, None), normalize(exact, dim=1, eps=1e-300)
    torch.testing.assert_close(unit, expected.to(dtype))
    (unit * weights).sum().backward()
    (expected * weights).sum().backward()
    assert unit[9].count_nonzero() == given.grad[9].count_nonzero() == 0
    lengths = exact.detach().norm(dim=1, keepdim=True)
    others = [row for row in range(2500) if row != 9]
    slopes, expected_slopes = (slope[others] * lengths[others] for slope in (given.grad.double(), exact.grad))
    torch.testing.assert_close(slopes, expected_slopes, atol=1e-6, rtol=1e-5)


def test_only_the_result_and_its_gradient_are_as_large_as_the_embeddings():
    embeddings = torch.randn(8192, 64, requires_grad=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        unit_vectors(embeddings, None).sum().backward()
    taken = [event.nbytes() for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    # The unit vectors and the gradient of the embeddings, and rows at a time; the sum's gradient is a number, expanded.
    assert max(itertools.accumulate(taken)) < 2.4 * embeddings.nbytes
