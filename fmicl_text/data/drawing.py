"""From which of several sources the next batch is drawn, where they have weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def by_weight(weights: Sequence[float]) -> Iterator[int]:
    """Yield the number of the source of each batch, without end.

    The next batch is of the source that lags most behind its share, so that any stretch of a training has the sources
    in their proportions; equal weights draw in turn. Nothing is random: the n-th batch is of the same source in every
    process, and in a training that is resumed.

    Args:
        weights: Of the sources, above 0.
    """
    total = sum(weights)
    drawn = [0] * len(weights)
    batches = 0
    while True:
        batches += 1
        behind = [weight / total * batches - count for weight, count in zip(weights, drawn, strict=True)]
        source = behind.index(max(behind))
        drawn[source] += 1
        yield source
