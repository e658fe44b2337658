import dataclasses
import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold
from words import WORDS

from fmicl_text.errors import InputError
from fmicl_text.evaluation.embeddings import embed
from fmicl_text.evaluation.scored_model import model_revision
from fmicl_text.evaluation.transfer import PROTOCOL, classify, transfer
from fmicl_text.evaluation.transfer_tasks import TASKS, HubPart, Part, TransferTask, choose_tasks, load_task

pytestmark = pytest.mark.usefixtures("one_process")

HUB = HubPart("owner/name", ("train",))
WHOLE = TransferTask("WHOLE", 2, {"all": Part(60, ("all",), HUB)})
SPLIT = TransferTask(
    "SPLIT", 3, {name: Part(n, (name,), HUB) for name, n in (("train", 60), ("dev", 15), ("test", 24))}
)
MRPC = TransferTask(
    "MRPC", 2, {"train": Part(50, ("train", "dev"), HUB), "test": Part(20, ("test",), HUB)}, ("sentence1", "sentence2")
)
SMALL = (WHOLE, SPLIT, MRPC)


def write(folder, task, change=None):
    """Write the file of a small task: texts of few words, so that some recur, with labels in turn."""
    draw = random.Random(task.name)
    rows = []
    for part in task.parts.values():
        for i in range(part.n):
            texts = {column: " ".join(draw.choices(WORDS[:9], k=draw.randint(0, 3))) for column in task.texts}
            rows.append({"split": part.splits[i % len(part.splits)], **texts, "label": i % task.classes})
    draw.shuffle(rows)
    rows = change(rows) if change else rows
    (folder / "transfer").mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "transfer" / f"{task.name.lower()}.parquet")
    return rows


@pytest.fixture
def small_data(tmp_path):
    for task in SMALL:
        write(tmp_path, task)
    return str(tmp_path)


# The classifier, against a reference that spells SentEval's procedures out in float64


def fit(x, y, c):
    return LogisticRegression(C=c, solver="newton-cholesky", tol=1e-9).fit(x.astype(np.float64), y)


def tens():
    return StratifiedKFold(n_splits=10, shuffle=True, random_state=1111)


def best_of_ten(x, y, grid):
    means = []
    for c in grid:
        means.append(np.mean([fit(x[a], y[a], c).score(x[b], y[b]) for a, b in tens().split(x, y)]))
    return grid[int(np.argmax(means))]


def reference(x, y):
    if "all" in x:
        x, y = x["all"], y["all"]
        predicted = np.zeros_like(y)
        for train, test in tens().split(x, y):
            c = best_of_ten(x[train], y[train], [0.25, 0.5, 1, 2, 4, 8])
            predicted[test] = fit(x[train], y[train], c).predict(x[test])
        return predicted
    if "dev" in x:
        scores = [fit(x["train"], y["train"], c).score(x["dev"], y["dev"]) for c in (0.25, 0.5, 1, 2, 4, 8)]
        c = [0.25, 0.5, 1, 2, 4, 8][int(np.argmax(scores))]
    else:
        c = best_of_ten(x["train"], y["train"], [0.5, 1, 2, 4, 8, 16, 32])
    return fit(x["train"], y["train"], c).predict(x["test"])


@pytest.mark.parametrize(
    ("sizes", "classes"),
    [({"all": 400}, 4), ({"train": 300, "test": 400}, 2), ({"train": 300, "dev": 200, "test": 400}, 4)],
)
def test_the_classifier_agrees_with_the_reference(sizes, classes):
    x, y = make_blobs(sum(sizes.values()), n_features=6, centers=classes, cluster_std=6.0, random_state=classes)
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    ends = np.cumsum(list(sizes.values()))[:-1]
    xs, ys = dict(zip(sizes, np.split(x, ends), strict=True)), dict(zip(sizes, np.split(y, ends), strict=True))
    predicted, chosen = classify(xs, ys)
    gold = ys.get("all", ys.get("test"))
    ours, theirs = (100 * np.mean(labels == gold) for labels in (predicted, reference(xs, ys)))
    assert 100 / classes + 10 < ours < 99
    assert ours == pytest.approx(theirs, abs=0.5)
    assert len(chosen) == (10 if "all" in sizes else 1)
    assert set(chosen) <= ({0.5, 1, 2, 4, 8, 16, 32} if len(sizes) == 2 else {0.25, 0.5, 1, 2, 4, 8})


def test_of_equally_good_c_the_smallest_is_taken():
    rows = np.repeat(np.eye(2), 40, axis=0)  # any C classifies them all
    y = np.repeat([0, 1], 40)
    assert classify({"train": rows, "test": rows}, {"train": y, "test": y})[1] == [0.5]
    assert classify(dict.fromkeys(("train", "dev", "test"), rows), dict.fromkeys(("train", "dev", "test"), y))[1] == [
        0.25
    ]
    assert classify({"all": rows}, {"all": y})[1] == [0.25] * 10


# The whole


