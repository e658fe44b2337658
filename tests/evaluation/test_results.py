"""The document of a result, and the one reader of all of them."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmicl_text.errors import InputError
from fmicl_text.evaluation.items import read_items, score, write_result
from fmicl_text.evaluation.results import ForeignDocument, read_result

FORMAT_1 = Path(__file__).parent / "format_1"
SAMPLES = sorted(path for path in FORMAT_1.glob("*.json") if ".items." not in path.name)


def flat(document, path=()):
    """Every number of a document with the keys that lead to it."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from flat(value, (*path, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from flat(value, (*path, index))
    elif isinstance(document, float | int) and not isinstance(document, bool):
        yield path, document


EXPECTED = {
    "sts": {
        "average Spearman": ("average",),
        "A Spearman": ("tasks", "A", "spearman"),
        "B Spearman": ("tasks", "B", "spearman"),
    },
    "sts-missing": {"A Spearman": ("tasks", "A", "spearman"), "B Spearman": ("tasks", "B", "spearman")},
    "transfer": {
        "MR accuracy": ("tasks", "MR", "accuracy"),
        "MRPC accuracy": ("tasks", "MRPC", "accuracy"),
        "MRPC F1": ("tasks", "MRPC", "f1"),
    },
    "heldout": {"held-out pairs MRR@10": ("mrr@10",), "held-out pairs accuracy@1": ("accuracy@1",)},
    "pairs-score": {
        "pairs.csv Spearman": ("scores", "spearman", "value"),
        "pairs.csv Pearson": ("scores", "pearson", "value"),
        "pairs.csv Kendall tau-b": ("scores", "kendall", "value"),
    },
    "pairs-label": {
        "pairs.csv ROC AUC": ("scores", "auc", "value"),
        "pairs.csv average precision": ("scores", "average_precision", "value"),
        "pairs.csv best F1": ("scores", "f1", "value"),
        "pairs.csv threshold of the best F1": ("scores", "threshold", "value"),
    },
    "mteb": {
        "average mean of the main scores": ("average",),
        "MineSts Spearman": ("tasks", "MineSts", "main_score"),
        "MinePairs average precision by the best of five similarities": ("tasks", "MinePairs", "main_score"),
        "MineSearch nDCG@10": ("tasks", "MineSearch", "main_score"),
        "MineClusters V-measure": ("tasks", "MineClusters", "main_score"),
    },
    "geometry": {
        "sentences alignment": ("geometry", "alignment", "value"),
        "sentences uniformity": ("geometry", "uniformity", "value"),
        "sentences Wasserstein uniformity": ("geometry", "wasserstein_uniformity"),
        "sentences effective rank": ("geometry", "effective_rank"),
        "sentences anisotropy": ("geometry", "anisotropy", "value"),
        "sentences hubness": ("geometry", "hubness"),
        "sentences sigma of the density ratio": ("geometry", "density_ratio", "sigma"),
        "sentences misfit of the density ratio (nats)": ("geometry", "density_ratio", "misfit"),
    },
}
"""Sample of format 1 -> score -> where the sample has its value."""


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_document_of_format_1_reads_with_equal_scores(path):
    document = json.loads(path.read_text())
    result = read_result(path)
    values = dict(flat(document))
    scale = 100 if result.kind == "mteb" else 1
    found = {one.key: one for one in result.scores if "f-MI" not in one.metric}
    assert {key: one.value for key, one in found.items()} == {
        key: scale * values[where] for key, where in EXPECTED[path.stem].items() if where in values
    }
    for key, where in EXPECTED[path.stem].items():
        prefix = (*where[:-1], "ci95") if where[-1] != "average" else ("average_ci95",)
        if where[-1] == "f1":
            prefix = (*where[:-1], "f1_ci95")
        if path.stem == "heldout":
            prefix = ("ci95", where[-1])
        if (*prefix, 0) in values:
            assert found[key].ci95 == (scale * values[*prefix, 0], scale * values[*prefix, 1])
    bounds = document.get("geometry", {}).get("mutual_information", {})
    assert {one.value for one in result.scores if "f-MI" in one.metric} == {bound["value"] for bound in bounds.values()}
    assert set(result.missing) == set(document.get("missing", []))
    assert read_again(result, path) == result


