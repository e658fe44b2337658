"""The uncertainty of figures: bootstrap intervals, and the adjustment of the p values of several tests.

Correlations are Spearman's rho x 100 (points), with average ranks for ties. A bootstrap resample draws as many items
as there are, with replacement; every function takes the seed of its draws, so that its result is reproducible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

_CHUNK = 64  # resamples held in memory at once

Redrawn = Callable[[np.ndarray], np.ndarray]
"""Takes how often each of ``n`` items was drawn in ``R`` resamples, ``(R, n)``; returns the figure of each of ``K``
systems on them, ``(K, R)``, NaN where it has none."""


def spearman(gold: np.ndarray, similarity: np.ndarray) -> float:
    """Return Spearman's rho x 100 between gold scores ``(n,)`` and similarities ``(n,)``; NaN if either is constant."""
    from scipy.stats import spearmanr

    if np.ptp(gold) == 0 or np.ptp(similarity) == 0:
        return float("nan")
    return 100 * float(spearmanr(gold, similarity).statistic)


def bootstrap_interval(
    gold: np.ndarray, similarity: np.ndarray, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95% percentile interval of :func:`spearman` over resamples of the pairs.

    Args:
        gold: Gold scores, ``(n,)``.
        similarity: What the system says of the same pairs, ``(n,)``.
        resamples: How many resamples of the ``n`` pairs are drawn. Those in which one side is constant have no
            correlation and are left out.
        seed: Seed of the draws.
    """
    redrawn = redrawn_spearmans(similarity[None], gold)
    return percentile_interval(resampled(redrawn, len(gold), resamples, np.random.default_rng(seed))[0])


def mean_interval(values: np.ndarray, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Return the 95% percentile interval of the mean of ``values`` ``(n,)`` over resamples of them."""
    return percentile_interval(resampled_means(values, resamples, seed))


def resampled(redrawn: Redrawn, n: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return the figures of ``K`` systems on resamples of ``n`` items, the same for all of them: ``(K, R)``."""
    return np.concatenate([redrawn(counts) for counts in _draws(n, resamples, rng)], axis=1)


def resampled_means(values: np.ndarray, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """Return the means of resamples of ``values`` ``(n,)``: ``(R,)``."""
    draws = _draws(len(values), resamples, np.random.default_rng(seed))
    return np.concatenate([counts @ values for counts in draws]) / len(values)


def resampled_pair_means(
    values: Iterable[np.ndarray], which: np.ndarray, resamples: int = 1000, seed: int = 0
) -> list[np.ndarray]:
    """Return the means over pairs of different items, of resamples of the items: ``(R,)`` for each kind of value.

    Pairs that share an item are not independent, so it is the items that are drawn. Two draws of the same item are
    not a pair of different items, and are left out.

    Args:
        values: Kinds of values; of each one for every pair of items, ``(n, n)``.
        which: Pairs to take, ``(n, n)`` booleans, none of them on the diagonal.
        resamples: How many resamples of the ``n`` items are drawn.
        seed: Seed of the draws.
    """
    draws = _draws(len(which), resamples, np.random.default_rng(seed))
    drawn = np.concatenate(list(draws)).astype(np.float64)  # (R, n); BLAS multiplies floats only

    def sums(matrix: np.ndarray) -> np.ndarray:
        return np.sum((drawn @ matrix) * drawn, axis=1)

    pairs = sums(which.astype(np.float64))
    with np.errstate(invalid="ignore"):  # 0/0: all draws are of one item
        return [sums(matrix * which) / pairs for matrix in values]


def resampled_statistics(
    statistic: Callable[..., Sequence[float]], *values: np.ndarray, resamples: int = 1000, seed: int = 0
) -> np.ndarray:
    """Return ``K`` statistics of resamples of the items: ``(R, K)``.

    Args:
        statistic: Takes the items drawn of each of ``values`` and returns ``K`` numbers, NaN where there is none.
        values: What is known of the ``n`` items, each ``(n,)``.
        resamples: How many resamples of the ``n`` items are drawn.
        seed: Seed of the draws.
    """
    rng = np.random.default_rng(seed)
    n = len(values[0])
    draws = (rng.integers(n, size=n) for _ in range(resamples))
    return np.array([statistic(*(value[drawn] for value in values)) for drawn in draws])


def percentile_interval(resampled: np.ndarray) -> tuple[float, float]:
    """Return the middle 95% of a resampled statistic ``(R,)``; resamples without a value (NaN) are left out."""
    low, high = np.nanpercentile(resampled, (2.5, 97.5))
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p values of several tests, so that at 0.05 the chance of one false alarm among all is 5% at most.

    Holm's step-down procedure (Scand. J. Statist. 6, 1979); the tests may depend on each other.
    """
    adjusted = [0.0] * len(p_values)
    floor = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = floor
    return adjusted


def _draws(n: int, resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield, in chunks of rows, how often each of ``n`` items is in each resample: ``(<= _CHUNK, n)``."""
    for start in range(0, resamples, _CHUNK):
        rows = min(_CHUNK, resamples - start)
        drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)


def redrawn_means(values: np.ndarray, gold: None = None) -> Redrawn:
    """Return 100 times the mean of each row of ``values`` ``(K, n)``, as a function of the draws."""
    return lambda counts: 100 * (values @ counts.T) / values.shape[1]


def redrawn_spearmans(values: np.ndarray, gold: np.ndarray) -> Redrawn:
    """Return Spearman's rho x 100 of each row of ``values`` ``(K, n)`` with ``gold`` ``(n,)``, as a function of draws.

    Nothing is sorted per resample: the order of the distinct values is always the same, only how often each was
    drawn changes, and the ranks follow from that.
    """
    groups = [np.unique(row, return_inverse=True)[1] for row in (gold, *values)]

    def redrawn(counts: np.ndarray) -> np.ndarray:
        centred_gold, *centred = (_centred_ranks(group, counts) for group in groups)
        weighted = counts * centred_gold
        variance = (weighted * centred_gold).sum(axis=1)
        covariances = np.stack([(weighted * ranks).sum(axis=1) for ranks in centred])
        variances = np.stack([(counts * ranks * ranks).sum(axis=1) for ranks in centred])
        with np.errstate(invalid="ignore"):  # 0/0: a side is constant in this resample
            return 100 * covariances / np.sqrt(variance * variances)

    return redrawn


def redrawn_average_precisions(values: np.ndarray, gold: np.ndarray) -> Redrawn:
    """Return the average precision x 100 of each row of ``values`` ``(K, n)``, as a function of the draws.

    As scikit-learn's: items of the same value are found together. ``gold`` ``(n,)`` is 1 for what is to be found.
    """
    falling = [_falling(row) for row in values]

    def redrawn(counts: np.ndarray) -> np.ndarray:
        return np.stack([100 * _average_precision(*_found(*row, gold, counts)) for row in falling])

    return redrawn


def redrawn_detections(values: np.ndarray, gold: np.ndarray) -> Redrawn:
    """Return how well ``values`` ``(n,)`` tell items with a ``gold`` ``(n,)`` of 1 from those of 0, as of the draws.

    Returns:
        A function of the draws, with four rows: area under the ROC curve, average precision, the best F1, all x 100;
        and the lowest value that must count as 1 to reach that F1, the highest such threshold if there are several.
        NaN in a resample that lacks one of the labels.
    """
    order, starts = _falling(values)
    levels = values[order][starts].astype(np.float64)  # the distinct values, (G,)

    def redrawn(counts: np.ndarray) -> np.ndarray:
        drawn, right = _found(order, starts, gold, counts)
        wrong = drawn - right
        all_right, all_wrong = right.sum(axis=1), wrong.sum(axis=1)
        below = all_wrong[:, None] - np.cumsum(wrong, axis=1) + wrong / 2  # 0s of a lower value, and half of an equal
        with np.errstate(invalid="ignore"):  # 0/0: no label 1, or no label 0
            f1 = 2 * np.cumsum(right, axis=1) / (all_right[:, None] + np.cumsum(drawn, axis=1))  # 2 P R / (P + R)
            auc = (right * below).sum(axis=1) / (all_right * all_wrong)
        figures = np.stack(
            [100 * auc, 100 * _average_precision(drawn, right), 100 * f1.max(axis=1), levels[f1.argmax(axis=1)]]
        )
        return np.where((all_right > 0) & (all_wrong > 0), figures, np.nan)

    return redrawn


def _falling(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of ``values`` ``(n,)``, highest first, and where each of the ``G`` distinct ones begins."""
    order = np.argsort(-values, kind="stable")
    return order, np.flatnonzero(np.diff(-values[order], prepend=-np.inf))


def _found(
    order: np.ndarray, starts: np.ndarray, gold: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many items of each distinct value were drawn, and how many of them are right: two ``(R, G)``."""
    drawn = np.add.reduceat(counts[:, order], starts, axis=1)
    return drawn, np.add.reduceat(counts[:, order] * gold[order], starts, axis=1)


def _average_precision(drawn: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the average precision of each resample, ``(R,)``, of what :func:`_found` returns."""
    with np.errstate(invalid="ignore"):  # 0/0: nothing drawn so far, or no label 1 in this resample
        precision = np.cumsum(right, axis=1) / np.cumsum(drawn, axis=1)
        return np.nansum(right * precision, axis=1) / right.sum(axis=1)


def _centred_ranks(group: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Average rank, less the mean rank, that each item has in each resample: ``(R, n)``.

    Args:
        group: For each item, the place of its value among the distinct values in rising order, ``(n,)``.
        counts: How often each item was drawn, ``(R, n)``.
    """
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    drawn = np.add.reduceat(counts[:, order], starts, axis=1)  # of each distinct value, (R, G)
    ranks = np.cumsum(drawn, axis=1) - (drawn - 1) / 2
    return ranks[:, group] - (len(group) + 1) / 2