def test_every_task_on_the_model_s_own_embeddings(tiny_encoder, small_data):
    result = transfer(tiny_encoder, SMALL, small_data, name="tiny")
    for task in SMALL:
        parts = load_task(task, small_data)
        x = {}
        for name, rows in parts.items():
            u, *v = (tiny_encoder.encode(column).astype(np.float64) for column in rows.texts)
            x[name] = np.concatenate([abs(u - v[0]), u * v[0]], axis=1) if v else u
        y = {name: rows.labels for name, rows in parts.items()}
        predicted = reference(x, y)
        gold = y.get("all", y.get("test"))
        score = result.result.score(task.name)
        assert score.n == len(gold) == len(result.items[f"{task.name} accuracy"][0].values)
        assert score.value == pytest.approx(100 * np.mean(predicted == gold), abs=100 / len(gold) + 1e-9)
        assert score.ci95[0] < score.value < score.ci95[1]


def test_f1_is_scikit_learns_with_its_interval(tiny_encoder, small_data):
    task = transfer(tiny_encoder, [MRPC], small_data)
    score, gold = task.result.score("MRPC F1"), load_task(MRPC, small_data)["test"].labels
    predicted = np.where(task.items["MRPC accuracy"][0].values == 1, gold, 1 - gold)
    assert score.value == pytest.approx(100 * f1_score(gold, predicted), abs=1e-9)
    drawn = np.random.default_rng(1).integers(len(gold), size=(500, len(gold)))
    resampled = [100 * f1_score(gold[rows], predicted[rows], zero_division=np.nan) for rows in drawn]
    assert score.ci95 == pytest.approx(np.nanpercentile(resampled, [2.5, 97.5]), abs=6)
    assert [one.metric for one in transfer(tiny_encoder, [SPLIT], small_data).result.scores] == ["accuracy"]


def test_each_text_is_encoded_once(tiny_encoder_path, small_data):
    encoded = []

    class Recorder(SentenceTransformer):
        def encode(self, inputs, **kwargs):
            encoded.extend(inputs)
            return super().encode(inputs, **kwargs)

    transfer(Recorder(str(tiny_encoder_path), device="cpu"), [SPLIT, MRPC], small_data)
    parts = [rows for task in (SPLIT, MRPC) for rows in load_task(task, small_data).values()]
    texts = [text for rows in parts for column in rows.texts for text in column]
    assert set(encoded) == set(texts)
    assert len(encoded) == len(set(texts)) < len(texts)


def test_the_result(tiny_encoder_path, small_data):
    result = transfer(str(tiny_encoder_path), SMALL, small_data).result
    assert (result.kind, result.model, result.name) == ("transfer", str(tiny_encoder_path), "transfer")
    assert result.protocol == PROTOCOL
    assert [(score.key, score.n) for score in result.scores] == [
        ("WHOLE accuracy", 60),
        ("SPLIT accuracy", 24),
        ("MRPC accuracy", 20),
        ("MRPC F1", 20),
    ]  # no average: these are not the seven
    assert {name: len(chosen) for name, chosen in result.details["C"].items()} == {"WHOLE": 10, "SPLIT": 1, "MRPC": 1}
    assert (result.data, result.facts["max_seq_length"]) == (small_data, 32)
    assert result.revision == model_revision(str(tiny_encoder_path))
    assert "scikit-learn" in result.versions


def test_the_average_is_of_all_seven_or_none(tiny_encoder, small_data, tmp_path, monkeypatch):
    monkeypatch.setattr("fmicl_text.evaluation.transfer.TASKS", {"SPLIT": SPLIT, "MRPC": MRPC})
    result = transfer(tiny_encoder, [SPLIT, MRPC], small_data).result
    assert result.scores[0].key == "average accuracy"
    assert result.scores[0].value == pytest.approx(np.mean([result.score("SPLIT").value, result.score("MRPC").value]))
    (tmp_path / "transfer" / "split.parquet").unlink()
    result = transfer(tiny_encoder, [SPLIT, MRPC], small_data).result
    assert list(result.missing) == ["SPLIT"]
    assert [score.key for score in result.scores] == ["MRPC accuracy", "MRPC F1"]
    assert "no file" in result.missing["SPLIT"]


def test_a_model_without_numbers_is_refused(tiny_encoder, small_data):
    for parameter in tiny_encoder.parameters():
        parameter.data.fill_(np.nan)
    with pytest.raises(InputError, match="tiny gives embeddings that are not finite"):
        transfer(tiny_encoder, SMALL, small_data, name="tiny")


# The data


def test_rows_come_in_senteval_s_order(tmp_path):
    written = write(tmp_path, MRPC)
    rows = load_task(MRPC, str(tmp_path))["train"]
    keys = [(len(a.split()), len(b.split()), label) for a, b, label in zip(*rows.texts, rows.labels, strict=True)]
    assert keys == sorted(keys)
    assert Counter(zip(*rows.texts, rows.labels, strict=True)) == Counter(
        (row["sentence1"], row["sentence2"], row["label"]) for row in written if row["split"] != "test"
    )


