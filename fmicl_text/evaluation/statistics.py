"""How sure a figure is: bootstrap intervals of one system, a paired test between two.

Correlations are Spearman's rho x 100 (points), with average ranks for ties. A bootstrap resample draws as many items
as there are, with replacement; every function takes the seed of its draws, so its answer repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fmicl_text.errors import InputError

_CHUNK = 64  # resamples held in memory at once


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
        seed: Of the draws.
    """
    return percentile_interval(_resampled_spearman(gold, similarity[None], resamples, np.random.default_rng(seed))[0])


def mean_interval(values: np.ndarray, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Return the 95% percentile interval of the mean of ``values`` ``(n,)`` over resamples of them."""
    return percentile_interval(resampled_means(values, resamples, seed))


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
        seed: Of the draws.
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
        seed: Of the draws.
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


@dataclass(frozen=True)
class PairedTest:
    """What :func:`paired_test` found.

    Attributes:
        difference: Suite average of ``a`` less that of ``b``, in points of Spearman x 100, averaged over the seeds.
        ci95: 95% interval of the difference.
        p_value: Two-sided.
    """

    difference: float
    ci95: tuple[float, float]
    p_value: float


def paired_test(
    gold: Mapping[str, np.ndarray],
    a: Mapping[str, np.ndarray],
    b: Mapping[str, np.ndarray],
    resamples: int = 1000,
    seed: int = 0,
) -> PairedTest:
    """Test whether system ``a`` has another suite average than system ``b`` on the same pairs, over ``S`` seeds each.

    Paired bootstrap (Efron & Tibshirani 1993, chapter 13; for comparing two systems on one test set: Koehn 2004).
    A resample draws the pairs of each task with replacement, the same for both systems and all their seeds, and the
    seeds with replacement, seed ``s`` of ``a`` together with seed ``s`` of ``b``: an observed difference must hold on
    other sentences and with other seeds. Its statistic ``d`` is the difference of the suite averages (mean over tasks
    of Spearman x 100), averaged over the seeds drawn. The interval holds the middle 95% of the ``d``. The p value is
    twice the smaller of the shares of resamples with ``d <= 0`` and with ``d >= 0`` (one added to each count, so it
    is never 0): the level at which the percentile interval would just touch 0.

    Two things to know. Drawing both pairs and seeds counts the noise of a single pair in a single run twice, so the
    test is cautious (Owen 2007 on bootstrapping crossed effects). But few seeds understate how much seeds differ: with
    ``S`` of them the bootstrap sees ``(S - 1)/S`` of their variance.

    Args:
        gold: Task -> gold scores, ``(n,)``.
        a: Task -> similarities of one system, ``(S, n)``: a row a seed.
        b: The same of the other system, with as many seeds.
        resamples: How many resamples are drawn.
        seed: Of the draws.

    Raises:
        InputError: The tasks or the shapes do not match.
    """
    _check_match(gold, a, b)
    rng = np.random.default_rng(seed)
    differences, observed = [], []  # of each task: (S, R) and (S,)
    for task, scores in gold.items():
        seeds = len(a[task])
        rho = _resampled_spearman(scores, np.concatenate([a[task], b[task]]), resamples, rng)
        differences.append(rho[:seeds] - rho[seeds:])
        observed.append([spearman(scores, x) - spearman(scores, y) for x, y in zip(a[task], b[task], strict=True)])
    by_seed = np.mean(differences, axis=0)  # (S, R)
    drawn = rng.integers(len(by_seed), size=by_seed.shape)
    resampled = np.take_along_axis(by_seed, drawn, axis=0).mean(axis=0)  # (R,)
    sides = np.sum(resampled <= 0), np.sum(resampled >= 0)
    return PairedTest(
        difference=float(np.mean(observed)),
        ci95=percentile_interval(resampled),
        p_value=min(1.0, 2 * (float(min(sides)) + 1) / (resamples + 1)),
    )


def _check_match(gold: Mapping[str, np.ndarray], a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> None:
    if not gold or not gold.keys() == a.keys() == b.keys():
        raise InputError(f"the tasks differ: gold has {sorted(gold)}, a has {sorted(a)}, b has {sorted(b)}")
    seeds = len(next(iter(a.values())))
    problems = [
        f"{task}: {name} is of shape {system[task].shape}, must be {(seeds, len(scores))}: (seeds, pairs)"
        for task, scores in gold.items()
        for name, system in (("a", a), ("b", b))
        if system[task].shape != (seeds, len(scores))
    ]
    if problems:
        raise InputError(problems)


def _draws(n: int, resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield, in chunks of rows, how often each of ``n`` items is in each resample: ``(<= _CHUNK, n)``."""
    for start in range(0, resamples, _CHUNK):
        rows = min(_CHUNK, resamples - start)
        drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)


def _resampled_spearman(
    gold: np.ndarray, similarities: np.ndarray, resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """Spearman x 100 of ``similarities`` ``(K, n)`` on resamples of the pairs, the same for all rows: ``(K, R)``.

    Nothing is sorted per resample: the order of the distinct values is always the same, only how often each was
    drawn changes, and the ranks follow from that.
    """
    groups = [np.unique(values, return_inverse=True)[1] for values in (gold, *similarities)]
    chunks = []
    for counts in _draws(len(gold), resamples, rng):
        centred_gold, *centred = (_centred_ranks(group, counts) for group in groups)
        weighted = counts * centred_gold
        variance = (weighted * centred_gold).sum(axis=1)
        covariances = np.stack([(weighted * ranks).sum(axis=1) for ranks in centred])
        variances = np.stack([(counts * ranks * ranks).sum(axis=1) for ranks in centred])
        with np.errstate(invalid="ignore"):  # 0/0: a side is constant in this resample
            chunks.append(100 * covariances / np.sqrt(variance * variances))
    return np.concatenate(chunks, axis=1)


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
