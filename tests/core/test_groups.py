"""Groups, a label or a document, as one more identity: their rows are never each other's negatives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from fmicl_text.core import (
    DIVERGENCES,
    NEGATIVES,
    CosineKernel,
    Region,
    as_batch,
    dcl,
    fmicl,
    hcl,
    infonce,
    ntxent,
    tile_memory,
)
from fmicl_text.core.reduce import row_log_sum_exp

GROUP_IDS = st.integers(0, 3)


def unit(rows: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(rows, 6, generator=generator, dtype=torch.float64), dim=1)


def grouped(groups: list[int], extra_groups: list[int], extra_columns: int) -> dict[str, Tensor]:
    """Two texts a pair and one or two an explicit negative, all different; groups are numbered from 1000."""
    pairs = torch.arange(2 * len(groups)).reshape(-1, 2)
    extras = torch.arange(extra_columns * len(extra_groups)).reshape(-1, extra_columns) + 500
    return {
        "texts": torch.cat([pairs, torch.tensor(groups).unsqueeze(1) + 1000], dim=1),
        "extra_texts": torch.cat([extras, torch.tensor(extra_groups).unsqueeze(1) + 1000], dim=1),
    }


@given(
    groups=st.lists(GROUP_IDS, min_size=2, max_size=7),
    extra_groups=st.lists(GROUP_IDS, min_size=1, max_size=5),
    extra_columns=st.integers(1, 2),
)
@settings(max_examples=40)
def test_only_rows_of_other_groups_push(groups: list[int], extra_groups: list[int], extra_columns: int):
    """The explicit negatives may be a queue's: rows of their own, with their own number of texts."""
    x, y, extra = unit(len(groups), 0), unit(len(groups), 1), unit(len(extra_groups), 2)
    ids = grouped(groups, extra_groups, extra_columns)
    kernel = CosineKernel(0.3)
    terms = infonce(x, y, extra, kernel=kernel, **ids)
    rows = []
    for i, group in enumerate(groups):
        own = kernel(x[i] @ y[i])
        others = [kernel(x[i] @ y[j]) for j, other in enumerate(groups) if other != group]
        others += [kernel(x[i] @ extra[k]) for k, other in enumerate(extra_groups) if other != group]
        rows.append(torch.stack([own, *others]).logsumexp(dim=0) - own)
    torch.testing.assert_close(sum(terms.values()), torch.stack(rows).mean())


@pytest.mark.parametrize("tiled", [False, True], ids=["dense", "tiled"])
@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("shift", ["none", "batch", "row"])
def test_a_group_of_ones_own_changes_nothing(shift: str, negatives: str, tiled: bool):
    x, y, extra = unit(6, 0), unit(6, 1), unit(4, 2)
    given = {"divergence": DIVERGENCES["js"], "kernel": CosineKernel(0.3), "negatives": negatives, "shift": shift}
    ids = grouped(list(range(6)), list(range(6, 10)), 1)
    with tile_memory(8 * 8 * 10 if tiled else 2**23):
        alone = fmicl(x, y, extra, **given, **ids)
        torch.testing.assert_close(alone, fmicl(x, y, extra, **given))
        one = fmicl(x, y, extra, **given, **grouped([0] * 6, [0] * 4, 1))
    assert one["negative"] == 0 if shift != "row" else abs(sum(one.values())) < 1e-12


@pytest.mark.parametrize("objective", [infonce, ntxent, dcl, hcl, fmicl])
def test_a_group_pulls_nobody_apart(objective):
    """Rows of one group feel the explicit negative of another, and none of each other."""
    x, y = (v.requires_grad_() for v in (unit(6, 0), unit(6, 1)))
    extra, ids = unit(1, 2), grouped([0] * 6, [1], 1)
    terms = objective(x, y, extra, **ids)
    (slope,) = torch.autograd.grad(terms["negative"], x, retain_graph=True)
    moved = y.detach().clone()
    moved[:5] = unit(5, 9)  # of row 0's own group, its own positive apart
    moved[0] = y[0].detach()
    (again,) = torch.autograd.grad(objective(x, moved, extra, **ids)["negative"], x)
    torch.testing.assert_close(again[0], slope[0])


@pytest.mark.parametrize("negatives", ["within", "cross"])
def test_a_region_is_of_the_candidates_of_other_groups(negatives: str):
    x, y = unit(10, 0), unit(10, 1)
    groups = [0] * 5 + [1] * 3 + [2] * 2
    batch = as_batch(x, y, texts=grouped(groups, [], 1)["texts"], region=Region(0.5))
    counts = row_log_sum_exp(batch.negatives(negatives), CosineKernel(0.3)).pairs.tolist()
    assert counts == [max(1, (10 - groups.count(group)) // 2) for group in groups]
