"""The report: every arm beside InfoNCE under the same method, and what became of the paper's claims."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from eval.benchmarks.images.arms import ARMS, BEST_DIFFERS, CLAIMS, PILOT, WAYS, reference
from fmicl_text.evaluation.items import Parts, read_items
from fmicl_text.evaluation.paired import paired_test
from fmicl_text.evaluation.results import Result, read_result
from fmicl_text.evaluation.statistics import holm
from fmicl_text.files import read_json, write_json, write_text

TRAINED, TUNED = 10_000, 2_000
"""Images to train on, and those after them by which settings are chosen."""
SEEDS = (1, 2, 3)
METHODS = ("kNN", "linear")
JUDGE = "linear"
"""The method by which claims are judged."""
BASELINES = ("raw pixels", "random encoder")
Test = dict[str, Any]


class Measurements:
    """What was measured, a file each.

    Args:
        folder: Where the files are; it is made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def of_seed(self, arm: str, seed: int) -> Path:
        """Return the file of an arm's model of one seed."""
        return self._folder / f"{arm}-seed{seed}.json"

    def tuning(self, arm: str) -> Path:
        """Return the file that says how an arm's settings did."""
        return self._folder / f"{arm}-tuned.json"

    def chosen(self, arm: str) -> int:
        """Return which of an arm's settings did better."""
        return int(read_json(self.tuning(arm))["chosen"])

    def finished(self) -> list[str]:
        """Return the arms that have all seeds."""
        return [arm for arm in ARMS if all(self.of_seed(arm, seed).is_file() for seed in SEEDS)]

    def results(self, arm: str) -> list[Result]:
        """Return an arm's results, one a seed."""
        return [read_result(self.of_seed(arm, seed)) for seed in SEEDS]

    def items(self, arm: str, method: str) -> list[Parts]:
        """Return whether each test image was told right, one a seed."""
        files = [self.of_seed(arm, seed) for seed in SEEDS]
        return [read_items(file, read_result(file))[f"{method} accuracy"] for file in files]

    def test(self, ours: str, other: str, method: str) -> Test:
        """Test the difference in accuracy of two arms, over test images and seeds."""
        test = paired_test({method: self.items(ours, method)}, {method: self.items(other, method)})
        return {"difference": test.difference, "ci95": list(test.ci95), "p_value": test.p_value}


def write_report(measured: Measurements, results: Path) -> None:
    """Write figures, page and picture of the arms that are finished, if any are."""
    if not (arms := measured.finished()):
        return
    document = figures(measured, arms)
    write_json(results.with_suffix(".json"), document)
    write_text(results.with_suffix(".md"), "\n".join([*_page(document), ""]))
    plot(document, results.with_suffix(".png"))


def figures(measured: Measurements, arms: Sequence[str]) -> dict[str, Any]:
    """Return all that the page says."""
    found: dict[str, Any] = {"arms": {}, "baselines": {}, "claims": []}
    for arm in arms:
        results = measured.results(arm)
        scores = {method: [result.score(method).value for result in results] for method in METHODS}
        found["arms"][arm] = read_json(measured.tuning(arm)) | {"scores": scores, "minus InfoNCE": {}}
        if arm == PILOT[0]:
            found["baselines"] = {
                baseline: {m: [result.score(f"{m}, {baseline}").value for result in results] for m in METHODS}
                for baseline in BASELINES
            }
    for method in METHODS:
        others = [arm for arm in arms if arm != _beside(arm) and _beside(arm) in arms]
        tests = {arm: measured.test(arm, _beside(arm), method) for arm in others}
        for (arm, test), p in zip(tests.items(), holm([t["p_value"] for t in tests.values()]), strict=True):
            found["arms"][arm]["minus InfoNCE"][method] = test | {"p_value": p}
    for claim, (margin, pairs) in CLAIMS.items():
        for ours, other in pairs:
            if ours in arms and other in arms:
                test = measured.test(ours, other, JUDGE)
                found["claims"].append([claim, f"{ours} against {other}", test, _said(test, margin)])
    if all(arm in arms for pair in BEST_DIFFERS for arm in pair):
        tests_of_ways = [measured.test(kl, js, JUDGE) for kl, js in BEST_DIFFERS]
        where = f"KL against JS under {', '.join(WAYS)}"
        found["claims"].append(["the best divergence differs", where, None, _differs(tests_of_ways)])
    return found


def _beside(arm: str) -> str:
    return reference(next(way for way in WAYS if arm.startswith(way)))


