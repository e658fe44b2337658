import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from fmicl_text.errors import InputError
from fmicl_text.evaluation.statistics import (
    bootstrap_interval,
    holm,
    mean_interval,
    paired_test,
    resampled_pair_means,
    spearman,
)

SUITE = {
    "STS12": 3108,
    "STS13": 1500,
    "STS14": 3750,
    "STS15": 3000,
    "STS16": 1186,
    "STSBenchmark": 1379,
    "SICK-R": 4927,
}


def pairs(rng, n, noise):
    """Gold scores with many ties, as people give them, and similarities with a few."""
    gold = rng.integers(0, 26, n) / 5
    return gold, np.round(gold + rng.normal(scale=noise, size=n), 2)


def test_spearman_is_scipys_times_100():
    gold, similarity = pairs(np.random.default_rng(1), 500, noise=2.0)
    assert spearman(gold, similarity) == pytest.approx(100 * spearmanr(gold, similarity).statistic, abs=1e-9)
    assert np.isnan(spearman(gold, np.ones(500)))


@pytest.mark.parametrize("n", [20, 301])
def test_bootstrap_interval_is_that_of_a_loop_over_scipy(n):
    gold, similarity = pairs(np.random.default_rng(2), n, noise=2.0)
    draws = np.random.default_rng(7).integers(n, size=(200, n))
    slow = [100 * spearmanr(gold[draw], similarity[draw]).statistic for draw in draws]
    assert bootstrap_interval(gold, similarity, resamples=200, seed=7) == pytest.approx(
        tuple(np.percentile(slow, [2.5, 97.5])), abs=1e-9
    )


def test_bootstrap_interval_agrees_with_theory():
    rng = np.random.default_rng(3)
    x = rng.normal(size=4000)
    y = 0.6 * x + 0.8 * rng.normal(size=4000)
    rho = spearman(x, y) / 100
    width = 1.96 * np.sqrt((1 + rho**2 / 2) / (4000 - 3))  # Fisher's z, with the variance of Bonett and Wright (2000)
    expected = 100 * np.tanh(np.arctanh(rho) + np.array([-width, width]))
    assert bootstrap_interval(x, y) == pytest.approx(tuple(expected), abs=0.4)


def test_a_resample_without_a_correlation_is_left_out():
    low, high = bootstrap_interval(np.array([0.0, 1.0]), np.array([0.2, 0.9]))
    assert (low, high) == pytest.approx((100, 100))


def test_the_seed_decides_the_draws():
    gold, similarity = pairs(np.random.default_rng(4), 100, noise=2.0)
    assert bootstrap_interval(gold, similarity, seed=1) == bootstrap_interval(gold, similarity, seed=1)
    assert bootstrap_interval(gold, similarity, seed=1) != bootstrap_interval(gold, similarity, seed=2)


def test_the_intervals_of_a_suite_take_seconds():
    rng = np.random.default_rng(5)
    suite = [pairs(rng, n, noise=2.0) for n in SUITE.values()]
    start = time.process_time()
    for gold, similarity in suite:
        bootstrap_interval(gold, similarity)
    assert time.process_time() - start < 5


def test_mean_interval_is_that_of_a_loop():
    values = np.random.default_rng(6).uniform(size=150)
    draws = np.random.default_rng(8).integers(150, size=(300, 150))
    expected = np.percentile([values[draw].mean() for draw in draws], [2.5, 97.5])
    assert mean_interval(values, resamples=300, seed=8) == pytest.approx(tuple(expected), abs=1e-12)


def test_resampled_pair_means_are_those_of_a_loop():
    rng = np.random.default_rng(10)
    n, resamples = 12, 40
    values, which = rng.normal(size=(n, n)), rng.random((n, n)) < 0.8
    which &= which.T & ~np.eye(n, dtype=bool)
    draws = np.random.default_rng(11).integers(n, size=(resamples, n))
    slow = []
    for draw in draws:
        taken = [
            (i, j) for place, i in enumerate(draw) for other, j in enumerate(draw) if place != other and which[i, j]
        ]
        slow.append(np.mean([values[pair] for pair in taken]))
    found, twice = resampled_pair_means([values, 2 * values], which, resamples=resamples, seed=11)
    assert found == pytest.approx(np.array(slow), abs=1e-12)
    assert twice == pytest.approx(2 * found)


