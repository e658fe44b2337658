"""Holding out a share of the training pairs: the same ones on every machine and for every order of the rows."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from fmicl_text.data.groups import identity
from fmicl_text.errors import InputError
from fmicl_text.losses.columns import GROUP

if TYPE_CHECKING:
    from datasets import Dataset

logger = logging.getLogger(__name__)


class Split(NamedTuple):
    """Rows to train on, and rows held out."""

    train: Dataset
    heldout: Dataset


def hold_out(rows: Dataset, share: float, by_group: bool, source: str) -> Split:
    """Hold out the rows whose key has a hash in the lowest ``share`` of all hashes.

    The key is the anchor's text, or the group, so that copies of an anchor or whole groups stay together; how many
    rows are held out is only close to the share. The other rows are trained on, except those that share the anchor, or
    both texts in either order, with a held-out row.

    Args:
        rows: Columns ``anchor``, perhaps ``positive``, and ``group`` if that is the key.
        share: Between 0 and 1.
        by_group: Whether the key is the group.
        source: Name of the data in messages.

    Raises:
        InputError: If one of the parts would have fewer than two rows.
    """
    anchors = rows["anchor"][:]
    positives = rows["positive"][:] if "positive" in rows.column_names else anchors
    keys = rows[GROUP][:] if by_group else [identity(anchor) for anchor in anchors]
    limit = round(share * 2**64) - 2**63  # identities are signed
    held = [key < limit for key in keys]
    pairs = list(zip(anchors, positives, strict=True))
    unseen_pairs = {pair for pair, out in zip(pairs, held, strict=True) if out}
    unseen_anchors = {anchor for anchor, _ in unseen_pairs}
    leaks = [
        not out and (pair[0] in unseen_anchors or pair[::-1] in unseen_pairs)
        for pair, out in zip(pairs, held, strict=True)
    ]
    train = [i for i, (out, leak) in enumerate(zip(held, leaks, strict=True)) if not out and not leak]
    heldout = [i for i, out in enumerate(held) if out]
    if min(len(train), len(heldout)) < 2:
        what = "groups" if by_group else "anchors"
        raise InputError(
            f"{source}: data.heldout {share:g} of {len(rows):,} rows ({len(set(keys)):,} {what}) leaves {len(train):,} "
            f"to train on and {len(heldout):,} held out; each part needs two: take another share, or name a file"
        )
    if any(leaks):
        logger.warning(
            "%s: %s rows are not trained on, since they have the anchor or both texts of a held-out row",
            source,
            f"{sum(leaks):,}",
        )
    return Split(rows.select(train), rows.select(heldout))