def _said(test: Test, margin: float = 0) -> str:
    """Say whether a claim that a difference is above zero held; within the margin below, two are on a par."""
    low, high = test["ci95"]
    return "did not hold" if high < 0 else "held" if low > -margin else "cannot be told here"


def _differs(tests: Sequence[Test]) -> str:
    """Say whether one of two is better in some places and worse in others."""
    said = {_said(test) for test in tests}
    if {"held", "did not hold"} <= said:
        return "held"
    return "did not hold" if len(said) == 1 and "cannot be told here" not in said else "cannot be told here"


def _page(document: dict[str, Any]) -> Iterator[str]:
    arms = document["arms"]
    yield "# Objectives on images"
    yield ""
    yield "`python -m eval.benchmarks.images --data DATA`"
    yield ""
    yield (
        f"{TRAINED:,} rows of CIFAR-10 (JPEG-coded), 234 steps of 128 images, a ResNet of 1.2 million parameters, on a "
        f"CPU; seeds {', '.join(map(str, SEEDS))}; of two settings the better one by kNN on {TUNED:,} further training "
        "images with seed 0. Accuracy x 100 on the 10,000 test images, k = 200, mean ± standard deviation over the "
        f"seeds. At this size it says nothing of the paper's 800 epochs. {len(arms)} of {len(ARMS)} arms are finished."
    )
    yield ""
    if pilot := arms.get(PILOT[1], {}).get("minus InfoNCE", {}).get(JUDGE):
        low, high = pilot["ci95"]
        yield (
            f"What the size can tell apart, by the pilot of {' and '.join(PILOT)}: the interval of their difference is "
            f"{high - low:.1f} points wide, while a random encoder lies {_above_random(document):.1f} below."
        )
        yield ""
    yield "![Linear accuracy of every arm and seed](images.png)"
    yield ""
    yield "| arm | setting | kNN | linear | kNN minus InfoNCE | linear minus InfoNCE |"
    yield "|---|---|---|---|---|---|"
    for arm, of in arms.items():
        cells = [_spread(of["scores"][method]) for method in METHODS]
        cells += [_shown(of["minus InfoNCE"].get(method)) for method in METHODS]
        yield f"| {arm} | `{of['settings'][of['chosen']]}` | {' | '.join(cells)} |"
    for baseline, scores in document["baselines"].items():
        yield f"| {baseline} | | {' | '.join(_spread(scores[method]) for method in METHODS)} | | |"
    yield ""
    yield (
        "Differences are from InfoNCE under the same method, by a paired bootstrap over test images and seeds, p "
        "values adjusted by Holm over the arms; few seeds understate how much seeds differ. f-MICL by KL with a shift "
        "a row is InfoNCE; under MoCo it differs from that arm by its negatives, which include other anchors here "
        "(`negatives: both`), and so the two MoCo arms of f-MICL tell of negatives more than of divergences."
    )
    yield ""
    yield f"| claim of the paper | pair | difference, {JUDGE} | here |"
    yield "|---|---|---|---|"
    for claim, pair, test, said in document["claims"]:
        yield f"| {claim} | {pair} | {_shown(test)} | {said} |"


def _above_random(document: dict[str, Any]) -> float:
    return mean(document["arms"][PILOT[0]]["scores"][JUDGE]) - mean(document["baselines"]["random encoder"][JUDGE])


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.2f} ± {stdev(values):.2f}"


def _shown(test: Test | None) -> str:
    if test is None:
        return ""
    low, high = test["ci95"]
    return f"{test['difference']:+.2f} ({low:+.2f} to {high:+.2f}, p {test['p_value']:.3f})"


def plot(document: dict[str, Any], file: Path) -> None:
    """Draw the accuracy of every arm and seed, and of what is not trained."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    arms = list(document["arms"])
    figure, axis = pyplot.subplots(figsize=(7, 1.2 + 0.3 * len(arms)), layout="constrained")
    for place, arm in enumerate(arms):
        values = document["arms"][arm]["scores"][JUDGE]
        axis.plot(values, [place] * len(values), "o", color=f"C{WAYS.index(_beside(arm).removesuffix('-infonce'))}")
    for number, (baseline, scores) in enumerate(document["baselines"].items()):
        axis.axvline(mean(scores[JUDGE]), color="grey", linestyle=("--", ":")[number], label=baseline)
    axis.set_yticks(range(len(arms)), arms)
    axis.invert_yaxis()
    axis.set(xlabel=f"{JUDGE} accuracy x 100 of each seed")
    if document["baselines"]:
        figure.legend(loc="outside upper right", ncols=2, fontsize=8)
    figure.savefig(file, dpi=150)
    pyplot.close(figure)
