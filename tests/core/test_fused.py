"""What is compiled on CUDA is what it is elsewhere: traced here by PyTorch's compiler, and run on the CPU."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fmicl_text import core
from fmicl_text.core import fused as module
from fmicl_text.core.fused import fused

OBJECTIVES: dict[str, Callable[..., dict[str, Tensor]]] = {
    "row": functools.partial(core.fmicl, divergence=core.JS, shift="row", negatives="both"),
    "row with an end": functools.partial(core.fmicl, divergence=core.DIVERGENCES["pearson"], shift="row"),
}
GRAPHS: list[Any] = []
"""What has been compiled."""


def _as_it_is(graph: Any, inputs: Any) -> Any:
    """Compile nothing: code generation takes a minute."""
    GRAPHS.append(graph)
    return graph.forward


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let everything be compiled that would be on CUDA."""
    torch.compiler.reset()
    GRAPHS.clear()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=_as_it_is, fullgraph=True))
    monkeypatch.setattr(module, "can_fuse", lambda device: True)
    monkeypatch.setattr(module, "WORTH", 0)
    monkeypatch.setattr(module, "_failed", False)
    yield
    torch.compiler.reset()


def value_and_gradients(
    objective: Callable[..., dict[str, Tensor]], kind: str, bytes_: int, noise: float = 0.3
) -> list[Tensor]:
    torch.manual_seed(0)
    x = normalize(torch.randn(40, 8), dim=1).requires_grad_()
    y = normalize(x.detach() + noise * torch.randn(40, 8), dim=1).requires_grad_()
    texts = torch.arange(40).clamp(min=1)[:, None]  # two rows share one
    kernel = core.GaussianKernel("adaptive" if kind == "adaptive" else 0.4, learn=kind == "learned")
    with core.tile_memory(bytes_):
        loss = torch.stack(list(objective(x, y, texts=texts, kernel=kernel).values())).sum()
        loss.backward()
    return [loss.detach(), x.grad, y.grad, *(each.grad for each in kernel.parameters())]  # type: ignore[list-item]


@pytest.mark.parametrize(("name", "kind"), [("row", "learned"), ("row", "adaptive"), ("row with an end", "fixed")])
def test_tiles_that_are_compiled(name: str, kind: str, traced: None, monkeypatch: pytest.MonkeyPatch):
    few = 32 * 15 * 15
    found = value_and_gradients(OBJECTIVES[name], kind, few)
    graphs = len(GRAPHS)
    value_and_gradients(OBJECTIVES[name], kind, few, noise=1.0)
    assert len(GRAPHS) == graphs  # another batch, with a width of its own, compiles nothing
    assert GRAPHS and not module._failed
    monkeypatch.setattr(module, "can_fuse", lambda device: False)
    for mine, plain in zip(found, value_and_gradients(OBJECTIVES[name], kind, few), strict=True):
        torch.testing.assert_close(mine, plain, rtol=2e-5, atol=1e-7)


def test_the_search_in_one_matrix(traced: None, monkeypatch: pytest.MonkeyPatch):
    found = value_and_gradients(OBJECTIVES["row"], "fixed", 2**23)
    assert GRAPHS and not module._failed
    monkeypatch.setattr(module, "can_fuse", lambda device: False)
    for mine, right in zip(found, value_and_gradients(OBJECTIVES["row"], "fixed", 2**23), strict=True):
        torch.testing.assert_close(mine, right, rtol=2e-5, atol=1e-7)


def test_what_cannot_be_compiled_runs_as_it_is_written(
    traced: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(chain: Any, **settings: Any) -> Any:
        def raises(*args: Any) -> Any:
            raise RuntimeError("no C compiler")

        return raises

    monkeypatch.setattr(torch, "compile", fail)
    twice = fused(lambda values: 2 * values)
    assert twice(torch.ones(())) == 2
    assert "torch.compile failed" in caplog.text and "no C compiler" in caplog.text
    assert module._failed

    def refuses(values: Tensor) -> Tensor:
        raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        fused(refuses)(torch.ones(()))


def test_a_function_is_compiled_when_it_has_been_called_often(traced: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "WORTH", 3)
    twice = fused(lambda values: 2 * values)
    for _ in range(3):
        twice(torch.ones(()))
    assert not GRAPHS
    assert twice(torch.ones(())) == 2
    assert len(GRAPHS) == 1


def test_nothing_is_compiled_on_a_cpu():
    assert not module.can_fuse(torch.device("cpu"))
