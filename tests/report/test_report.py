"""Reports of runs: what is read, how runs compare, what the page and its pictures say and never do."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from report_runs import geometry_layout, geometry_result, make_run, measured, sts_result, values
from scipy.stats import spearmanr

from fmicl_text.cli import main
from fmicl_text.errors import InputError
from fmicl_text.evaluation.geometry import Layout, geometry, geometry_scores
from fmicl_text.evaluation.items import Items, Measured, write_result
from fmicl_text.evaluation.metrics import ACCURACY, ACCURACY_AT_1, MRR_AT_10, Metric
from fmicl_text.evaluation.paired import paired_test
from fmicl_text.evaluation.suites import load_suite
from fmicl_text.files import write_json, write_text
from fmicl_text.report import Report, read_report, write_report
from fmicl_text.report.compare import Comparison
from fmicl_text.report.geometry import layout
from fmicl_text.report.published import TASKS, load_published, published_names
from fmicl_text.report.runs import read_runs
from fmicl_text.runs import plots
from fmicl_text.runs.manifest import Manifest

pytestmark = pytest.mark.usefixtures("blank_pictures")

EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)"> $\\frac{1}{$ {{ 7 * 7 }}'


class Text(HTMLParser):
    """What a reader sees, and the tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data.replace("\N{NO-BREAK SPACE}", " ")


def page_of(*folders: Path, output: Path, published: tuple[str, ...] = ()) -> Text:
    return Text(write_report(read_report(list(folders), published), output).read_text(encoding="utf-8"))


# --- what is read


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    (run,) = read_runs([make_run(tmp_path / "run", seeds=(1, 2))])
    assert list(run.seeds) == [1, 2] and run.name == "run"
    expected = sts_result(0.3, 2)
    results = run.seeds[2].results
    scores = results.scores("sts7")
    assert {key: one.value for key, one in scores.items()} == values(expected)
    for task in TASKS:
        (read,) = results.items["sts7"][f"{task} Spearman"]
        (written,) = expected.items[f"{task} Spearman"]
        assert read.values.astype(np.float32).tolist() == written.values.tolist()
        again = 100 * spearmanr(read.gold, read.values).statistic
        assert again == pytest.approx(scores[f"{task} Spearman"].value, abs=1e-9), "ranks and ties are kept"
    assert asdict(layout(results)[1].geometry) == asdict(geometry_layout(2).geometry)
    assert run.seeds[1].manifest.minutes == 3


def test_results_of_format_1_stand_beside_those_of_today(tmp_path: Path) -> None:
    """The same run, once as version 0.1 wrote its result."""
    runs = [make_run(tmp_path / name) for name in ("new", "old")]
    file = runs[1] / "results" / "sts7.json"
    result = sts_result(0.3, 1).result
    tasks = {one.name: {"spearman": one.value, "n": one.n, "ci95": one.ci95} for one in result.scores}
    old = {"suite": "sts7", "protocol": result.protocol, "average": tasks.pop("average")["spearman"], "tasks": tasks}
    write_json(file, old | {"model": "m", "data": "Hub", "max_seq_length": 32, "versions": {}, "missing": []})
    items = json.loads((runs[1] / "results" / "sts7.items.json").read_text())["items"]
    by_task = {name.removesuffix(" Spearman"): parts for name, parts in items.items()}
    write_json(runs[1] / "results" / "sts7.items.json", {"model": "m", "items": by_task})
    comparison = next(c for c in read_report(runs).comparisons if c.suite == "sts7")
    assert [row.score for row in comparison.rows] == ["average", *TASKS]
    assert {(row.difference, row.p_value) for row in comparison.rows} == {(0.0, 1.0)}, "tested, and the same"


def test_an_incomplete_suite_has_no_average(tmp_path: Path) -> None:
    (run,) = read_runs([make_run(tmp_path / "run", tasks=TASKS[:3])])
    assert "average Spearman" not in run.first.results.scores("sts7")
    page = page_of(tmp_path / "run", output=tmp_path / "out")
    assert "SICK-R is missing: no file" in page.text


