import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from work import calls

from fmicl_text.evaluation.statistics import (
    bootstrap_interval,
    holm,
    mean_interval,
    resampled_pair_means,
    spearman,
)


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


def test_resamples_are_drawn_and_ranked_many_at_once():
    """Or the intervals of a suite would take minutes: one call of scipy's function alone is 500."""
    gold, similarity = pairs(np.random.default_rng(5), 1379, noise=2.0)
    assert calls(lambda: bootstrap_interval(gold, similarity, resamples=1000)) < 5000


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
