"""Every kind of evaluation by the registry alone: loaded, run, written, read again, and taken during training."""

from __future__ import annotations

import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from PIL import Image
from pydantic import TypeAdapter
from test_image_encoder import RESNET, encoder
from transfer_data import fit_roughly
from words import WORDS

from fmicl_text.errors import InputError
from fmicl_text.evaluation.items import Items, read_items, score, write_result
from fmicl_text.evaluation.kind import Effort, Given, choose_score
from fmicl_text.evaluation.metrics import PAIR_METRICS
from fmicl_text.evaluation.registry import KINDS, evaluation
from fmicl_text.evaluation.results import read_result
from fmicl_text.evaluation.scored_model import ScoredModel
from fmicl_text.evaluation.section import EvaluateSection
from fmicl_text.evaluation.transfer_tasks import HubPart, Part, TransferTask

pytestmark = pytest.mark.usefixtures("one_process")

SUITE = "name: small\nprotocol: a small protocol\ntasks:\n" + "".join(
    f"  - {{name: {name}, n: 20, file: {{path: {name}.parquet, splits: [test]}}}}\n" for name in "AB"
)
OWN = """name: own
tasks:
  - {name: Mine, type: sts, file: pairs.csv}
  - {name: Duplicates, type: pair-classification, file: pairs.csv}
"""
ASKED = {
    "sts": "suite.yaml",
    "own suite": "own.yaml",
    "heldout": "heldout",
    "scored pairs": "pairs.csv",
    "labelled pairs": {"name": "pairs.csv", "label": "label"},
    "transfer": {"name": "transfer", "tasks": ["MR", "MRPC"]},
    "geometry": "geometry",
    "geometry of a file": {"name": "geometry", "pairs": "pairs.csv", "columns": ["sentence1", "sentence2"]},
    "images": {"name": "images", "train": "sample:digits", "rows": 60, "k": 3},
    "mteb": {"name": "mteb", "tasks": ["STSBenchmark"], "data": "hub"},
}
"""What a recipe may ask for, of every kind."""


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Data of every kind in the current folder, and held-out pairs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTEB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    draw = random.Random(0)

    def sentences(n):
        return [" ".join(draw.choices(WORDS, k=draw.randint(4, 9))) for _ in range(n)]

    def pairs(n):
        scores = [draw.randint(0, 25) / 5 for _ in range(n)]
        return {"split": ["test"] * n, "sentence1": sentences(n), "sentence2": sentences(n), "score": scores}

    for name in "AB":
        pq.write_table(pa.table(pairs(20)), tmp_path / f"{name}.parquet")
    (tmp_path / "hub" / "mteb" / "stsbenchmark-sts").mkdir(parents=True)
    pq.write_table(pa.table(pairs(20)), tmp_path / "hub" / "mteb" / "stsbenchmark-sts" / "test.parquet")
    (tmp_path / "suite.yaml").write_text(SUITE)
    (tmp_path / "own.yaml").write_text(OWN)
    own = pairs(24)
    lines = [
        f"{a},{b},{gold},{index % 2}"
        for index, (a, b, gold) in enumerate(zip(own["sentence1"], own["sentence2"], own["score"], strict=True))
    ]
    (tmp_path / "pairs.csv").write_text("sentence1,sentence2,score,label\n" + "\n".join(lines))
    hub = HubPart("none", ("none",))
    tasks = {
        "MR": TransferTask("MR", 2, {"all": Part(40, ("all",), hub)}),
        "MRPC": TransferTask(
            "MRPC",
            2,
            {"train": Part(40, ("train",), hub), "test": Part(20, ("test",), hub)},
            ("sentence1", "sentence2"),
        ),
    }
    (tmp_path / "transfer").mkdir()
    for name, task in tasks.items():
        rows: dict[str, list] = {
            "split": [s for part in task.parts.values() for s in part.splits for _ in range(part.n)]
        }
        n = len(rows["split"])
        rows |= {column: sentences(n) for column in task.texts} | {"label": [i % 2 for i in range(n)]}
        pq.write_table(pa.table(rows), tmp_path / "transfer" / f"{name.lower()}.parquet")
    monkeypatch.setattr("fmicl_text.evaluation.transfer_tasks.TASKS", tasks)
    monkeypatch.setattr("fmicl_text.evaluation.transfer.TASKS", tasks)  # imported by name
    fit_roughly(monkeypatch)
    heldout = Dataset.from_dict({"anchor": sentences(12), "positive": sentences(12)})
    return Given(None, {"": heldout})


