"""The table of a sweep's verdict."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from fmicl_text.evaluation.metrics import GEOMETRY, SPEARMAN
from fmicl_text.evaluation.registry import evaluation
from fmicl_text.sweep import verdict
from fmicl_text.sweep.verdict import Row, Verdict


def test_headings_say_which_score_chooses_and_which_judges():
    """Both may be of one name, as held-out pairs of two sources are."""
    row = Row("infonce", "", (60.0, 1.0), (70.0, 2.0), None, None, "the baseline")
    headings, [(_, cells)] = Verdict("heldout MRR@10", "heldout MRR@10", "%", [row], "infonce", "").table()
    assert headings[:2] == ["heldout MRR@10 (chooses)", "heldout MRR@10 (judges)"] and len(set(headings)) == 7
    assert cells[0].startswith("60.00") and cells[1].startswith("70.00")


@pytest.mark.parametrize(
    ("judged", "said"), [([9, 8, 7, 6, 5, 4], "1.00"), ([4, 5, 6, 7, 8, 9], "-1.00"), ([9, 7, 8, 6, 5, 4], "0.94")]
)
def test_a_score_without_labels_is_ranked_against_labels_over_the_final_runs(judged: list[float], said: str):
    """Low uniformity is good, a high Spearman too; two neighbours of six swapped are 1 - 6 * 2 / (6 * 35)."""

    def run(uniformity: float, spearman: float) -> SimpleNamespace:
        best = SimpleNamespace(model_extra={"geometry uniformity": uniformity})
        results = SimpleNamespace(scores=lambda _: {"sts Spearman": SPEARMAN.score("sts", spearman)})
        return SimpleNamespace(seeds={1: SimpleNamespace(manifest=SimpleNamespace(best=best), results=results)})

    runs = [run(-3 + number / 10, value) for number, value in enumerate(judged)]
    criterion = SimpleNamespace(metric=GEOMETRY["uniformity"])
    score = SPEARMAN.score("sts", 0.0)
    assert score.key == "sts Spearman"
    [found] = verdict._agreement(runs, "STS", score, criterion, "geometry uniformity", "sts Spearman")
    assert found == f"geometry uniformity ranks the 6 final runs as sts Spearman does with a rank correlation of {said}"
    assert verdict._agreement(runs[:5], "STS", score, criterion, "", "") == []


@pytest.mark.parametrize(
    ("chose", "judges"), [("uniformity", "uniformity"), ("alignment", "alignment"), (None, "alignment")]
)
def test_what_chose_is_what_judges_where_nothing_else_does(chose: str | None, judges: str):
    asked = evaluation("geometry")
    during = asked.model_copy(update={"metric": chose}) if chose else "heldout"
    plan = SimpleNamespace(recipe=SimpleNamespace(evaluate=SimpleNamespace(during=during, after=[asked])))
    scores = [GEOMETRY[name].score("pairs", -1.0) for name in ("alignment", "uniformity")]
    results = SimpleNamespace(
        files={"Geometry": Path("geometry.json")}, by_title={"Geometry": SimpleNamespace(scores=scores)}
    )
    title, score, _ = verdict.judge_of(plan, SimpleNamespace(first=SimpleNamespace(results=results)))
    assert (title, score.metric) == ("Geometry", judges)
