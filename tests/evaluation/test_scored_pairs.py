import csv
import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import bootstrap, kendalltau, pearsonr, spearmanr
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from words import WORDS

from fmicl_text.errors import InputError
from fmicl_text.evaluation.metrics import PAIR_METRICS
from fmicl_text.evaluation.pairs import METRICS, correlations, detection, evaluate, read_pairs
from fmicl_text.evaluation.statistics import percentile_interval, redrawn_detections, resampled, resampled_statistics
from fmicl_text.evaluation.sts import cosines


@pytest.fixture
def rows():
    draw = random.Random(0)

    def sentence():
        return " ".join(draw.choices(WORDS, k=draw.randint(1, 12)))

    return [
        {
            "sentence1": sentence(),
            "sentence2": sentence(),
            "score": draw.randint(0, 25) / 5,
            "label": draw.randint(0, 1),
        }
        for _ in range(60)
    ]


@pytest.fixture
def write(rows, tmp_path):
    """Writes the rows, or others, in the format that a file's name asks for."""

    def write(name, rows=rows):
        path = tmp_path / name
        match path.suffix:
            case ".csv" | ".tsv":
                with path.open("w", newline="") as file:
                    style = {} if path.suffix == ".csv" else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
                    writer = csv.DictWriter(file, list(rows[0]), **style)
                    writer.writeheader()
                    writer.writerows(rows)
            case ".jsonl":
                path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            case ".parquet":
                pq.write_table(pa.Table.from_pylist(rows), path)
        return path

    return write


def values(measured):
    """Values by metric, and the cosines of the pairs."""
    ((items,),) = measured.items.values()
    return {score.metric: score.value for score in measured.result.scores}, items.values


def problems(*arguments, **options):
    with pytest.raises(InputError) as caught:
        evaluate(*arguments, **options)
    return caught.value.problems


# Scores


def test_correlations_are_scipys_on_the_same_embeddings(tiny_encoder, write, rows):
    result, found = values(evaluate(tiny_encoder, write("pairs.csv")))
    first, second = (tiny_encoder.encode([row[side] for row in rows]) for side in ("sentence1", "sentence2"))
    assert found == pytest.approx(cosines(first, second), abs=1e-6)
    gold, cosine = [row["score"] for row in rows], found.astype(float)
    for name, measure in (("spearman", spearmanr), ("pearson", pearsonr), ("kendall", kendalltau)):
        assert result[PAIR_METRICS[name].name] == pytest.approx(100 * measure(gold, cosine).statistic, abs=1e-9)


def test_correlations_by_their_definitions():
    rng = np.random.default_rng(0)
    gold, similarity = rng.integers(0, 6, 50) / 5, rng.integers(0, 12, 50) / 11  # with ties
    spearman, pearson, kendall = correlations(gold, similarity)
    ranks = [np.array([np.mean(np.flatnonzero(np.sort(x) == value)) for value in x]) for x in (gold, similarity)]
    assert spearman == pytest.approx(100 * np.corrcoef(*ranks)[0, 1], abs=1e-9)
    assert pearson == pytest.approx(100 * np.corrcoef(gold, similarity)[0, 1], abs=1e-9)
    a, b = (np.sign(x[:, None] - x) for x in (gold, similarity))
    assert kendall == pytest.approx(100 * (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()), abs=1e-9)


@given(
    labels=arrays(int, 12, elements=st.integers(0, 1)).filter(lambda labels: np.ptp(labels) > 0),
    similarity=arrays(np.float32, 12, elements=st.integers(-4, 4).map(lambda n: n / 4)),
)
def test_detection_by_its_definitions(labels, similarity):
    auc, average_precision, f1, threshold = detection(labels, similarity)
    difference = similarity[labels == 1][:, None] - similarity[labels == 0]
    assert auc == pytest.approx(100 * np.mean((difference > 0) + (difference == 0) / 2), abs=1e-9)

    def counted(lowest):
        found = similarity >= lowest
        return np.mean(labels[found]), np.sum(labels[found]) / np.sum(labels)  # precision, recall

    levels = np.unique(similarity)[::-1]
    steps = [counted(level) for level in levels]
    recalls = [0.0, *(recall for _, recall in steps)]
    expected = sum(p * (r - before) for (p, r), before in zip(steps, recalls[:-1], strict=True))
    assert average_precision == pytest.approx(100 * expected, abs=1e-9)
    f1s = [2 * p * r / (p + r) if p + r else 0.0 for p, r in steps]
    assert f1 == pytest.approx(100 * max(f1s), abs=1e-9)
    assert f1s[list(levels).index(threshold)] == pytest.approx(max(f1s), abs=1e-9)


