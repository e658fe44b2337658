"""How the matrix of pairs is cut: each pair is in one tile, and no side ends in a single row or column."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from fmicl_text.core.pairs import Block, Rows
from fmicl_text.core.tiles import tile_area, tile_memory, tiles


def rows(count: int) -> Rows:
    """Return so many different unit vectors, each of a text of its own."""
    vectors = torch.nn.functional.normalize(torch.randn(count, 4), dim=1)
    return Rows(vectors, torch.arange(count)[:, None])


@given(high=st.integers(1, 40), wide=st.integers(1, 40), area=st.integers(1, 300), within=st.booleans())
def test_each_pair_is_in_one_tile_of_at_most_the_area(high: int, wide: int, area: int, within: bool):
    one = rows(high)
    block = Block(one, one if within else rows(wide), None, None)
    visits = torch.zeros(high, high if within else wide)
    with tile_memory(32 * area):
        assert tile_area(one.vectors) == area
        for tile in tiles(block, block.columns):
            visits[tile.i, tile.j] += 1 if tile.out is None or not within else (~tile.out).float()
            assert tile.cosines.numel() <= area
    assert torch.equal(visits, torch.ones_like(visits).triu(1) if within else torch.ones_like(visits))


@given(count=st.integers(3, 600), side=st.integers(200, 300))
def test_tiles_are_nearly_of_one_size(count: int, side: int):
    """torch.compile makes another function for a size of 1, and at some number of functions it compiles no more."""
    block = Block(rows(count), rows(count + 1), None, None)
    with tile_memory(32 * side**2):
        found = [tile.cosines.shape for tile in tiles(block, block.columns)]
    for lengths in zip(*found, strict=True):
        assert min(lengths) > 1 and max(lengths) - min(lengths) <= len(found)