def load(asked, given):
    found = evaluation(asked)
    options = {"data": "."} if found.kind in ("sts", "transfer") else {}
    return found.model_copy(update=options).load(given)


def needs(asked):
    if evaluation(asked).kind == "mteb":
        pytest.importorskip("mteb")


def encoder_for(asked, tiny_encoder):
    """The tiny encoder, or a tiny one of images."""
    return encoder(RESNET, image_size=16) if evaluation(asked).kind == "images" else tiny_encoder


def test_every_kind_is_tried(given):
    assert {type(evaluation(asked)) for asked in ASKED.values()} == set(KINDS)


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_a_kind_gives_a_result_that_is_written_and_read_again(asked, given, tiny_encoder, tmp_path):
    needs(asked)
    loaded = load(asked, given)
    assert not loaded.missing
    measured = loaded.measure(ScoredModel(encoder_for(asked, tiny_encoder), "tiny", None), Effort())
    result = measured.result
    assert result.kind == evaluation(asked).kind and result.model == "tiny" and result.protocol and result.versions
    keys = [one.key for one in result.scores]
    assert len(set(keys)) == len(keys) and set(loaded.offers) <= set(keys)
    assert next(iter(loaded.offers)) == keys[0], "the first summarises the whole"
    for one in result.scores:
        metric = loaded.offers.get(one.key)
        if metric is not None:
            assert (one.metric, one.metric_type, one.unit) == (metric.name, metric.type, metric.unit)
        assert one.ci95 is None or one.ci95[0] <= one.value <= one.ci95[1] + 1e-9
    for key, parts in measured.items.items():
        assert score(parts) == pytest.approx(result.score(key).value, abs=6e-4)
    file = tmp_path / "written" / "result.json"
    write_result(measured, file)
    assert read_result(file) == result
    again = read_items(file, result)
    assert again.keys() == measured.items.keys()
    assert all(
        len(a) == len(b) and all(x.same(y) for x, y in zip(a, b, strict=True))
        for a, b in zip(again.values(), measured.items.values(), strict=True)
    )


@pytest.mark.parametrize("name", [name for name in ASKED if name not in ("heldout", "geometry", "images")])
def test_the_record_of_a_kind_tells_another_label_apart(name, given, tmp_path):
    """Or another text, where there are no labels."""
    needs(ASKED[name])
    before = load(ASKED[name], given).record()
    assert load(ASKED[name], given).record() == before
    for file in tmp_path.rglob("*.parquet"):
        table = pq.read_table(file).to_pydict()
        [key] = {"label", "score"} & table.keys()
        table[key] = [(2 if key == "score" else 1) - table[key][0], *table[key][1:]]
        pq.write_table(pa.table(table), file)
    header, first, *lines = (tmp_path / "pairs.csv").read_text().splitlines()
    *texts, _, label = first.split(",")
    first = ",".join(["another text", *texts[1:], "1", label]) if "geometry" in name else ",".join([*texts, "7", "1"])
    (tmp_path / "pairs.csv").write_text("\n".join([header, first, *lines]))
    after = load(ASKED[name], given).record()
    same = [part for part, known in after.items() if known == before[part]]
    assert after.keys() == before.keys() and after and same == ["MRPC test"] * (name == "transfer")