def test_perfect_and_reversed_detection():
    labels, similarity = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])
    assert detection(labels, similarity) == pytest.approx([100, 100, 100, 0.8])
    assert detection(labels, -similarity)[0] == 0


def test_labels_are_scored_from_any_spelling(tiny_encoder, write, rows):
    plain = evaluate(tiny_encoder, write("pairs.csv"), "label")
    spelt = [row | {"label": ["False", "true"][row["label"]]} for row in rows]
    typed = [row | {"label": bool(row["label"])} for row in rows]
    for path in (write("spelt.csv", spelt), write("typed.parquet", typed)):
        assert values(evaluate(tiny_encoder, path, "label"))[0] == values(plain)[0]
    labels = np.array([row["label"] for row in rows])
    assert plain.result.facts["positives"] == labels.sum()
    figures, similarity = values(plain)
    assert list(figures.values()) == pytest.approx(detection(labels, similarity), abs=1e-9)


# Intervals


def test_every_score_is_in_its_interval(tiny_encoder, write):
    for gold in METRICS:
        result = evaluate(tiny_encoder, write("pairs.csv"), gold).result
        assert [score.metric for score in result.scores] == [PAIR_METRICS[name].name for name in METRICS[gold]]
        for score in result.scores:
            low, high = score.ci95
            assert low <= score.value <= high and low < high


def test_intervals_are_those_of_scipys_bootstrap():
    """Of any statistics; these are quick."""
    rng = np.random.default_rng(1)
    gold = rng.normal(size=200)
    similarity = gold + rng.normal(size=200)

    def measures(a, b):
        return [100 * np.corrcoef(a, b)[0, 1], 100 * np.mean(a * b)]

    figures = resampled_statistics(measures, gold, similarity, resamples=2000)
    assert figures.shape == (2000, 2)
    for index in range(2):
        theirs = bootstrap(
            (gold, similarity),
            lambda a, b, index=index: measures(a, b)[index],
            paired=True,
            vectorized=False,
            n_resamples=2000,
            method="percentile",
            rng=0,
        ).confidence_interval
        tolerance = 0.1 * (theirs.high - theirs.low)
        assert percentile_interval(figures[:, index]) == pytest.approx(tuple(theirs), abs=tolerance)


@given(
    labels=arrays(int, 12, elements=st.integers(0, 1)),
    similarity=arrays(np.float32, 12, elements=st.integers(-4, 4).map(lambda n: n / 4)),
    counts=arrays(int, (3, 12), elements=st.integers(0, 3)),
)
def test_labels_drawn_again_are_labels_that_occur_again(labels, similarity, counts):
    """As scikit-learn measures the pairs written down as often as they were drawn; NaN where a label is not there."""
    figures = redrawn_detections(similarity, labels)(counts)
    for of_draw, drawn in zip(figures.T, counts, strict=True):
        gold, found = np.repeat(labels, drawn), np.repeat(similarity, drawn)
        if len(set(gold)) < 2:
            assert np.isnan(of_draw).all()
            continue
        precision, recall, thresholds = precision_recall_curve(gold, found)
        f1 = np.nan_to_num(2 * precision * recall / np.maximum(precision + recall, 1e-9))[:-1]
        expected = [roc_auc_score(gold, found), average_precision_score(gold, found), f1.max()]
        assert of_draw[:3] == pytest.approx(100 * np.array(expected), abs=1e-6)
        assert of_draw[3] == thresholds[f1 > f1.max() - 1e-9].max()


def test_resamples_without_a_value_are_left_out():
    labels, similarity = np.array([0, 0, 0, 1]), np.array([0.1, 0.4, 0.2, 0.3])
    figures = resampled(redrawn_detections(similarity, labels), 4, 200, np.random.default_rng(0))
    assert 0 < np.isnan(figures[0]).sum() < 200
    assert np.isfinite(percentile_interval(figures[0])).all()


