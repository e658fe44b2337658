"""Scores and intervals from what each item scored, and the paired test of two systems on them."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from fmicl_text.errors import InputError
from fmicl_text.evaluation.items import (
    Items,
    Measured,
    average_interval,
    digest,
    interval,
    items_file,
    score,
    write_result,
)
from fmicl_text.evaluation.metrics import SPEARMAN
from fmicl_text.evaluation.paired import paired_test, same_items
from fmicl_text.evaluation.results import Result


def rho(values, gold):
    return spearmanr(values, gold).statistic


def precision(values, gold):
    return average_precision_score(gold, values)


def mean(values, gold):
    return values.mean()


STATISTICS = {"spearman": rho, "average precision": precision, "mean": mean}


def some_items(statistic, rng, n, noise=1.0):
    """Items with ties, as float32 and as people give them."""
    gold = rng.integers(0, 2, n) if statistic == "average precision" else rng.integers(0, 6, n) / 5
    if statistic == "mean":
        return Items("mean", (rng.random(n) < 0.7).astype(float), source="these")
    return Items(statistic, np.round(gold + rng.normal(scale=noise, size=n), 1).astype(np.float32), gold)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_score_and_interval_are_those_of_a_loop_over_a_library(statistic):
    parts = tuple(some_items(statistic, np.random.default_rng(n), n) for n in (150, 90))
    reference = STATISTICS[statistic]
    expected = np.mean([100 * reference(part.values, part.gold) for part in parts])
    assert score(parts) == pytest.approx(expected, abs=1e-9)
    rng = np.random.default_rng(7)
    slow = []
    for part in parts:
        draws = rng.integers(len(part.values), size=(60, len(part.values)))
        gold = part.values if part.gold is None else part.gold
        slow.append([100 * reference(part.values[draw], gold[draw]) for draw in draws])
    found = interval(parts, resamples=60, seed=7)
    assert found == pytest.approx(tuple(np.percentile(np.mean(slow, axis=0), [2.5, 97.5])), abs=1e-9)


def test_interval_of_an_average_draws_the_items_of_each_task():
    """Each task counts the same, whatever the number of its parts."""
    first, second, third = (some_items("spearman", np.random.default_rng(n), n) for n in (80, 50, 60))
    rng = np.random.default_rng(7)
    slow = []
    for part in (first, second, third):
        draws = rng.integers(len(part.values), size=(60, len(part.values)))
        slow.append(np.array([100 * rho(part.values[draw], part.gold[draw]) for draw in draws]))
    averages = ((slow[0] + slow[1]) / 2 + slow[2]) / 2
    found = average_interval([(first, second), (third,)], resamples=60, seed=7)
    assert found == pytest.approx(tuple(np.percentile(averages, [2.5, 97.5])), abs=1e-9)


def test_without_anything_to_find_there_is_no_average_precision():
    assert np.isnan(score((Items("average precision", np.arange(3.0), np.zeros(3)),)))


def test_items_are_the_same_only_if_all_of_them_are():
    gold = np.arange(4)
    items = Items("spearman", np.ones(4), gold, "a")
    assert items.same(Items("spearman", np.zeros(4), gold.astype(float), "a"))
    for other in (
        Items("average precision", np.ones(4), gold, "a"),
        Items("spearman", np.ones(4), gold + 1, "a"),
        Items("spearman", np.ones(4), gold, "b"),
        Items("spearman", np.ones(3), gold[:3], "a"),
        Items("spearman", np.ones(4), None, "a"),
    ):
        assert not items.same(other) and not other.same(items)
    mean = Items("mean", np.ones(4), source="a")
    assert same_items([(mean, mean), (mean, mean)]) and not same_items([(mean, mean), (mean,)])


def test_a_digest_tells_texts_and_columns_apart():
    assert digest(["a", "b"], ["c"]) == digest(["a", "b"], ["c"])
    assert len({digest(["a", "b"], ["c"]), digest(["b", "a"], ["c"]), digest(["ab"], ["c"])}) == 3


def test_items_are_kept_beside_the_result_with_their_ties(tmp_path):
    items = some_items("spearman", np.random.default_rng(3), 50)

    result = Result(kind="sts", name="s", protocol="p", model="m", scores=[SPEARMAN.score("task", 1.0)])
    write_result(Measured(result, {"task Spearman": (items,)}), tmp_path / "a-1.5.json")
    assert json.loads((tmp_path / "a-1.5.json").read_text()) == result.document()
    assert items_file(tmp_path / "a-1.5.json").name == "a-1.5.items.json"
    (part,) = json.loads((tmp_path / "a-1.5.items.json").read_text())["items"]["task Spearman"]
    assert np.array(part["values"]).astype(np.float32).tolist() == items.values.tolist()
    assert part["gold"] == items.gold.tolist()


# The paired test


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


def as_items(gold, *of_systems):
    return [{t: [(Items("spearman", row, gold[t]),) for row in rows] for t, rows in of.items()} for of in of_systems]


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
    found = paired_test(*as_items(gold, a, b), resamples=resamples, seed=9)
    assert found.ci95 == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])), abs=1e-9)
    below, above = sum(d <= 0 for d in slow), sum(d >= 0 for d in slow)
    assert found.p_value == pytest.approx(2 * (min(below, above) + 1) / (resamples + 1))
    averages = [np.mean([[100 * rho(row, gold[task]) for row in system[task]] for task in gold]) for system in (a, b)]
    assert found.difference == pytest.approx(averages[0] - averages[1], abs=1e-9)


def test_of_right_and_wrong_the_test_is_that_of_the_mean_difference():
    """With one seed, the statistic of a resample is the mean of the items' differences."""
    rng = np.random.default_rng(1)
    a, b = (rng.random((1, 200)) < rate for rate in (0.8, 0.7))
    ours, theirs = ({"t": [(Items("mean", of[0].astype(float)),)]} for of in (a, b))
    found = paired_test(ours, theirs, resamples=300, seed=2)
    draws = np.random.default_rng(2).integers(200, size=(300, 200))
    differences = 100 * (a[0].astype(float) - b[0])[draws].mean(axis=1)
    assert found.ci95 == pytest.approx(tuple(np.percentile(differences, [2.5, 97.5])), abs=1e-9)
    assert found.difference == pytest.approx(100 * (a.mean() - b.mean()))