def replaced(**values):
    return lambda rows: [{**rows[0], **values}, *rows[1:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], r"59 rows, but WHOLE has 60 in SentEval"),
        (lambda rows: [*rows, rows[0]], r"61 rows, but WHOLE has 60 in SentEval"),
        (replaced(text=None), r"row 1: must be text, found None"),
        (replaced(label=None), r"row 1: the label must be 0 to 1, found None"),
        (replaced(label=2), r"row 1: the label must be 0 to 1, found 2"),
        (replaced(label=-1), r"row 1: the label must be 0 to 1, found -1"),
        (lambda rows: [row | {"label": 0} for row in rows], r"no row has the label 1"),
        (lambda rows: [{"split": "all", "sentence": "a", "label": 0}], r'no column "text"'),
    ],
)
def test_wrong_data_is_refused(tmp_path, change, message):
    write(tmp_path, WHOLE, change)
    with pytest.raises(InputError, match=message):
        load_task(WHOLE, str(tmp_path))


def test_of_many_bad_rows_the_first_are_named(tmp_path):
    write(tmp_path, WHOLE, lambda rows: [row | {"label": 7} for row in rows])
    with pytest.raises(InputError, match="and 55 more such rows") as caught:
        load_task(WHOLE, str(tmp_path))
    assert len(caught.value.problems) == 6


def test_wrong_data_of_all_tasks_and_parts_is_reported_at_once(tmp_path, tiny_encoder):
    write(tmp_path, WHOLE, lambda rows: rows[:-1])
    write(tmp_path, SPLIT, lambda rows: [row for row in rows if row["split"] == "dev"])
    with pytest.raises(InputError) as caught:
        transfer(tiny_encoder, SMALL, str(tmp_path))
    assert [problem.partition(": ")[2].partition(",")[0] for problem in caught.value.problems] == [
        "59 rows",
        "0 rows",
        "0 rows",
    ]


def test_without_any_data_the_reasons_are_given(tmp_path, tiny_encoder):
    with pytest.raises(InputError, match=r"--data DIR") as caught:
        transfer(tiny_encoder, SMALL, str(tmp_path))
    assert len(caught.value.problems) == 4
    with pytest.raises(InputError, match="no such data folder"):
        transfer(tiny_encoder, SMALL, str(tmp_path / "nowhere"))


def test_the_hub_s_parts_are_read_by_their_columns(tmp_path, tiny_encoder):
    """A folder stands for a data set on the Hub: ``datasets`` reads both alike."""
    folder = tmp_path / "on-the-hub"
    folder.mkdir()
    rows = write(tmp_path, WHOLE)
    for split, chosen in (("train", rows[:40]), ("test", rows[40:])):
        columns = {"sentence": [row["text"] for row in chosen], "coarse": [row["label"] for row in chosen]}
        pq.write_table(pa.table(columns), folder / f"{split}.parquet")
    hub = HubPart(str(folder), ("train", "test"), ("sentence", "coarse"))
    task = dataclasses.replace(WHOLE, parts={"all": Part(60, ("all",), hub)})
    ours, theirs = load_task(task)["all"], load_task(WHOLE, str(tmp_path))["all"]
    assert ours.texts == theirs.texts
    assert np.array_equal(ours.labels, theirs.labels)
    other = dataclasses.replace(hub, columns=("text", "coarse"))
    with pytest.raises(InputError, match='no column "text"'):
        load_task(dataclasses.replace(WHOLE, parts={"all": Part(60, ("all",), other)}))


def test_a_hub_out_of_reach_is_a_reason(monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"owner/name \(train\) on the Hub: ") as caught:
        load_task(WHOLE)
    assert "\n" not in str(caught.value)


def test_tasks_are_chosen_by_name():
    assert choose_tasks(["trec", "MR", "TREC"]) == [TASKS["TREC"], TASKS["MR"]]
    with pytest.raises(InputError, match=r'no transfer task "SST" \(did you mean "SST2"\?\); there are MR, CR,'):
        choose_tasks(["MR", "SST"])


@pytest.mark.parametrize("name", TASKS)
def test_the_seven_tasks_of_senteval(name, data_folder):
    parts = load_task(TASKS[name], str(data_folder))
    sizes = {
        "MR": {"all": 10662},
        "CR": {"all": 3775},
        "SUBJ": {"all": 10000},
        "MPQA": {"all": 10606},
        "SST2": {"train": 67349, "dev": 872, "test": 1821},
        "TREC": {"train": 5452, "test": 500},
        "MRPC": {"train": 4076, "test": 1725},
    }
    assert {part: len(rows.labels) for part, rows in parts.items()} == sizes[name]


@pytest.mark.slow
@pytest.mark.timeout(1800)  # minutes of logistic regressions, more on a busy machine
def test_real_data_against_the_reference(models_folder, data_folder):
    model = SentenceTransformer(str(models_folder / "minilm-mlm"), device="cpu")
    rows = load_task(TASKS["CR"], str(data_folder))["all"]
    some = np.arange(0, len(rows.labels), 4)
    texts = [rows.texts[0][i] for i in some]
    x, y = {"all": embed(model, texts).of(texts)}, {"all": rows.labels[some]}
    ours, theirs = (100 * np.mean(predicted == y["all"]) for predicted in (classify(x, y)[0], reference(x, y)))
    assert ours > 70
    assert ours == pytest.approx(theirs, abs=0.5)