# Files


def test_every_format_gives_the_same(write, rows):
    for ending in ("csv", "tsv", "jsonl", "parquet"):
        read = read_pairs(write(f"pairs.{ending}"), "score", "score", ("sentence1", "sentence2"))
        assert list(read.scores) == [row["score"] for row in rows]
        for side, texts in (("sentence1", read.sentences1), ("sentence2", read.sentences2)):
            assert list(texts) == [row[side] for row in rows]


def test_what_is_said_of_a_measurement(tiny_encoder, write):
    result = evaluate(tiny_encoder, write("pairs.csv")).result
    assert result.scores[0].n == 60
    assert result.facts == {"max_seq_length": 32, "precision": "float32", "gold": "score"}


def test_columns_may_have_other_names(tiny_encoder, write, rows):
    renamed = [{"a": row["sentence1"], "b": row["sentence2"], "c": row["score"]} for row in rows]
    found = evaluate(tiny_encoder, write("other.csv", renamed), column="c", sentences=("a", "b"))
    assert values(found)[0] == values(evaluate(tiny_encoder, write("pairs.csv")))[0]


def test_bad_rows_are_named_with_their_line(tiny_encoder, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(
        'sentence1,sentence2,score,label\n"two\nlines",b,1,0\n,b,2,1\na,b,high,2\na,b,nan,yes\na," ",inf,\n'
    )
    assert problems(tiny_encoder, path) == [
        f"{path}, line 4: column \"sentence1\" must be text, found ''",
        f"{path}, line 5: column \"score\" must be a number, found 'high'",
        f"{path}, line 6: column \"score\" must be a number, found 'nan'",
        f"{path}, line 7: column \"sentence2\" must be text, found ' '",
        f"{path}, line 7: column \"score\" must be a number, found 'inf'",
    ]
    labels = problems(tiny_encoder, path, "label")
    assert f"{path}, line 5: column \"label\" must be 0 or 1, found '2'" in labels
    assert f"{path}, line 6: column \"label\" must be 0 or 1, found 'yes'" in labels


def test_of_many_bad_rows_the_first_are_named_and_the_rest_counted(tiny_encoder, write, rows):
    found = problems(tiny_encoder, write("pairs.parquet", [row | {"sentence2": None} for row in rows]))
    assert len(found) == 6
    assert "row 1: " in found[0] and found[-1].endswith("and 55 more such rows")


@pytest.mark.parametrize("value", [True, pytest.param(10**400, id="huge"), "\ud800", None, [1]])
def test_what_is_no_number_or_text_is_refused(tiny_encoder, write, rows, value):
    wrong = [rows[0] | {"score": value, "sentence1": value}, *rows]
    found = problems(tiny_encoder, write("pairs.jsonl", wrong))
    assert [problem.split('"')[1] for problem in found] == ["sentence1", "score"]


def test_wrong_files_and_columns(tiny_encoder, write, rows, tmp_path):
    path = write("pairs.csv")
    assert 'no column "scores" (did you mean "score"?)' in problems(tiny_encoder, path, column="scores")[0]
    assert "are three columns" in problems(tiny_encoder, path, sentences=("sentence1", "sentence1"))[0]
    assert "no such file" in problems(tiny_encoder, tmp_path / "none.csv")[0]
    same = write("same.csv", [row | {"score": 2, "label": 1} for row in rows])
    assert "every pair has the same score, 2" in problems(tiny_encoder, same)[0]
    assert "every pair has the same label, 1" in problems(tiny_encoder, same, "label")[0]
    (tmp_path / "empty.csv").write_text("sentence1,sentence2,score\n")
    assert problems(tiny_encoder, tmp_path / "empty.csv") == [f"{tmp_path / 'empty.csv'}: has no rows"]


def test_a_collapsed_model_is_refused(tiny_encoder, write):
    for parameter in tiny_encoder.parameters():
        parameter.data.fill_(1.0)
    assert "tiny gives all pairs the same similarity" in problems(tiny_encoder, write("pairs.csv"), name="tiny")[0]
