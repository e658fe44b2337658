"""Reports of runs: what is read, how runs compare, what the page and its pictures say and never do."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.stats import spearmanr

from fmicl_text.cli import main
from fmicl_text.errors import InputError
from fmicl_text.evaluation.geometry import GeometryResult, Neighbours, geometry
from fmicl_text.evaluation.items import Items, score, write_result
from fmicl_text.evaluation.paired import paired_test
from fmicl_text.evaluation.retrieval import RetrievalResult
from fmicl_text.evaluation.sts import StsResult, TaskScore
from fmicl_text.evaluation.suites import load_suite
from fmicl_text.evaluation.transfer import TaskAccuracy, TransferResult
from fmicl_text.files import write_json, write_text
from fmicl_text.report import read_report, write_report
from fmicl_text.report.published import TASKS, load_published, published_names
from fmicl_text.report.runs import read_runs
from fmicl_text.runs import plots

N = 300
EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)"> $\\frac{1}{$ {{ 7 * 7 }}'


def sts_result(noise: float, seed: int, tasks: tuple[str, ...] = TASKS) -> StsResult:
    """A result on sts7 of a system that sees the gold scores through noise."""
    gold = {task: np.random.default_rng(i).integers(0, 26, N) / 5 for i, task in enumerate(tasks)}
    rng = np.random.default_rng(seed)
    similarities = {t: (g / 5 + rng.normal(scale=noise, size=N)).astype(np.float32) for t, g in gold.items()}
    scores = {t: TaskScore(100 * spearmanr(gold[t], similarities[t]).statistic, N, (40.0, 90.0)) for t in tasks}
    missing = {task: "no file" for task in TASKS if task not in tasks}
    return StsResult(
        model="model",
        revision=None,
        suite=load_suite("sts7"),
        data="Hub",
        max_seq_length=32,
        tasks=scores,
        missing=missing,
        gold=gold,
        similarities=similarities,
    )


@functools.cache
def geometry_result(seed: int, sentence: str = "a dog") -> GeometryResult:
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(60, 12))
    positives = np.arange(40).reshape(20, 2)
    embeddings[1:40:2] = embeddings[0:40:2] + rng.normal(scale=0.8, size=(20, 12))
    return GeometryResult(
        "m", None, "STS-B", 32, geometry(embeddings, positives), [Neighbours(sentence, {"a cat": 0.5})]
    )


def make_run(folder: Path, noise: float = 0.3, seeds: tuple[int, ...] = (1,), name: str = "tiny", **parts) -> Path:
    """A run folder as `fmicl train` leaves it; ``parts`` are handed to the results."""
    for seed in seeds:
        path = folder / f"seed-{seed}" if len(seeds) > 1 else folder
        best = {"step": 4, "stsb-dev spearman": 71.25}
        times = {"started": "2026-01-01T10:00:00+00:00", "ended": "2026-01-01T10:03:00+00:00"}
        manifest = {"state": "done", "seed": seed, "device": "cpu", "precision": "float32", "steps": 4, "best": best}
        write_json(path / "manifest.json", {**manifest, **times, "versions": {"torch": "2"}})
        logs = [{"step": s, "positive": 1 / s, "negative": 0.1, "learning_rate": 1e-5 / s} for s in (1, 2, 3, 4)]
        logs += [{"step": 4, "eval_stsb-dev_spearman_cosine": 0.7125}]
        write_text(path / "metrics.jsonl", "".join(json.dumps(log) + "\n" for log in logs))
        write_result(sts_result(noise, seed, **parts), path / "results" / "sts7.json")
        write_json(path / "results" / "geometry.json", geometry_result(seed).document())
    recipe = {"name": name, "model": {"base": "bert"}, "loss": {"objective": "fmicl", "kernel": {"sigma": 0.25}}}
    write_text(folder / "recipe.yaml", json.dumps(recipe))
    return folder


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
    scores = results.tables["sts7"].scores
    for task in TASKS:
        assert scores[task].value == expected.tasks[task].spearman
        (read,) = results.items["sts7"][task]
        assert read.values.astype(np.float32).tolist() == expected.similarities[task].tolist()
        again = 100 * spearmanr(read.gold, read.values).statistic
        assert again == pytest.approx(expected.tasks[task].spearman, abs=1e-9), "ranks and ties are kept"
    assert scores["average"].value == pytest.approx(expected.average)
    assert asdict(results.geometry.geometry) == asdict(geometry_result(2).geometry)
    assert run.seeds[1].minutes == 3


def test_an_incomplete_suite_has_no_average(tmp_path: Path) -> None:
    (run,) = read_runs([make_run(tmp_path / "run", tasks=TASKS[:3])])
    assert "average" not in run.tables()["sts7"][0].scores
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
        ("manifest.json", "[]", "manifest of a run"),
        ("manifest.json", '{"state": "done"}', "manifest.json: not the manifest of a run: seed: Field required"),
        ("manifest.json", '{"seed": 1, "ended": "soon"}', "manifest.json: not the manifest of a run: ended"),
        ("manifest.json", '{"seed": 1, "best": {"stsb-dev spearman": "high"}}', "best.stsb-dev spearman"),
        ("metrics.jsonl", "nonsense\n", "metrics.jsonl: not the log"),
        ("metrics.jsonl", '{"step": 1}\n{"positive": 1}\n', "metrics.jsonl:2: not an entry of the log"),
        ("metrics.jsonl", '{"step": 1, "negative": null}\n', "metrics.jsonl:1: not an entry of the log"),
        ("recipe.yaml", "a: [", "recipe.yaml:1: not YAML"),
        ("results/sts7.json", '{"suite": "sts7"}', "sts7.json: not a result that fmicl wrote: protocol"),
        ("results/geometry.json", '{"geometry": {}}', "geometry.json: not a result"),
        ("results/again.json", None, "are both results of sts7"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, file: str, content: str | None, message: str) -> None:
    run = make_run(tmp_path / "run")
    (run / file).write_text(content or (run / "results" / "sts7.json").read_text())
    with pytest.raises(InputError, match=re.escape(message)):
        read_runs([run])


@pytest.mark.parametrize(
    ("positive", "message"),
    [([1] * 49, "must have a count between each two edges"), ([0] * 50, "must count positive pairs")],
)
def test_histograms_that_cannot_be_drawn_are_refused(tmp_path: Path, positive: list[int], message: str) -> None:
    run = make_run(tmp_path / "run")
    file = run / "results" / "geometry.json"
    document = json.loads(file.read_text())
    document["geometry"]["histograms"]["positive"] = positive
    file.write_text(json.dumps(document))
    with pytest.raises(InputError, match=f"geometry.json: not a result that fmicl wrote: geometry: .*{message}"):
        read_runs([run])


def test_a_run_without_its_start_or_end_has_no_minutes(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (run,) = read_runs([folder])
    assert run.first.minutes == 3
    write_json(folder / "manifest.json", {"seed": 1, "ended": "2026-01-01T10:03:00+00:00"})
    (run,) = read_runs([folder])
    assert run.first.minutes is None


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_runs([tmp_path, tmp_path / "nowhere"])
    assert len(caught.value.problems) == 2 and "neither manifest.json" in caught.value.problems[1]


def test_results_of_another_kind_are_named_not_guessed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_json(run / "results" / "other.json", {"something": "else"})
    assert "results of another kind are not shown: other.json" in page_of(run, output=tmp_path / "out").text


# --- comparisons


def test_comparison_is_the_paired_test_of_each_task_over_the_seeds_both_have(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", 0.25, seeds=(1, 2, 3)), make_run(tmp_path / "b", 0.3, seeds=(2, 3, 4))
    (comparison,) = read_report([b, a]).comparisons
    assert (comparison.run, comparison.other, comparison.seeds) == ("a", "b", [(2, 2), (3, 3)])
    assert any("only 2 of the seeds" in warning for warning in comparison.warnings)
    rows = {row.score: row for row in comparison.rows}
    assert list(rows) == [*TASKS, "average"]
    ours, theirs = ([sts_result(noise, seed) for seed in (2, 3)] for noise in (0.25, 0.3))
    for task in (*TASKS, "average"):
        tasks = [task] if task in TASKS else list(TASKS)
        expected = paired_test(*({t: [seed.items[t] for seed in run] for t in tasks} for run in (ours, theirs)))
        assert rows[task].difference == pytest.approx(expected.difference)
        assert rows[task].ci95 == pytest.approx(expected.ci95)
        assert rows[task].p_value >= expected.p_value
    means = [np.mean([seed.tasks["STS12"].spearman for seed in run]) for run in (ours, theirs)]
    assert (rows["STS12"].run[0], rows["STS12"].other[0]) == pytest.approx(means)


def test_what_chance_could_have_made_is_called_noise(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", 0.3, seeds=(1, 2, 3))
    same, better = make_run(tmp_path / "same", 0.3, seeds=(4, 5, 6)), make_run(tmp_path / "better", 0.1, (1, 2, 3))
    like, unlike = read_report([a, same, better]).comparisons
    assert all(row.inside_noise for row in like.rows)
    assert like.warnings[0].startswith("inside the noise: STS12, ")
    assert not any(row.inside_noise for row in unlike.rows)
    assert all(row.difference > 0 for row in unlike.rows) and unlike.warnings[0].startswith("3 seeds: so few")


def test_one_seed_each_is_warned_of_and_other_seeds_are_paired_in_order(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", 0.3, seeds=(1,)), make_run(tmp_path / "b", 0.3, seeds=(7,))
    (comparison,) = read_report([a, b]).comparisons
    assert comparison.seeds == [(7, 1)]
    assert any("one seed each" in warning for warning in comparison.warnings)


def test_without_the_same_pairs_there_is_no_test(tmp_path: Path) -> None:
    a, b, c = (make_run(tmp_path / name, 0.3) for name in "abc")
    (b / "results" / "sts7.items.json").unlink()
    path = c / "results" / "sts7.items.json"
    document = json.loads(path.read_text())
    document["items"]["STS12"][0]["gold"][0] += 1
    write_json(path, document)
    untested, other = read_report([a, b, c]).comparisons
    assert {row.inside_noise for row in untested.rows} == {None}
    assert "what each item scored is not among the results" in untested.warnings[-1]
    assert {row.score for row in other.rows if row.inside_noise is None} == {"STS12", "average"}
    assert "no paired test of STS12: the runs were scored on other items" in other.warnings[-1]


def test_right_and_wrong_and_ranks_are_tested_as_similarities_are(tmp_path: Path) -> None:
    """Transfer, retrieval of held-out pairs and mteb leave items too, in the same form; what has none is said."""
    rng = np.random.default_rng(0)

    def transfer(accuracy: float) -> TransferResult:
        items = {task: (Items("mean", 1.0 * (rng.random(400) < accuracy), source="rows"),) for task in ("MR", "TREC")}
        scores = {task: TaskAccuracy(score(parts), 400, (0, 100), [1.0]) for task, parts in items.items()}
        return TransferResult("m", None, "Hub", 32, scores, {}, items)

    def heldout(accuracy: float, source: str) -> RetrievalResult:
        first = (Items("mean", 1.0 * (rng.random(300) < accuracy), source=source),)
        items = {"accuracy@1": first, "mrr@10": first}
        return RetrievalResult(300, 290, score(first), score(first), (0, 100), (0, 100), items)

    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    results = {run: (transfer(accuracy), heldout(accuracy, "these")) for run, accuracy in ((a, 0.9), (b, 0.6))}
    for run, (of_transfer, of_heldout) in results.items():
        write_result(of_transfer, run / "results" / "transfer.json")
        write_result(of_heldout, run / "results" / "heldout.json")
    by_suite = {comparison.suite: comparison for comparison in read_report([a, b]).comparisons}
    for suite, place, names in (("transfer", 0, ["MR", "TREC"]), ("heldout retrieval", 1, ["accuracy@1", "mrr@10"])):
        rows = by_suite[suite].rows
        assert [row.score for row in rows] == names
        for row in rows:
            ours, theirs = (results[run][place].items[row.score] for run in (b, a))
            expected = paired_test({row.score: [ours]}, {row.score: [theirs]})
            assert row.difference == pytest.approx(expected.difference) and row.ci95 == expected.ci95
            assert row.verdict == "differs" and row.difference < -20
    write_result(heldout(0.6, "others"), b / "results" / "heldout.json")
    (other,) = (c for c in read_report([a, b]).comparisons if c.suite == "heldout retrieval")
    assert other.warnings[-1] == "no paired test of accuracy@1, mrr@10: the runs were scored on other items"


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
    assert "STS12" in scores and "effective rank" in geometry
    assert scores in alone.text and geometry in alone.text
    for file, change in (
        ("sts7.json", lambda document: document["tasks"]["STS13"].update(spearman=12.34)),
        ("before-sts7.json", lambda document: document["tasks"]["STS13"].update(ci95=[23.45, 34.56])),
        ("geometry.json", lambda document: document["geometry"].update(effective_rank=4.567)),
    ):
        document = json.loads((run / "results" / file).read_text())
        change(document)
        write_json(run / "results" / file, document)
    changed = page_of(run, output=tmp_path / "changed").text
    for figure in ("12.34", "23.45 to 34.56", "4.567"):
        assert figure in changed and figure not in alone.text


def test_page_has_every_figure_of_the_results(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a", 0.3), make_run(tmp_path / "b", 0.2, seeds=(1, 2))]
    report = read_report(runs)
    page = page_of(*runs, output=tmp_path / "out")
    for shown in report.runs[0].tables()["sts7"][0].scores.values():
        assert f"{shown.value:.2f}" in page.text
    assert "(40.00 to 90.00)" in page.text
    values = [table.scores["average"].value for table in report.runs[1].tables()["sts7"]]
    assert f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}" in page.text
    for row in report.comparisons[0].rows:
        assert f"{row.difference:+.2f}" in page.text and f"{row.p_value:.3f}" in page.text
    found = report.runs[0].geometries()[0]
    for figure in (found.alignment.value, found.effective_rank, found.density_ratio.sigma):
        assert f"{figure:.4g}" in page.text
    for word in ("cpu, float32", "71.25 at step 4", "objective fmicl", "a cat", load_suite("sts7").protocol):
        assert word in page.text


def test_scores_before_training_stand_beside_those_after(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 0.2)
    before = sts_result(0.5, 9)
    write_result(before, run / "results" / "before-sts7.json")
    write_json(run / "results" / "before-geometry.json", geometry_result(9).document())
    page = page_of(run, output=tmp_path / "out")
    assert "run, before" in page.text and f"{before.average:.2f}" in page.text
    (read,) = read_runs([run])
    assert asdict(read.before.geometry.geometry) == asdict(geometry_result(9).geometry)


def test_page_needs_no_network_and_runs_nothing(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "run"), output=tmp_path / "out", published=("simcse",))
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "base", "form"}
    for tag, attributes in page.tags:
        for name in ("src", "srcset", "href"):
            assert name not in attributes or str(attributes[name]).startswith("data:image/svg+xml;base64,"), tag
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_hostile_names_and_texts_are_text(tmp_path: Path) -> None:
    """Each string that comes from data, models or recipes is markup, a template and mathematics that does not parse."""
    run = make_run(tmp_path / f"a {EVIL.replace('/', '')}")
    for name in ("geometry.json", "before-geometry.json"):
        write_json(run / "results" / name, geometry_result(1, sentence=EVIL).document() | {"data": EVIL})
    document = json.loads((run / "results" / "sts7.json").read_text())
    document["tasks"][EVIL] = document["tasks"].pop("STS12")
    write_json(run / "results" / "sts7.json", document | {"protocol": EVIL, "missing_reasons": {EVIL: EVIL}})
    write_json(run / "results" / f"{EVIL.replace('/', '')}.json", {"a": EVIL})
    manifest = json.loads((run / "manifest.json").read_text())
    write_json(run / "manifest.json", manifest | {"device": EVIL, "versions": {EVIL: EVIL}})
    write_text(run / "recipe.yaml", json.dumps({"model": {"base": EVIL}, "loss": {EVIL: EVIL}}))
    other = make_run(tmp_path / "other")
    page = page_of(other, run, output=tmp_path / "out", published=("fmicl",))
    assert EVIL in page.text
    assert "49" not in re.findall(r"\b49\b", page.text.replace(EVIL, ""))
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_every_picture_is_in_the_page_for_both_themes_and_beside_it(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "a"), make_run(tmp_path / "b"), output=tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").glob("report-*.png"))
    assert names == sorted(
        f"report-{name}.png"
        for name in (
            "positive-term negative-term learning-rate sts-b-dev difference-1 plane "
            "cosines-1 cosines-2 density-ratio-1 density-ratio-2"
        ).split()
    )
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    dark = [attributes for tag, attributes in page.tags if tag == "source"]
    assert len(images) == len(dark) == len(names)
    assert all(image["alt"] for image in images)
    assert all(a["srcset"] != b["src"] for a, b in zip(dark, images, strict=True))


def test_pictures_are_the_same_each_time_and_well_formed() -> None:
    def draw(axes) -> None:
        plots.draw_curves(axes, "title", {EVIL: [([1, 2], [3, 4])], "other": [([1, 2], [4, 3])]})

    first = plots.svg(draw, "dark")
    assert first == plots.svg(draw, "dark") != plots.svg(draw, "light")
    root = ElementTree.fromstring(first)
    assert not [element for element in root.iter() if element.tag.endswith("script")]


def test_a_training_that_logged_nothing_has_a_picture_all_the_same(tmp_path: Path) -> None:
    plots.plot_training([{"step": 4, "train_loss": 0.5}], tmp_path / "training.png", title="short")
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")


def test_density_ratio_is_drawn_from_the_counts() -> None:
    from matplotlib.figure import Figure

    found = geometry_result(1).geometry
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
        "better": (1.0, (0.5, 1.5), False),
        "worse": (-1.0, (-1.5, -0.5), False),
        "by chance": (1.0, (0.1, 2), True),
    }
    plots.draw_differences(
        axes, "title", rows | {"also by chance": (-1.0, (-2, 1), True), "untested": (1.0, None, None)}
    )
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
    (tmp_path / "run" / "report-old.png").write_bytes(b"")
    write_report(report, tmp_path / "run", overwrite=True)
    assert not (tmp_path / "run" / "report-old.png").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        write_report(report, tmp_path / "file")


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
    average = read_runs([run])[0].tables()["sts7"][0].scores["average"].value
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
    from conftest import WORDS

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
    assert {"report-positive-term.png", "report-sts-b-dev.png", "report-plane.png", "report-cosines.png"} <= names
    (read,) = read_runs([run])
    assert len(read.geometries()) == 2 and read.before.geometry is not None
    assert read.tables().keys() == {"stsb"}


def test_scores_of_mteb_transfer_tasks_and_own_pairs_are_shown_too(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    common = {"max_seq_length": 32, "versions": {}, "precision": "float32"}
    tasks = {"MR": {"accuracy": 81.25, "n": 100, "ci95": [80.0, 82.5], "C": [1.0]}}
    suite = {"suite": "transfer", "protocol": "SentEval", "tasks": tasks, "average": 81.25, "data": "Hub"}
    write_json(run / "results" / "transfer.json", suite | common)
    scores = {"auc": {"value": 91.5, "ci95": [90.0, 93.0]}}
    own = {"task": "pairs", "file": "my/own.csv", "gold": "label", "n": 50, "positives": 20, "scores": scores}
    write_json(run / "results" / "own.json", own | common)
    tasks = {
        "STS12": {"main_score": 0.71234, "n": 3108, "ci95": [0.7, 0.72], "no_interval": None},
        "Banking77": {"main_score": 0.8, "n": None, "ci95": None, "no_interval": "it was there already"},
    }
    mteb = {"suite": "mteb", "protocol": "mteb 2", "tasks": tasks, "average": 0.75617, "data": "Hub", "mteb_name": "m"}
    write_json(run / "results" / "mteb.json", mteb | common)
    text = page_of(run, output=tmp_path / "out").text
    assert "71.23 (70.00 to 72.00)" in text and "Banking77 has no interval: it was there already" in text
    assert "80.00" in text and "75.62" in text and "mteb 2" in text
    assert "81.25 (80.00 to 82.50)" in text and "SentEval" in text
    assert "pairs of own.csv" in text and "91.50 (90.00 to 93.00)" in text