def read_again(result, path):
    from fmicl_text.evaluation.results import as_result

    return as_result(json.loads(json.dumps(result.document(), allow_nan=False)), path)


@pytest.mark.parametrize(
    "path", [path for path in SAMPLES if path.with_suffix(".items.json").exists()], ids=lambda path: path.stem
)
def test_items_of_format_1_give_the_scores_they_belong_to(path):
    result = read_result(path)
    items = read_items(path, result)
    values = {one.key: one.value for one in result.scores}
    assert items and items.keys() <= values.keys()
    for key, parts in items.items():
        assert score(parts) == pytest.approx(values[key], abs=6e-4)


def test_the_oldest_documents_have_neither_versions_nor_reasons(tmp_path):
    path = tmp_path / "stsb.json"
    tasks = {"STSBenchmark": {"spearman": 82.125, "n": 1379, "ci95": [80.0, 84.25]}}
    path.write_text(json.dumps({"model": "m", "suite": "stsb", "protocol": "p", "tasks": tasks, "missing": ["X"]}))
    result = read_result(path)
    assert [(one.key, one.value) for one in result.scores] == [("STSBenchmark Spearman", 82.125)]
    assert list(result.missing) == ["X"]


@pytest.mark.parametrize("text", ["{}", "[]", "3", "null", '"text"', '{"a": 1}', '{"tasks": {}}'])
def test_what_is_no_result_is_called_foreign(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ForeignDocument, match="not the result of an evaluation") as caught:
        read_result(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"format": 3}, "format"),
        ({"kind": None}, "kind"),
        ({"scores": {}}, "scores"),
        ({"scores": [{"name": "a"}]}, "scores.0.metric"),
        ({"unheard": 1}, "unheard"),
    ],
)
def test_a_wrong_key_is_named_with_the_file(tmp_path, change, key):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(read_result(FORMAT_1 / "sts.json").document() | change))
    with pytest.raises(InputError) as caught:
        read_result(path)
    assert str(path) in str(caught.value) and key in str(caught.value)


def mutations(document):
    """One value of a document replaced by anything that JSON can hold, or taken out."""
    places = [path for path, _ in every(document) if path]
    anything = (
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just([]) | st.just({})
    )
    return st.tuples(st.sampled_from(places), anything, st.booleans())


def every(document, path=()):
    yield path, document
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in inner:
        yield from every(value, (*path, key))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data(), current=st.booleans())
def test_no_damage_ends_in_anything_but_a_result_or_an_input_error(path, tmp_path, data, current):
    document = read_result(path).document() if current else json.loads(path.read_text())
    where, value, remove = data.draw(mutations(document))
    holder = document
    for step in where[:-1]:
        holder = holder[step]
    if remove:
        del holder[where[-1]]
    else:
        holder[where[-1]] = value
    file = tmp_path / "damaged.json"
    file.write_text(json.dumps(document))
    try:
        result = read_result(file)
    except InputError as error:
        assert str(file) in str(error)
    else:
        assert all(math.isfinite(one.value) for one in result.scores)
        json.dumps(result.document(), allow_nan=False)


@pytest.mark.parametrize("change", [{"values": []}, {"gold": [1.0]}, {"statistic": "mode"}, {"gold": None}])
def test_broken_items_are_named(tmp_path, change):
    file = tmp_path / "sts.json"
    items = json.loads((FORMAT_1 / "sts.items.json").read_text())
    items["items"]["A"][0] |= change
    (tmp_path / "sts.items.json").write_text(json.dumps(items))
    with pytest.raises(InputError, match=r"items\.A\.0") as caught:
        read_items(file, read_result(FORMAT_1 / "sts.json"))
    assert "sts.items.json" in str(caught.value)


def test_a_result_is_written_with_its_items_and_read_again(tmp_path):
    from fmicl_text.evaluation.items import Measured

    result = read_result(FORMAT_1 / "sts.json")
    items = read_items(FORMAT_1 / "sts.json", result)
    write_result(Measured(result, items), tmp_path / "a-1.5.json")
    assert read_result(tmp_path / "a-1.5.json") == result
    again = read_items(tmp_path / "a-1.5.json", result)
    assert {key: [part.document() for part in parts] for key, parts in again.items()} == {
        key: [part.document() for part in parts] for key, parts in items.items()
    }