def test_the_record_of_images_has_their_classes(tmp_path):
    for number in range(6):
        Image.new("RGB", (16, 16), (40 * number, 9, 9)).save(tmp_path / f"{number}.png")

    def record(labels):
        for part, numbers in (("bank", range(4)), ("test", range(4, 6))):
            rows = [f"{tmp_path}/{number}.png,{labels[number]}" for number in numbers]
            (tmp_path / f"{part}.csv").write_text("\n".join(["image,label", *rows]))
        asked = {"name": "knn", "train": str(tmp_path / "bank.csv"), "test": str(tmp_path / "test.csv")}
        return evaluation(asked).load(Given(image_size=16)).record()

    first, of_bank, of_test = record("ababab"), record("bbabab"), record("ababbb")
    assert record("ababab") == first
    assert [of_bank[part] == first[part] for part in ("train", "test")] == [False, True]
    assert [of_test[part] == first[part] for part in ("train", "test")] == [True, False]


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_without_intervals_the_scores_are_the_same(asked, given, tiny_encoder):
    needs(asked)
    loaded = load(asked, given)
    scored = ScoredModel(encoder_for(asked, tiny_encoder), "tiny", None)
    quick, full = (loaded.measure(scored, Effort(intervals=intervals)).result for intervals in (False, True))
    assert [(one.key, one.value) for one in quick.scores] == [(one.key, one.value) for one in full.scores]
    if full.kind != "geometry":
        assert all(one.ci95 is None for one in quick.scores)


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_what_is_asked_for_survives_a_resolved_recipe(asked, given):
    found = evaluation(asked)
    written = json.loads(json.dumps(found.model_dump(mode="json")))
    assert evaluation(written) == found
    if isinstance(asked, str):
        assert written == asked
    section = EvaluateSection.model_validate({"during": asked, "after": [asked]})
    assert EvaluateSection.model_validate(section.model_dump(mode="json")) == section


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ("st7", 'no suite "st7"'),
        ("none.yaml", 'no suite "none.yaml"'),
        (3, "must be the name of an evaluation"),
        ({"metric": "a"}, "must be the name of an evaluation"),
        ({"name": "heldout", "pairs": "a.csv"}, "heldout has no option pairs"),
        ({"name": "pairs.csv", "label": "a", "score": "b"}, "exclude each other"),
        ({"name": "geometry", "pairs": "a.csv", "columns": ["a", "a"]}, "must be two columns"),
        ({"name": "pairs.csv", "sentences": ["a"]}, "sentences"),
        ("mteb", "needs tasks"),
        ({"name": "transfer", "task": ["MR"]}, 'did you mean "tasks"?'),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_words(asked, problem, given):
    with pytest.raises(ValueError, match="1 validation error") as caught:
        TypeAdapter(EvaluateSection).validate_python({"after": [asked]})
    assert problem in str(caught.value)


def test_a_metric_belongs_to_what_chooses_a_checkpoint(given):
    with pytest.raises(ValueError, match="belongs in evaluate"):
        EvaluateSection.model_validate({"after": [{"name": "heldout", "metric": "mrr@10"}]})


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        ("heldout", "held-out pairs MRR@10"),
        ({"name": "heldout", "metric": "mrr@10"}, "held-out pairs MRR@10"),
        ({"name": "heldout", "metric": "cosine_accuracy@1"}, "held-out pairs accuracy@1"),
        ({"name": "suite.yaml", "metric": "spearman"}, "average Spearman"),
        ({"name": "suite.yaml", "metric": "B Spearman"}, "B Spearman"),
        ({"name": "pairs.csv", "metric": "Kendall tau-b"}, "pairs.csv Kendall tau-b"),
        ({"name": "geometry", "metric": "uniformity"}, "sentences uniformity"),
    ],
)
def test_a_metric_names_the_score(asked, key, given):
    assert choose_score(evaluation(asked), load(asked, given)) == key


def test_an_unknown_metric_is_refused_with_those_there_are(given):
    asked = {"name": "heldout", "metric": "ndcg@10"}
    with pytest.raises(InputError, match=r"there are held-out pairs MRR@10, held-out pairs accuracy@1"):
        choose_score(evaluation(asked), load(asked, given))


def test_groups_of_held_out_pairs_are_used(given, tiny_encoder):
    heldout = given.heldout[""].add_column("group", [0] * 12)
    loaded = evaluation("heldout").load(Given(None, {"": heldout}))
    result = loaded.measure(ScoredModel(tiny_encoder, "tiny", None), Effort(intervals=False)).result
    assert result.score("held-out pairs accuracy@1").value == 100


def test_metrics_of_pairs_are_named_alike_everywhere():
    assert len({metric.type for metric in PAIR_METRICS.values()}) == len(PAIR_METRICS)
    assert Items("mean", np.ones(2)).statistic == "mean"


@pytest.mark.parametrize("name", [name for name in ASKED if name not in ("heldout", "geometry", "images", "mteb")])
def test_a_tilde_is_the_home_folder_wherever_a_file_is_named(name, given, tmp_path, monkeypatch):
    asked = ASKED[name]
    needs(asked)
    home, elsewhere = tmp_path, tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("HOME", str(home))
    asked = {"name": asked} if isinstance(asked, str) else asked
    here = {name for name in ("suite.yaml", "own.yaml", "pairs.csv", "hub") if (home / name).exists()}
    files = {key: f"~/{value}" for key, value in asked.items() if isinstance(value, str) and value in here}
    monkeypatch.chdir(elsewhere)
    found = evaluation(asked | files)
    options = {"data": "~/"} if found.kind in ("sts", "transfer") else {}
    assert files or options
    assert not found.model_copy(update=options).load(given).missing