def test_a_system_does_not_differ_from_itself():
    gold, a, _ = systems(1.0, 1.0)
    found = paired_test(*as_items(gold, a, a))
    assert (found.difference, found.ci95, found.p_value) == (0, (0, 0), 1)


def test_a_clear_difference_is_significant_either_way_round():
    a, b = as_items(*systems(0.5, 2.0))
    better, worse = paired_test(a, b), paired_test(b, a)
    assert better.p_value < 0.01
    assert better.ci95[0] > 0
    assert better.difference == pytest.approx(-worse.difference)
    assert better.ci95 == pytest.approx((-worse.ci95[1], -worse.ci95[0]))
    assert better.p_value == worse.p_value


def test_equal_systems_are_seldom_told_apart():
    trials = [as_items(*systems(1.0, 1.0, tasks=(150,), seeds=6, seed=s)) for s in range(60)]
    found = [paired_test(*trial, resamples=200).p_value for trial in trials]
    assert sum(p < 0.05 for p in found) <= 7  # 5% of 60 is 3, with a standard deviation of 1.7
    assert sum(p < 0.5 for p in found) >= 6  # cautious, not blind


def test_an_effect_that_hangs_on_one_seed_is_not_significant():
    gold, a, b = systems(1.0, 1.0, seeds=4)
    for task, scores in gold.items():
        a[task][0] = scores  # one lucky seed
    assert paired_test(*as_items(gold, a, b)).p_value > 0.05


def test_what_does_not_match_is_refused():
    a, b = as_items(*systems(1.0, 1.0))
    with pytest.raises(InputError, match="the tasks differ"):
        paired_test(a, {"task 400": b["task 400"]})
    with pytest.raises(InputError, match="the numbers of seeds differ: 2, 3"):
        paired_test(a, b | {"task 400": b["task 400"][:2]})
    with pytest.raises(InputError) as caught:
        paired_test(a, {"task 400": b["task 300"], "task 300": b["task 400"]})
    assert caught.value.problems == [f"task {n}: the systems were scored on different items" for n in (400, 300)]