def test_the_interval_of_a_pair_mean_covers_the_truth():
    """Of (a - b)^2 over pairs of standard normal numbers, whose mean is 2."""
    covered = 0
    for seed in range(100):
        x = np.random.default_rng(seed).normal(size=100)
        (resampled,) = resampled_pair_means([(x[:, None] - x) ** 2], ~np.eye(100, dtype=bool), resamples=300)
        low, high = np.percentile(resampled, [2.5, 97.5])
        covered += low < 2 < high
    assert 85 <= covered <= 99  # drawing pairs as if they were independent covers fewer than 20


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=8))
def test_holm_is_at_least_the_p_value_and_at_most_bonferronis(p_values):
    for p, adjusted in zip(p_values, holm(p_values), strict=True):
        assert p <= adjusted <= min(1.0, len(p_values) * p)


def systems(noise_a, noise_b, tasks=(400, 300), seeds=3, seed=0):
    """Gold scores of some tasks, and two systems that see them through noise of their own in each seed."""
    rng = np.random.default_rng(seed)
    gold = {f"task {n}": rng.integers(0, 26, n) / 5 for n in tasks}
    shared = {task: rng.normal(size=len(scores)) for task, scores in gold.items()}

    def system(noise):
        return {
            task: scores + shared[task] + rng.normal(scale=noise, size=(seeds, len(scores)))
            for task, scores in gold.items()
        }

    return gold, system(noise_a), system(noise_b)


def test_paired_test_is_that_of_a_loop_over_scipy():
    gold, a, b = systems(1.0, 1.1, tasks=(40, 60), seeds=2)
    resamples = 50
    rng = np.random.default_rng(9)
    draws = {task: rng.integers(len(scores), size=(resamples, len(scores))) for task, scores in gold.items()}
    seeds = rng.integers(2, size=(2, resamples))
    slow = []
    for r in range(resamples):
        by_seed = [
            np.mean(
                [
                    spearmanr(gold[task][draw[r]], a[task][s][draw[r]]).statistic
                    - spearmanr(gold[task][draw[r]], b[task][s][draw[r]]).statistic
                    for task, draw in draws.items()
                ]
            )
            for s in range(2)
        ]
        slow.append(100 * np.mean([by_seed[s] for s in seeds[:, r]]))
    found = paired_test(gold, a, b, resamples=resamples, seed=9)
    assert found.ci95 == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])), abs=1e-9)
    below, above = sum(d <= 0 for d in slow), sum(d >= 0 for d in slow)
    assert found.p_value == pytest.approx(2 * (min(below, above) + 1) / (resamples + 1))
    averages = [np.mean([[spearman(gold[task], row) for row in system[task]] for task in gold]) for system in (a, b)]
    assert found.difference == pytest.approx(averages[0] - averages[1], abs=1e-9)


def test_a_system_does_not_differ_from_itself():
    gold, a, _ = systems(1.0, 1.0)
    found = paired_test(gold, a, a)
    assert (found.difference, found.ci95, found.p_value) == (0, (0, 0), 1)


def test_a_clear_difference_is_significant_either_way_round():
    gold, a, b = systems(0.5, 2.0)
    better, worse = paired_test(gold, a, b), paired_test(gold, b, a)
    assert better.p_value < 0.01
    assert better.ci95[0] > 0
    assert better.difference == pytest.approx(-worse.difference)
    assert better.ci95 == pytest.approx((-worse.ci95[1], -worse.ci95[0]))
    assert better.p_value == worse.p_value


def test_equal_systems_are_seldom_told_apart():
    found = [paired_test(*systems(1.0, 1.0, tasks=(150,), seeds=6, seed=s), resamples=200).p_value for s in range(60)]
    assert sum(p < 0.05 for p in found) <= 7  # 5% of 60 is 3, with a standard deviation of 1.7
    assert sum(p < 0.5 for p in found) >= 6  # cautious, not blind


def test_an_effect_that_hangs_on_one_seed_is_not_significant():
    gold, a, b = systems(1.0, 1.0, seeds=4)
    for task, scores in gold.items():
        a[task][0] = scores  # one lucky seed
    assert paired_test(gold, a, b).p_value > 0.05


def test_what_does_not_match_is_refused():
    gold, a, b = systems(1.0, 1.0)
    with pytest.raises(InputError, match="the tasks differ"):
        paired_test(gold, a, {"task 400": b["task 400"]})
    with pytest.raises(InputError) as caught:
        paired_test(gold, a, {"task 400": b["task 400"][:2], "task 300": b["task 300"][:, :7]})
    assert caught.value.problems == [
        "task 400: b is of shape (2, 400), must be (3, 400): (seeds, pairs)",
        "task 300: b is of shape (3, 7), must be (3, 300): (seeds, pairs)",
    ]