def test_runs_are_called_by_what_tells_them_apart(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a" / "seed-1"), make_run(tmp_path / "b" / "seed-1")
    assert [run.name for run in read_runs([a, b])] == ["a/seed-1", "b/seed-1"]
    assert [run.name for run in read_runs([a])] == ["a/seed-1"]
    with pytest.raises(InputError, match="with itself"):
        read_runs([a, a])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("manifest.json", "{", "manifest.json: not JSON"),
        ("manifest.json", "[]", "manifest.json: not the manifest of a run"),
        ("manifest.json", "", "manifest.json: not JSON: the file is empty"),
        ("manifest.json", "[" * 100_000, "manifest.json: not"),
        ("manifest.json", '{"seed": 1, "best": {"step": 1, "x": NaN}}', "manifest.json: not JSON: NaN"),
        ("manifest.json", '{"seed": 1, "versions": []}', "manifest.json: not the manifest of a run: versions"),
        ("manifest.json", '{"state": "done"}', "manifest.json: not the manifest of a run: seed: Field required"),
        ("manifest.json", '{"seed": 1, "ended": "soon"}', "manifest.json: not the manifest of a run: ended"),
        ("manifest.json", '{"seed": 1, "best": {"step": 1, "stsb-dev spearman": "high"}}', "best.stsb-dev spearman"),
        ("manifest.json", '{"seed": 1, "best": {"stsb-dev spearman": 1}}', "best.step: Field required"),
        ("metrics.jsonl", "nonsense\n", "metrics.jsonl: not the log"),
        ("metrics.jsonl", '{"step": 1}\n{"positive": 1}\n', "metrics.jsonl:2: not an entry of the log"),
        ("metrics.jsonl", '{"step": 1, "negative": null}\n', "metrics.jsonl:1: not an entry of the log"),
        ("metrics.jsonl", '{"step": 1, "eval_stsb-dev_spearman_cosine": "x"}\n', "metrics.jsonl:1: not an entry"),
        ("recipe.yaml", "a: [", "recipe.yaml:1: not YAML"),
        ("results/sts7.json", '{"suite": "sts7"}', "sts7.json: not a result that fmicl wrote: protocol"),
        ("results/sts7.json", '{"format": 2, "kind": "sts"}', "sts7.json: not a result that fmicl wrote: name"),
        ("results/sts7.json", '{"format": 3}', "sts7.json: format"),
        (
            "results/sts7.items.json",
            '{"items": {"a": [{}]}}',
            "sts7.items.json: not a result that fmicl wrote: items",
        ),
        ("results/geometry.json", '{"geometry": {}}', "geometry.json: not a result"),
        ("results/again.json", None, "are both results of sts7"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, file: str, content: str | None, message: str) -> None:
    run = make_run(tmp_path / "run")
    (run / file).write_text((run / "results" / "sts7.json").read_text() if content is None else content)
    with pytest.raises(InputError, match=re.escape(message)):
        read_runs([run])


@pytest.mark.parametrize(
    ("positive", "message"),
    [([1] * 49, "must have one count between every two edges"), ([0] * 50, "must count positive pairs")],
)
def test_histograms_that_cannot_be_drawn_are_refused(tmp_path: Path, positive: list[int], message: str) -> None:
    run = make_run(tmp_path / "run")
    file = run / "results" / "geometry.json"
    document = json.loads(file.read_text())
    document["details"]["geometry"]["histograms"]["positive"] = positive
    file.write_text(json.dumps(document))
    with pytest.raises(InputError, match=f"geometry.json: details: not a result .*: geometry: .*{message}"):
        read_report([run])


def test_a_run_without_its_start_or_end_has_no_minutes(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (run,) = read_runs([folder])
    assert run.first.manifest.minutes == 3
    write_json(folder / "manifest.json", {"seed": 1, "ended": "2026-01-01T10:03:00+00:00"})
    (run,) = read_runs([folder])
    assert run.first.manifest.minutes is None


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_runs([tmp_path, tmp_path / "nowhere"])
    assert len(caught.value.problems) == 2 and "neither manifest.json" in caught.value.problems[1]


def test_results_of_another_kind_are_named_not_guessed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_json(run / "results" / "other.json", {"something": "else"})
    assert (
        "files in results/ that are not results are not shown: other.json" in page_of(run, output=tmp_path / "out").text
    )


# --- comparisons


def of_suite(report: Report, suite: str = "sts7") -> Comparison:
    (comparison,) = (comparison for comparison in report.comparisons if comparison.suite == suite)
    return comparison


def test_comparison_is_the_paired_test_of_each_task_over_the_seeds_both_have(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", 0.25, seeds=(1, 2, 3)), make_run(tmp_path / "b", 0.3, seeds=(2, 3, 4))
    comparison = of_suite(read_report([b, a]))
    assert (comparison.run, comparison.other, comparison.seeds) == ("a", "b", [(2, 2), (3, 3)])
    assert any("only 2 of the seeds" in warning for warning in comparison.warnings)
    rows = {row.score: row for row in comparison.rows}
    assert list(rows) == ["average", *TASKS]
    ours, theirs = ([sts_result(noise, seed) for seed in (2, 3)] for noise in (0.25, 0.3))
    for task in (*TASKS, "average"):
        keys = [f"{name} Spearman" for name in ([task] if task in TASKS else TASKS)]
        expected = paired_test(*({key: [seed.items[key] for seed in run] for key in keys} for run in (ours, theirs)))
        assert rows[task].difference == pytest.approx(expected.difference)
        assert rows[task].ci95 == pytest.approx(expected.ci95)
        assert rows[task].p_value >= expected.p_value
    means = [np.mean([values(seed)["STS12 Spearman"] for seed in run]) for run in (ours, theirs)]
    assert (rows["STS12"].run[0], rows["STS12"].other[0]) == pytest.approx(means)


def test_what_chance_could_have_made_is_called_noise(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", 0.3, seeds=(1, 2, 3))
    same, better = make_run(tmp_path / "same", 0.3, seeds=(4, 5, 6)), make_run(tmp_path / "better", 0.1, (1, 2, 3))
    like, unlike = (c for c in read_report([a, same, better]).comparisons if c.suite == "sts7")
    assert all(row.inside_noise for row in like.rows)
    assert like.warnings[0].startswith("inside the noise: average, STS12, ")
    assert not any(row.inside_noise for row in unlike.rows)
    assert {row.verdict for row in unlike.rows} == {"better"}
    assert all(row.difference > 0 for row in unlike.rows) and unlike.warnings[0].startswith("3 seeds: so few")


def test_scores_of_baselines_are_shown_and_do_not_count_in_a_comparison(tmp_path: Path) -> None:
    """The adjusted p values of a run's own scores stay as they are without baselines."""
    runs = [make_run(tmp_path / name, noise, seeds=(1, 2)) for name, noise in (("a", 0.3), ("b", 0.31))]
    before = {row.score: row.p_value for row in of_suite(read_report(runs)).rows}
    for file in tmp_path.rglob("sts7.json"):
        document = json.loads(file.read_text())
        pixels = [score | {"name": f"{score['name']}, pixels", "baseline": True} for score in document["scores"]]
        write_json(file, document | {"scores": document["scores"] + pixels})
        items = file.with_name("sts7.items.json")
        known = json.loads(items.read_text())
        known["items"] |= {key.replace(" ", ", pixels ", 1): parts for key, parts in known["items"].items()}
        write_json(items, known)
    report = read_report(runs)
    assert {row.score: row.p_value for row in of_suite(report).rows} == before
    assert "STS12, pixels" in write_report(report, tmp_path / "page").read_text()


def test_one_seed_each_is_warned_of_and_other_seeds_are_paired_in_order(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", 0.3, seeds=(1,)), make_run(tmp_path / "b", 0.3, seeds=(7,))
    comparison = of_suite(read_report([a, b]))
    assert comparison.seeds == [(7, 1)]
    assert any("one seed each" in warning and "STS averages" in warning for warning in comparison.warnings)
    for run in (a, b):
        path = run / "results" / "sts7.json"
        write_json(path, json.loads(path.read_text()) | {"kind": "pairs"})
    other = of_suite(read_report([a, b]), "sts7 (pairs)")
    assert any("one seed each" in warning and "STS" not in warning for warning in other.warnings)


def test_scores_of_different_data_are_not_compared(tmp_path: Path) -> None:
    a, b, c = (make_run(tmp_path / name, 0.3) for name in "abc")
    (b / "results" / "sts7.items.json").unlink()
    path = c / "results" / "sts7.items.json"
    document = json.loads(path.read_text())
    document["items"]["STS12 Spearman"][0]["gold"][0] += 1
    write_json(path, document)
    untested, other = (c for c in read_report([a, b, c]).comparisons if c.suite == "sts7")
    assert {row.inside_noise for row in untested.rows} == {None}
    assert "what each item scored is not among the results" in untested.warnings[-1]
    assert {row.score for row in other.rows} == {*TASKS} - {"STS12"}
    assert other.warnings[-1] == "not compared: STS12, average, as the runs were scored on different items"


@pytest.mark.parametrize(
    ("change", "compared", "why"),
    [
        (
            {"n": 200},
            {*TASKS} - {"STS12"},
            "not compared: STS12, average, as the runs were scored on 200 and 300 items",
        ),
        (
            {"data": "elsewhere"},
            set(),
            "not compared: average, " + ", ".join(TASKS) + ", as the data was elsewhere and Hub",
        ),
    ],
    ids=["n", "data"],
)
def test_without_items_number_and_source_of_the_data_are_compared(tmp_path: Path, change, compared, why) -> None:
    a, b = (make_run(tmp_path / name) for name in "ab")
    for run in (a, b):
        (run / "results" / "sts7.items.json").unlink()
    path = b / "results" / "sts7.json"
    document = json.loads(path.read_text())
    of_task = next(score for score in document["scores"] if score["name"] == "STS12")
    (of_task if "n" in change else document).update(change)
    write_json(path, document)
    comparison = of_suite(read_report([a, b]))
    assert {row.score for row in comparison.rows} == compared
    assert set(comparison.warnings[-1].replace(":", ",").split(", ")) == set(why.replace(":", ",").split(", "))
    page = page_of(a, b, output=tmp_path / "out").text
    assert "not measured alike: " in page and "as the " in page


def test_right_and_wrong_and_ranks_are_tested_as_similarities_are(tmp_path: Path) -> None:
    """Transfer and retrieval of held-out pairs leave items too, in the same form; what has none is said."""
    rng = np.random.default_rng(0)

    def answers(accuracy: float, source: str) -> tuple[Items, ...]:
        return (Items("mean", 1.0 * (rng.random(400) < accuracy), source=source),)

    def transfer(accuracy: float) -> Measured:
        items = {task: answers(accuracy, "rows") for task in ("MR", "TREC")}
        return measured(ACCURACY, items, average=False, kind="transfer", name="transfer")

    def heldout(accuracy: float, source: str) -> Measured:
        of_both = {metric: answers(accuracy, source) for metric in (MRR_AT_10, ACCURACY_AT_1)}
        first, second = (
            measured(metric, {"held-out pairs": parts}, average=False, kind="heldout", name="heldout")
            for metric, parts in of_both.items()
        )
        scores = [*first.result.scores, *second.result.scores]
        return Measured(first.result.model_copy(update={"scores": scores}), {**first.items, **second.items})

    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    results = {run: (transfer(accuracy), heldout(accuracy, "these")) for run, accuracy in ((a, 0.9), (b, 0.6))}
    for run, (of_transfer, of_heldout) in results.items():
        write_result(of_transfer, run / "results" / "transfer.json")
        write_result(of_heldout, run / "results" / "heldout.json")
    report = read_report([a, b])
    for suite, place, names in (("transfer", 0, ["MR", "TREC"]), ("heldout", 1, ["MRR@10", "accuracy@1"])):
        rows = of_suite(report, suite).rows
        assert [row.score for row in rows] == names
        for row, key in zip(rows, results[a][place].items, strict=True):
            ours, theirs = (results[run][place].items[key] for run in (b, a))
            expected = paired_test({key: [ours]}, {key: [theirs]})
            assert row.difference == pytest.approx(expected.difference) and row.ci95 == expected.ci95
            assert row.verdict == "worse" and row.difference < -20
    write_result(heldout(0.6, "others"), b / "results" / "heldout.json")
    other = of_suite(read_report([a, b]), "heldout")
    assert not other.rows
    assert other.warnings == ["not compared: MRR@10, accuracy@1, as the runs were scored on different items"]


def test_a_lower_score_is_better_where_the_score_says_so(tmp_path: Path) -> None:
    metric = Metric("error", "error", higher_is_better=False)
    for name, rate in (("a", 0.9), ("b", 0.2)):
        wrong = (Items("mean", 1.0 * (np.random.default_rng(1).random(400) < rate), source="rows"),)
        result = measured(metric, {"rows": wrong}, average=False, kind="errors", name="errors")
        write_result(result, make_run(tmp_path / name) / "results" / "errors.json")
    (row,) = of_suite(read_report([tmp_path / "a", tmp_path / "b"]), "errors").rows
    assert row.difference < 0 and row.verdict == "better"


def test_scores_without_items_are_compared_and_not_tested(tmp_path: Path) -> None:
    """Plain numbers of which no item is known, such as the geometry's, only stand side by side."""
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", seeds=(2,))]
    for run in runs:
        (run / "results" / "sts7.items.json").unlink()
    (comparison,) = read_report(runs).comparisons
    ours, theirs = (values(sts_result(0.3, seed)) for seed in (2, 1))
    assert [row.difference for row in comparison.rows] == pytest.approx([ours[key] - theirs[key] for key in ours])
    assert {row.verdict for row in comparison.rows} == {"not tested"}
    assert comparison.warnings[-1].endswith("SICK-R: what each item scored is not among the results")


def test_a_run_is_tested_against_the_model_it_began_with(tmp_path: Path) -> None:
    """Scores before and after training are of the same items; the model had no seed, so each seed is paired with it."""
    run = make_run(tmp_path / "run", 0.2, seeds=(1, 2))
    before = sts_result(0.5, 9)
    write_result(before, run / "results" / "before-sts7.json")
    comparison = of_suite(read_report([run]))
    assert (comparison.run, comparison.other) == ("run", "run, before")
    assert comparison.seeds == [(1, None), (2, None)]
    after = [sts_result(0.2, seed) for seed in (1, 2)]
    for row, task in zip(comparison.rows[1:], TASKS, strict=True):
        key = f"{task} Spearman"
        expected = paired_test({key: [of.items[key] for of in after]}, {key: [before.items[key]] * 2})
        assert row.difference == pytest.approx(expected.difference) and row.ci95 == pytest.approx(expected.ci95)
        assert row.other == (values(before)[key], None) and row.verdict == "better"
    page = page_of(run, output=tmp_path / "out")
    assert "sts7: run minus run, before" in page.text and "Seeds 1, 2" in page.text


def test_a_base_model_that_a_run_began_with_is_not_measured_again(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", 0.3), make_run(tmp_path / "b", 0.2)
    write_result(sts_result(0.5, 9), b / "results" / "before-sts7.json")
    write_result(geometry_result(9), b / "results" / "before-geometry.json")
    report = read_report([a, b], bases=["bert"])
    assert [run.name for run in report.runs] == ["bert", "a", "b"]
    compared = [(c.run, c.other) for c in report.comparisons if c.suite == "sts7"]
    assert compared == [("a", "bert"), ("b", "bert")], "b minus what it started from is the same comparison"
    text = Text(write_report(report, tmp_path / "out").read_text()).text
    assert "sts7: a minus bert" in text and "as it was before training" in text


# --- the page


def test_the_page_s_figures_are_those_of_the_results_and_of_nothing_else(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_result(sts_result(0.5, 9), run / "results" / "before-sts7.json")
    whole = page_of(run, output=tmp_path / "whole")
    for name in ("recipe.yaml", "metrics.jsonl"):
        (run / name).unlink()
    write_json(run / "manifest.json", {"seed": 1})
    alone = page_of(run, output=tmp_path / "alone")
    scores = whole.text[whole.text.index("Scores") : whole.text.index("Training")]
    geometry = whole.text[whole.text.index("Geometry") :]
    assert "STS12" in scores and "effective rank" in scores and "sentences and" in geometry
    assert scores in alone.text and geometry in alone.text
    for file, change in (
        ("sts7.json", lambda scores: scores["STS13 Spearman"].update(value=12.34)),
        ("before-sts7.json", lambda scores: scores["STS13 Spearman"].update(ci95=[23.45, 34.56])),
        ("geometry.json", lambda scores: scores["sentences effective rank"].update(value=4.567)),
    ):
        document = json.loads((run / "results" / file).read_text())
        change({f"{one['name']} {one['metric']}": one for one in document["scores"]})
        write_json(run / "results" / file, document)
    changed = page_of(run, output=tmp_path / "changed").text
    for figure in ("12.34", "23.45 to 34.56", "4.567"):
        assert figure in changed and figure not in alone.text


def test_page_has_every_figure_of_the_results(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a", 0.3), make_run(tmp_path / "b", 0.2, seeds=(1, 2))]
    report = read_report(runs)
    page = page_of(*runs, output=tmp_path / "out")
    for shown in report.runs[0].first.results.scores("sts7").values():
        assert f"{shown.value:.2f}" in page.text
    assert "(40.00 to 90.00)" in page.text
    averages = [seed.results.scores("sts7")["average Spearman"].value for seed in report.runs[1].seeds.values()]
    assert f"{np.mean(averages):.2f} ± {np.std(averages, ddof=1):.2f}" in page.text
    for row in of_suite(report).rows:
        assert f"{row.difference:+.2f}" in page.text and f"{row.p_value:.3f}" in page.text
    found = geometry_layout(1).geometry
    for figure in (found.alignment.value, found.effective_rank, found.density_ratio.sigma):
        assert f"{figure:.4g}" in page.text
    for word in (
        "cpu, float32",
        "71.25 (stsb-dev spearman) at step 4",
        "verdict",
        "objective fmicl",
        "a cat",
        load_suite("sts7").protocol,
    ):
        assert word in page.text


def test_scores_before_training_stand_beside_those_after(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 0.2)
    before = sts_result(0.5, 9)
    write_result(before, run / "results" / "before-sts7.json")
    write_result(geometry_result(9), run / "results" / "before-geometry.json")
    page = page_of(run, output=tmp_path / "out")
    assert "run, before" in page.text and f"{values(before)['average Spearman']:.2f}" in page.text
    (read,) = read_runs([run])
    assert asdict(layout(read.before)[1].geometry) == asdict(geometry_layout(9).geometry)


def test_page_needs_no_network_and_runs_nothing(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run"), output=tmp_path / "out", published=("simcse",))
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "base", "form"}
    for tag, attributes in page.tags:
        for name in ("src", "srcset", "href"):
            assert name not in attributes or str(attributes[name]).startswith("data:image/svg+xml;base64,"), tag
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_hostile_names_and_texts_are_text(tmp_path: Path, drawn: None) -> None:
    """Each string that comes from data, models or recipes is markup, a template and mathematics that does not parse."""
    run = make_run(tmp_path / f"a {EVIL.replace('/', '')}")
    for name in ("geometry.json", "before-geometry.json"):
        write_result(geometry_result(1, sentence=EVIL, data=EVIL), run / "results" / name)
    document = json.loads((run / "results" / "sts7.json").read_text())
    document["scores"][1] |= {"name": EVIL, "metric": EVIL, "no_interval": EVIL}
    hostile = {"protocol": EVIL, "missing": {EVIL: EVIL}, "facts": {EVIL: EVIL}, "versions": {EVIL: EVIL}}
    write_json(run / "results" / "sts7.json", document | hostile)
    write_json(run / "results" / f"{EVIL.replace('/', '')}.json", {"a": EVIL})
    manifest = json.loads((run / "manifest.json").read_text())
    hostile = {"device": EVIL, "versions": {EVIL: EVIL}, "state": EVIL, "best": {"step": 1, EVIL: 1}}
    write_json(run / "manifest.json", manifest | hostile)
    write_text(run / "recipe.yaml", json.dumps({"model": {"base": EVIL}, "loss": {EVIL: EVIL}}))
    other = make_run(tmp_path / "other")
    page = page_of(other, run, output=tmp_path / "out", published=("fmicl",))
    assert EVIL in page.text
    assert "49" not in re.findall(r"\b49\b", page.text.replace(EVIL, ""))
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_every_picture_is_in_the_page_for_both_themes_and_beside_it(tmp_path: Path, drawn: None) -> None:
    page = page_of(make_run(tmp_path / "a"), make_run(tmp_path / "b"), output=tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").glob("report-*.png"))
    assert names == sorted(
        f"report-{name}.png"
        for name in (
            "positive-term negative-term learning-rate development difference-1 plane "
            "cosines-1 cosines-2 density-ratio-1 density-ratio-2"
        ).split()
    )
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    dark = [attributes for tag, attributes in page.tags if tag == "source"]
    assert len(images) == len(dark) == len(names)
    assert all(image["alt"] for image in images)
    assert all(a["srcset"] != b["src"] for a, b in zip(dark, images, strict=True))


def test_pictures_are_the_same_each_time_and_well_formed(drawn: None) -> None:
    def draw(axes) -> None:
        plots.draw_curves(axes, "title", {EVIL: [([1, 2], [3, 4])], "other": [([1, 2], [4, 3])]})

    first = plots.svg(draw, "dark")
    assert first == plots.svg(draw, "dark") != plots.svg(draw, "light")
    root = ElementTree.fromstring(first)
    assert not [element for element in root.iter() if element.tag.endswith("script")]


def test_a_training_that_logged_nothing_has_a_picture_all_the_same(tmp_path: Path, drawn: None) -> None:
    plots.plot_training([{"step": 4, "train_loss": 0.5}], tmp_path / "training.png", title="short")
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")


def test_density_ratio_is_drawn_from_the_counts() -> None:
    from matplotlib.figure import Figure

    found = geometry_layout(1).geometry
    axes = Figure().add_subplot()
    plots.draw_density_ratio(axes, found)
    line = next(line for line in axes.get_lines() if line.get_label().startswith("Gaussian"))
    (x0, x1), (y0, y1) = line.get_data()
    assert (y1 - y0) / (x1 - x0) == pytest.approx(-1 / (2 * found.density_ratio.sigma**2))
    points = axes.containers[0].lines[0].get_xydata()
    positive, random = np.array(found.histograms.positive), np.array(found.histograms.random)
    known = (positive > 0) & (random > 0)
    ratio = np.log(positive[known] / positive.sum()) - np.log(random[known] / random.sum())
    assert points[:, 1] == pytest.approx(ratio)


def test_differences_have_the_colour_of_their_verdict() -> None:
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    rows = {
        "up": (1.0, (0.5, 1.5), "better"),
        "down": (-1.0, (-1.5, -0.5), "worse"),
        "by chance": (1.0, (0.1, 2), "inside the noise"),
        "also by chance": (-1.0, (-2, 1), "inside the noise"),
        "untested": (1.0, None, "not tested"),
    }
    plots.draw_differences(axes, "title", rows)
    dots = [line.get_color() for line in axes.get_lines() if line.get_marker() == "o"]
    assert dots[:2] == list(plots.COLOURS[:2])
    assert dots[2] == dots[3] and len({*dots}) == 4, "Holm's p decides, not the interval of one test by itself"


def test_an_unfinished_run_without_results_says_what_is_not_there(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_json(run / "manifest.json", {"state": "running", "seed": 3, "started": "2026-01-01T10:00:00+00:00"})
    page = page_of(run, output=tmp_path / "out")
    assert "no scores" in page.text and "no geometry" in page.text and "running" in page.text


def test_no_report_is_overwritten_unasked(tmp_path: Path) -> None:
    report = read_report([make_run(tmp_path / "run")])
    write_report(report, tmp_path / "run")
    with pytest.raises(InputError, match="--overwrite"):
        write_report(report, tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        write_report(report, tmp_path / "file")


def test_overwriting_deletes_the_pictures_of_the_report_and_no_others(tmp_path: Path) -> None:
    """Two runs have pictures of differences, one run has none."""
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    out = tmp_path / "out"
    write_report(read_report([first, second]), out)
    of_two = {file.name for file in out.glob("report-*.png")}
    (out / "report-of-mine.png").write_bytes(b"mine")
    write_report(read_report([first]), out, overwrite=True)
    of_one = {file.name for file in out.glob("report-*.png")} - {"report-of-mine.png"}
    assert (out / "report-of-mine.png").read_bytes() == b"mine"
    assert of_two - of_one == {"report-difference-1.png", "report-cosines-1.png", "report-cosines-2.png"} | {
        "report-density-ratio-1.png",
        "report-density-ratio-2.png",
    }
    (out / "report.html").unlink()
    with pytest.raises(InputError, match=r"report-plane\.png: already there, and of no report"):
        write_report(read_report([first]), out)
    assert not (out / "report.html").exists()


def test_a_report_may_be_a_file(tmp_path: Path) -> None:
    page = write_report(read_report([make_run(tmp_path / "run")]), tmp_path / "pages" / "mine.html")
    assert page == tmp_path / "pages" / "mine.html" and page.read_text().startswith("<!DOCTYPE html>")
    assert (tmp_path / "pages" / "mine-plane.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"mine\.html already exists"):
        write_report(read_report([tmp_path / "run"]), page)


# --- published figures


@pytest.mark.parametrize("name", published_names())
def test_published_tables_are_sound(name: str) -> None:
    figures = load_published(name)
    keys = [(f.method, f.encoder, f.training) for f in figures]
    assert len(set(keys)) == len(keys)
    for figure in figures:
        assert figure.source and figure.caveat and figure.training in ("none", "unsupervised", "supervised")
        assert re.search(r"arXiv \d{4}\.\d{5}|github\.com/", figure.source), "a paper or a repository"
        assert len(figure.tasks) in (0, 7)
        if figure.tasks and figure.sd is None:
            assert figure.average == pytest.approx(np.mean(list(figure.tasks.values())), abs=0.015)


def test_a_run_stands_among_the_published_figures_with_the_caveats(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    page = page_of(run, output=tmp_path / "out", published=("simcse", "fmicl"))
    average = read_runs([run])[0].first.results.scores("sts7")["average Spearman"].value
    order = [
        float(x) for x in re.findall(r"unsupervised\s*(\d\d\.\d\d)|this run\s*(\d\d\.\d\d)", page.text) for x in x if x
    ]
    assert f"{average:.2f}" in page.text and order == sorted(order, reverse=True) and len(order) == 4 + 9 + 1
    for caveat in ("SimCSE's protocol", "public reruns", "compare with a SimCSE run of your own"):
        assert caveat in page.text
    for file in (run / "results").glob("sts7*"):
        file.unlink()
    text = page_of(run, output=tmp_path / "again", published=("simcse",)).text
    assert f"fmicl eval sts {run} --output {run}/results/sts7.json" in text


def test_an_unknown_or_broken_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape('no published table "simcs" (did you mean "simcse"?)')):
        load_published("simcs")
    broken = tmp_path / "mine.csv"
    broken.write_text("method,average\nmine,80\n")
    with pytest.raises(InputError, match=r"mine\.csv, line 2"):
        load_published(str(broken))


# --- from training to the page


def test_a_trained_run_has_all_that_a_report_shows(tmp_path: Path, tiny_encoder_path: Path, capsys) -> None:
    """`geometry` in evaluate.after, and suites, leave everything: one command trains, one reports."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from words import WORDS

    rng = np.random.default_rng(0)
    sentences = [" ".join(rng.choice(WORDS, 6)) for _ in range(60)]
    rows = {"split": [], "sentence1": [], "sentence2": [], "score": []}
    for split, n in (("dev", 1500), ("test", 1379)):
        first, second = rng.integers(60, size=(2, n))
        rows["split"] += [split] * n
        rows["sentence1"] += [sentences[i] for i in first]
        rows["sentence2"] += [sentences[i] for i in second]
        rows["score"] += [4.5 if i % 6 == j % 6 else 1.0 for i, j in zip(first, second, strict=True)]
    (tmp_path / "sts").mkdir()
    pq.write_table(pa.table(rows), tmp_path / "sts" / "stsb.parquet")
    (tmp_path / "train.txt").write_text("\n".join(sentences) + "\n")
    recipe = {
        "name": "tiny",
        "model": {"base": str(tiny_encoder_path)},
        "data": {"train": str(tmp_path / "train.txt"), "columns": {"anchor": "text"}, "views": "dropout"},
        "loss": {"objective": "fmicl"},
        "train": {"per_device_train_batch_size": 16, "max_steps": 4, "logging_steps": 1},
        "evaluate": {"every_steps": 2, "before": True, "after": ["stsb", "geometry"], "data": str(tmp_path)},
        "seeds": [1, 2],
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    run = tmp_path / "run"
    assert main(["train", str(tmp_path / "recipe.yaml"), "--output", str(run)]) == 0
    assert main(["report", str(run)]) == 0
    assert f"page     {run / 'report.html'}" in capsys.readouterr().out.replace("\n", " ")
    page = Text((run / "report.html").read_text(encoding="utf-8"))
    assert "run, before" in page.text and "Not shown" not in page.text
    names = {path.name for path in run.glob("report-*.png")}
    assert {"report-positive-term.png", "report-development.png", "report-plane.png", "report-cosines.png"} <= names
    (read,) = read_runs([run])
    assert read.results().keys() == read.before.by_title.keys() == {"stsb", "geometry"}
    report = read_report([run])
    assert [(c.suite, c.run, c.other) for c in report.comparisons] == [("stsb", "run", "run, before")]
    assert all(row.p_value is not None for row in of_suite(report, "stsb").rows)
    weights = json.loads((run / "seed-1" / "manifest.json").read_text())["weights_step"]
    assert weights in (2, 4) and f"step {weights}" in page.text


def test_a_base_model_is_measured_as_the_run_was_and_once(tmp_path: Path, tiny_encoder_path: Path, capsys) -> None:
    from words import WORDS

    rng = np.random.default_rng(0)
    lines = [f"{' '.join(rng.choice(WORDS, 5))},{rng.random()}" for _ in range(30)]
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("sentence1,sentence2,score\n" + "".join(f"{' '.join(rng.choice(WORDS, 5))},{x}\n" for x in lines))
    (tmp_path / "train.csv").write_text("a,b\n" + "".join(f"{x} {i},{x}\n" for i, x in enumerate(WORDS[:12])))
    recipe = {
        "name": "tiny",
        "model": {"base": str(tiny_encoder_path)},
        "data": {"train": str(tmp_path / "train.csv"), "columns": {"anchor": "a", "positive": "b"}},
        "loss": {"objective": "infonce"},
        "train": {"per_device_train_batch_size": 6, "max_steps": 2, "logging_steps": 1, "learning_rate": 1e-2},
        "evaluate": {"during": None, "after": [str(pairs)]},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    run = tmp_path / "run"
    assert main(["train", str(tmp_path / "recipe.yaml"), "--output", str(run)]) == 0
    base = str(tiny_encoder_path)
    capsys.readouterr()
    assert main(["report", str(run), "--base", base, "--json"]) == 0
    (comparison,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert (comparison["run"], comparison["other"]) == ("run", base)
    assert all(row["p_value"] is not None for row in comparison["rows"] if row["score"] == "Spearman")
    (kept,) = (run / "bases").glob("*/results/pairs.json")
    written = kept.stat().st_mtime_ns
    assert main(["report", str(run), "--base", base, "--overwrite"]) == 0
    assert kept.stat().st_mtime_ns == written
    (run / "recipe.yaml").unlink()
    assert main(["report", str(run), "--base", "nowhere/nothing", "--overwrite"]) == 2
    assert "has no recipe.yaml" in capsys.readouterr().err


def test_what_is_there_is_replaced_and_links_are_not_followed(tmp_path: Path) -> None:
    report = read_report([make_run(tmp_path / "run")])
    folder = tmp_path / "out"
    folder.mkdir()
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for name in ("report.html", "report-positive-term.png"):
        (folder / name).symlink_to(precious)
    with pytest.raises(InputError, match="--overwrite"):
        write_report(report, folder)
    write_report(report, folder, overwrite=True)
    assert precious.read_text() == "mine"
    assert not (folder / "report.html").is_symlink()
    assert (folder / "report-positive-term.png").read_bytes().startswith(b"\x89PNG")
    (folder / "report-plane.png").unlink()
    (folder / "report-plane.png").symlink_to(precious)
    write_report(report, folder, overwrite=True)
    assert precious.read_text() == "mine" and not (folder / "report-plane.png").is_symlink()


@pytest.mark.parametrize(
    ("manifest", "train", "weights"),
    [
        ({"steps": 118, "best": {"step": 59, "x": 1}}, {}, "step 59, the best on the development set"),
        (
            {"steps": 118, "best": {"step": 59, "x": 1}},
            {"load_best_model_at_end": False},
            "step 118 (the last); the best on the development set was step 59",
        ),
        ({"steps": 118, "best": {"step": 118}}, {}, "step 118 (the last), the best on the development set"),
        (
            {"steps": 118, "weights_step": 118, "best": {"step": 59}},
            {},
            "step 118 (the last); the best on the development set was step 59",
        ),
        ({"steps": 1180, "best": None}, {}, "step 1,180 (the last)"),
        ({}, {}, None),
    ],
)
def test_the_weights_of_a_run_are_named(manifest, train, weights) -> None:
    assert Manifest.model_validate({"seed": 1} | manifest).weights(train) == weights


def test_rows_that_are_equal_are_explained_and_others_are_not(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    different = page_of(run, output=tmp_path / "different").text
    assert "Pearson's and Tsallis's bounds are equal" in different, "of order 2 they always are"
    assert "Wasserstein uniformity and anisotropy are equal" not in different
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(60, 12)) + 5  # in one corner of the sphere
    found = Layout(geometry=geometry(embeddings, np.arange(40).reshape(20, 2)))
    result = geometry_result(1).result
    update = {"scores": geometry_scores(found.geometry), "details": found.model_dump(mode="json")}
    write_result(Measured(result.model_copy(update=update), {}), run / "results" / "geometry.json")
    assert "Wasserstein uniformity and anisotropy are equal" in page_of(run, output=tmp_path / "equal").text


def test_settings_without_a_value_have_no_row(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_text(run / "recipe.yaml", json.dumps({"model": {"base": "bert", "pooling": None, "head": "none"}}))
    text = page_of(run, output=tmp_path / "out").text.partition("What was run")[2].partition("recipe of")[0]
    assert "encoder" in text and "pooling" not in text and "head" not in text


def test_one_development_score_is_a_point_on_an_axis_of_whole_steps() -> None:
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    plots.draw_curves(axes, "development", {"run": [([59], [0.8])]})
    (line,) = axes.get_lines()
    assert line.get_marker() == "o" and line.get_markersize() > 4
    low, high = axes.get_xlim()
    assert low == 0 and high > 59
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


def test_a_nearly_constant_curve_looks_constant_and_has_its_values_in_full() -> None:
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    plots.draw_curves(axes, "positive", {"run": [([1, 2, 3], [-12.000001, -12.0, -12.000002])]})
    low, high = axes.get_ylim()
    assert high - low == pytest.approx(0.24) and (low + high) / 2 == pytest.approx(-12)
    assert not axes.yaxis.get_major_formatter().get_useOffset()
    axes = Figure().add_subplot()
    plots.draw_curves(axes, "positive", {"run": [([1, 2], [1.0, 3.0])]})
    assert axes.get_ylim()[0] < 1 and axes.get_ylim()[1] > 3


def test_training_arguments_without_effect_are_not_shown(tmp_path: Path) -> None:
    train = {"max_steps": 4, "num_train_epochs": 3, "bf16": True, "learning_rate": 1e-5}
    known = Manifest.model_validate({"seed": 1, "precision": "float32"})
    assert known.in_effect(train) == {"max_steps": 4, "learning_rate": 1e-5}
    on_gpu = Manifest.model_validate({"seed": 1, "precision": "bfloat16 autocast"})
    assert on_gpu.in_effect(train | {"max_steps": -1}) == {"num_train_epochs": 3, "bf16": True, "learning_rate": 1e-5}
    run = make_run(tmp_path / "run")
    write_text(run / "recipe.yaml", json.dumps({"model": {"base": "bert"}, "train": train}))
    text = page_of(run, output=tmp_path / "out").text.partition("What was run")[2].partition("recipe of")[0]
    assert "max_steps 4" in text and "num_train_epochs" not in text and "bf16" not in text


@pytest.mark.filterwarnings("error")
def test_names_in_any_script_are_drawn_without_warnings(tmp_path: Path, drawn: None, caplog) -> None:
    name = "模型 モデル 모델 نموذج 🙂"

    def draw(axes) -> None:
        plots.draw_curves(axes, name, {name: [([1, 2], [3, 4])], "other": [([1, 2], [4, 3])]})

    plots.save_png(tmp_path / "a.png", draw, title=name)
    assert name[:5] in plots.svg(draw, "dark")
    assert not [record for record in caplog.records if "findfont" in record.message]


def test_pictures_use_the_installed_fonts_that_have_what_is_missing(monkeypatch, drawn: None) -> None:
    import matplotlib
    from matplotlib import font_manager

    monkeypatch.setattr(font_manager, "get_font_names", lambda: ["DejaVu Sans", "IPAGothic", "Comic Sans"])
    families: list[str] = []
    plots.svg(lambda axes: families.extend(matplotlib.rcParams["font.family"]), "light")
    assert families == ["DejaVu Sans", "IPAGothic"]


def test_results_of_every_kind_are_shown_by_their_own_metric(tmp_path: Path) -> None:
    """One sample of each kind, as version 0.1 wrote it."""
    run = make_run(tmp_path / "run")
    samples = Path(__file__).parents[1] / "evaluation" / "format_1"
    for name in ("transfer", "pairs-label", "pairs-score", "mteb", "heldout"):
        for file in samples.glob(f"{name}.*"):
            (run / "results" / file.name).write_bytes(file.read_bytes())
    document = json.loads((run / "results" / "pairs-score.json").read_text())
    write_json(run / "results" / "pairs-score.json", document | {"file": "scored.csv"})
    text = page_of(run, output=tmp_path / "out").text
    for words in (
        "58.33 (46.67 to 70.00)",  # transfer, MR
        "MR accuracy",
        "52.63",  # F1 of MRPC
        "TREC is missing: no file transfer/trec.parquet",
        "own (mteb)",
        "21.49 (-42.51 to 77.69)",  # mteb's 0.214894, in percent
        "MineSearch nDCG@10",
        "47.22 (6.22 to 85.73)",  # ROC AUC of the labelled pairs
        "0.8543",  # the threshold is no percentage
        "scored.csv (pairs)",
        "Kendall tau-b",
        "17.02 (12.30 to 21.33)",  # MRR@10
    ):
        assert words in text, words
