"""Training data that can be read but will not train well."""

from __future__ import annotations

import hashlib

from datasets import Dataset

_READ_AT_ONCE = 10_000  # rows


def data_warnings(rows: Dataset, batch: int) -> list[str]:
    """Return a sentence for each thing in the rows that makes them train badly.

    Args:
        rows: The training rows, with the roles of the columns as names.
        batch: Rows of a batch, over all processes.
    """
    found = []
    if len(rows) < batch:
        found.append(
            f"the {len(rows):,} training rows are fewer than a batch of {batch:,}: each step has fewer negatives than "
            "it could have"
        )
    same = first = repeated = 0
    seen: set[bytes] = set()
    for start, columns in enumerate(rows.iter(_READ_AT_ONCE)):
        for row in zip(*columns.values(), strict=True):
            digest = hashlib.blake2b(repr(row).encode("utf-8", "surrogatepass"), digest_size=8).digest()
            repeated += digest in seen
            seen.add(digest)
        anchors, positives = columns.get("anchor", []), columns.get("positive", [])
        for place, (anchor, positive) in enumerate(zip(anchors, positives, strict=False)):
            if anchor == positive:
                first = first or start * _READ_AT_ONCE + place + 1
                same += 1
    if same:
        found.append(
            f"{same:,} training rows have an anchor equal to its positive (the first is row {first:,}): "
            "they teach nothing"
        )
    if repeated:
        found.append(
            f"{repeated:,} of {len(rows):,} training rows repeat an earlier row: they are seen more often than others"
        )
    return found
