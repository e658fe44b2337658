import json

import numpy as np
import pytest
from conftest import WORDS

from fmicl_text.errors import InputError
from fmicl_text.evaluation.retrieval import retrieve

QUERIES = ["red house", "a small dog", "a cat on the street", "music", "guitar piano flute", "the old dog"]
DOCUMENTS = [
    "the house is red",
    "the dog is small and old",
    "a cat runs near the house in the city",
    "a woman plays the piano",
    "a woman plays the piano",  # the same text answers two queries
    "the dog is small and old",
]


def by_hand(model, queries, documents):
    """Reciprocal ranks from all cosines, the right document being any of the same text."""
    distinct = sorted(set(documents))
    q, d = model.encode(queries).astype(float), model.encode(distinct).astype(float)
    similarity = (q / np.linalg.norm(q, axis=1, keepdims=True)) @ (d / np.linalg.norm(d, axis=1, keepdims=True)).T
    ranked = [[distinct[i] for i in np.argsort(-row)] for row in similarity]
    ranks = np.array([order.index(document) + 1 for order, document in zip(ranked, documents, strict=True)])
    return np.where(ranks <= 10, 1 / ranks, 0)


def test_figures_are_those_computed_by_hand_with_duplicates(tiny_encoder):
    found = retrieve(tiny_encoder, QUERIES, DOCUMENTS, batch_size=4)
    reciprocal = by_hand(tiny_encoder, QUERIES, DOCUMENTS)
    assert (found.n, found.candidates) == (6, 4)
    assert found.accuracy_at_1 == pytest.approx(100 * np.mean(reciprocal == 1))
    assert found.mrr_at_10 == pytest.approx(100 * np.mean(reciprocal))


def test_past_rank_ten_nothing_counts(tiny_encoder):
    words = WORDS[2:24]
    queries = [f"the {word} is big" for word in words]
    documents = [f"a slow {word} on the {word}" for word in reversed(words)]  # of other things: bad luck for most
    reciprocal = by_hand(tiny_encoder, queries, documents)
    assert (reciprocal == 0).any()
    assert retrieve(tiny_encoder, queries, documents).mrr_at_10 == pytest.approx(100 * np.mean(reciprocal))


def test_a_text_finds_itself(tiny_encoder):
    found = retrieve(tiny_encoder, DOCUMENTS, DOCUMENTS)
    assert (found.accuracy_at_1, found.mrr_at_10) == (100, 100)
    assert found.accuracy_at_1_ci95 == (100, 100)


def test_the_document(tiny_encoder):
    found = retrieve(tiny_encoder, QUERIES, DOCUMENTS)
    document = json.loads(json.dumps(found.document()))
    assert document["task"] == "heldout retrieval"
    assert (document["n"], document["accuracy@1"], document["mrr@10"]) == (6, found.accuracy_at_1, found.mrr_at_10)
    for figure in ("accuracy@1", "mrr@10"):
        low, high = document["ci95"][figure]
        assert 0 <= low <= document[figure] <= high <= 100
        assert low < high


@pytest.mark.parametrize("documents", [[], ["one"]])
def test_each_query_needs_a_document(tiny_encoder, documents):
    with pytest.raises(InputError, match=f"found 6 and {len(documents)}"):
        retrieve(tiny_encoder, QUERIES, documents)
    with pytest.raises(InputError):
        retrieve(tiny_encoder, [], documents[:0])
