"""A paired test of two systems on the same items, with seeds as repeated measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fmicl_text.errors import InputError
from fmicl_text.evaluation.items import Parts, resampled_scores, score
from fmicl_text.evaluation.statistics import percentile_interval


@dataclass(frozen=True)
class PairedTest:
    """The result of :func:`paired_test`.

    Attributes:
        difference: Average of ``a`` over the tasks less that of ``b``, in points (x 100), averaged over the seeds.
        ci95: 95% interval of the difference.
        p_value: Two-sided.
    """

    difference: float
    ci95: tuple[float, float]
    p_value: float


def paired_test(
    a: Mapping[str, Sequence[Parts]],
    b: Mapping[str, Sequence[Parts]],
    resamples: int = 1000,
    seed: int = 0,
) -> PairedTest:
    """Test whether the averages over tasks of systems ``a`` and ``b`` differ, on the same items, over ``S`` seeds.

    Paired bootstrap (Efron & Tibshirani 1993, chapter 13; for comparing two systems on one test set: Koehn 2004).
    A resample draws the items of each task with replacement, the same for both systems and all their seeds, and the
    seeds with replacement, seed ``s`` of ``a`` together with seed ``s`` of ``b``: an observed difference must hold on
    other items and with other seeds. Its statistic ``d`` is the difference of the averages over tasks, averaged over
    the seeds drawn. The interval holds the middle 95% of the ``d``. The p value is twice the smaller of the shares of
    resamples with ``d <= 0`` and with ``d >= 0`` (one added to each count, so it is never 0): the level at which the
    percentile interval would just touch 0.

    Two things to know. Drawing both items and seeds counts the noise of a single item in a single run twice, so the
    test is cautious (Owen 2007 on bootstrapping crossed effects). But few seeds understate how much seeds differ: with
    ``S`` of them the bootstrap sees ``(S - 1)/S`` of their variance.

    Args:
        a: Task -> the items of one system, once for each of ``S`` seeds.
        b: The same of the other system, with as many seeds.
        resamples: How many resamples are drawn.
        seed: Seed of the draws.

    Raises:
        InputError: The tasks, seeds or items do not match.
    """
    _check_match(a, b)
    rng = np.random.default_rng(seed)
    differences, observed = [], []  # of each task: (S, R) and (S,)
    for task, ours in a.items():
        scores = resampled_scores([*ours, *b[task]], resamples, rng)
        differences.append(scores[: len(ours)] - scores[len(ours) :])
        observed.append([score(x) - score(y) for x, y in zip(ours, b[task], strict=True)])
    by_seed = np.mean(differences, axis=0)  # (S, R)
    drawn = rng.integers(len(by_seed), size=by_seed.shape)
    resampled = np.take_along_axis(by_seed, drawn, axis=0).mean(axis=0)  # (R,)
    sides = np.sum(resampled <= 0), np.sum(resampled >= 0)
    return PairedTest(
        difference=float(np.mean(observed)),
        ci95=percentile_interval(resampled),
        p_value=min(1.0, 2 * (float(min(sides)) + 1) / (resamples + 1)),
    )


def same_items(seeds: Sequence[Parts]) -> bool:
    """Whether all of these were scored on the same items."""
    first = seeds[0]
    return all(
        len(parts) == len(first) and all(x.same(y) for x, y in zip(first, parts, strict=True)) for parts in seeds
    )


def _check_match(a: Mapping[str, Sequence[Parts]], b: Mapping[str, Sequence[Parts]]) -> None:
    if not a or a.keys() != b.keys():
        raise InputError(f"the tasks differ: a has {sorted(a)}, b has {sorted(b)}")
    counts = {len(seeds) for system in (a, b) for seeds in system.values()}
    if len(counts) > 1:
        raise InputError(f"the numbers of seeds differ: {', '.join(map(str, sorted(counts)))}")
    differing = [task for task in a if not same_items([*a[task], *b[task]])]
    problems = [f"{task}: the systems were scored on different items" for task in differing]
    if problems:
        raise InputError(problems)
