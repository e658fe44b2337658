"""How often a training step makes the host wait for the device: once, to read all conditions of the batch together.

Tensors on the device ``meta`` have shapes and no values, so whatever asks for a value fails: ``item()``, ``if`` on a
tensor, a boolean mask, ``isin``, ``nonzero``, a copy to the host.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from loss_table import LOSS_TABLE

from fmicl_text import core
from fmicl_text.core.conditions import read_together
from fmicl_text.losses import ContrastiveLoss, objectives

ROWS, DIMENSIONS = 6, 4
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    variant: (name, arguments) for name, loss in LOSS_TABLE.items() for variant, arguments in loss.trained.items()
}
CASES |= {
    "default": ("fmicl", {}),
    "queue": ("infonce", {"queue": 8}),
    "ring": ("infonce", {"region": "ring", "region_outer": 0.5}),
    "head": ("infonce", {"head": "mlp"}),
}
ON_THE_HOST = {"fmicl-dv", "fmicl-measured"}
"""One shift for the batch is searched for by the host; width and balance are measured on the first batches alone."""
LOOKED_AT = {"fmicl", "fmicl-anchor", "fmicl-within", "fmicl-both"}
"""A balance that is given is compared with the data at the first batch, and then at every fiftieth."""


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch: pytest.MonkeyPatch):
    """Which meta does not have."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)


def asks_early(terms: Any) -> bool:
    """Whether a forward and backward pass asks for a value before the conditions are read at its end."""
    early = True
    with pytest.raises((RuntimeError, NotImplementedError)), read_together():
        torch.stack(list(terms().values())).sum().backward()
        early = False
    return early


@pytest.mark.parametrize("case", CASES)
def test_a_step_asks_the_device_once(case: str):
    name, settings = CASES[case]
    objective = objectives()[name](objective=name, **settings)
    loss = ContrastiveLoss(objective, encoder=torch.nn.Linear(2, DIMENSIONS), dimensions=DIMENSIONS).to("meta")
    columns = [torch.empty(ROWS, DIMENSIONS, device="meta", requires_grad=True) for _ in range(3)]
    identities = [torch.empty(ROWS, dtype=torch.long, device="meta") for _ in columns]
    keys = [torch.empty(ROWS, DIMENSIONS, device="meta")] * 2 if loss.queue is not None else None
    first, second = (asks_early(lambda: loss(columns, identities, keys)) for _ in range(2))
    assert first == (case in ON_THE_HOST | LOOKED_AT)
    assert second == (case in ON_THE_HOST)
    assert (columns[0].grad is None) == second


@pytest.mark.parametrize("negatives", ["within", "cross"])
def test_a_large_batch_of_a_mean_and_of_a_log_sum_asks_no_more(negatives: str):
    x, y = (torch.empty(300, DIMENSIONS, device="meta", requires_grad=True) for _ in range(2))
    texts = torch.empty(300, 2, dtype=torch.long, device="meta")
    with core.tile_memory(2**18):
        assert not asks_early(lambda: core.fmicl(x, y, texts=texts, alpha=2.0, negatives=negatives))
        assert not asks_early(lambda: core.ntxent(x, y, texts=texts, region=core.Region(0.5, 0.1)))
    assert x.grad is not None and y.grad is not None
