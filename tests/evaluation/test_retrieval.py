import copy

import numpy as np
import pytest
import torch
from words import WORDS

from fmicl_text.errors import InputError
from fmicl_text.evaluation.items import score as items_score
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


MRR, ACCURACY = "held-out pairs MRR@10", "held-out pairs accuracy@1"


def scores_of(*arguments, **options):
    return {score.key: score for score in retrieve(*arguments, **options).result.scores}


def by_hand(model, queries, documents):
    """Reciprocal ranks from all cosines; these queries differ, and the right document is any of the same text."""
    distinct = sorted(set(documents))
    q, d = model.encode(queries).astype(float), model.encode(distinct).astype(float)
    similarity = (q / np.linalg.norm(q, axis=1, keepdims=True)) @ (d / np.linalg.norm(d, axis=1, keepdims=True)).T
    ranked = [[distinct[i] for i in np.argsort(-row)] for row in similarity]
    ranks = np.array([order.index(document) + 1 for order, document in zip(ranked, documents, strict=True)])
    return np.where(ranks <= 10, 1 / ranks, 0)


def test_figures_are_those_computed_by_hand_with_duplicates(tiny_encoder):
    found = scores_of(tiny_encoder, QUERIES, DOCUMENTS, batch_size=4)
    reciprocal = by_hand(tiny_encoder, QUERIES, DOCUMENTS)
    assert (found[MRR].n, found[ACCURACY].n) == (6, 6)
    assert found[ACCURACY].value == pytest.approx(100 * np.mean(reciprocal == 1))
    assert found[MRR].value == pytest.approx(100 * np.mean(reciprocal))


def test_past_rank_ten_nothing_counts(tiny_encoder):
    words = WORDS[2:24]
    queries = [f"the {word} is big" for word in words]
    documents = [f"a slow {word} on the {word}" for word in reversed(words)]  # of other things: bad luck for most
    reciprocal = by_hand(tiny_encoder, queries, documents)
    assert (reciprocal == 0).any()
    assert scores_of(tiny_encoder, queries, documents)[MRR].value == pytest.approx(100 * np.mean(reciprocal))


def test_a_text_finds_itself(tiny_encoder):
    found = scores_of(tiny_encoder, DOCUMENTS, DOCUMENTS)
    assert (found[ACCURACY].value, found[MRR].value) == (100, 100)
    assert found[ACCURACY].ci95 == (100, 100)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_refused(tiny_encoder, value):
    encoder = copy.deepcopy(tiny_encoder)
    with torch.no_grad():
        next(encoder.parameters()).fill_(value)
    with pytest.raises(InputError, match="not finite numbers"):
        retrieve(encoder, QUERIES, DOCUMENTS)


def test_the_result(tiny_encoder):
    measured = retrieve(tiny_encoder, QUERIES, DOCUMENTS)
    result = measured.result
    assert (result.kind, result.name, result.facts["candidates"]) == ("heldout", "heldout", 4)
    assert [(score.metric_type, score.unit, score.n) for score in result.scores] == [
        ("cosine_mrr@10", "%", 6),
        ("cosine_accuracy@1", "%", 6),
    ]
    for score in result.scores:
        low, high = score.ci95
        assert 0 <= low <= score.value <= high <= 100
        assert low < high
        assert items_score(measured.items[score.key]) == score.value


def test_every_document_of_a_query_s_text_is_right(tiny_encoder):
    """The same question with two answers: each of them is found, whichever comes first."""
    texts = ["the dog sleeps", "a woman sings"]
    found = scores_of(tiny_encoder, ["the dog sleeps"] * 2, texts)
    assert found[ACCURACY].value == 100


def test_every_document_of_a_group_is_right(tiny_encoder):
    queries = DOCUMENTS[:4]
    documents = [*DOCUMENTS[1:4], DOCUMENTS[0]]  # each query finds itself first, the document of another pair
    alone = scores_of(tiny_encoder, queries, documents)
    assert alone[ACCURACY].value == 0
    together = scores_of(tiny_encoder, queries, documents, groups=[7, 7, 7, 7])
    assert (together[ACCURACY].value, together[MRR].value) == (100, 100)
    apart = scores_of(tiny_encoder, queries, documents, groups=["a", "b", "c", "d"])
    assert {key: score.value for key, score in apart.items()} == {key: score.value for key, score in alone.items()}
    halves = scores_of(tiny_encoder, queries, documents, groups=["a", "a", "b", "b"])  # 0, 1: documents 1, 2
    assert halves[ACCURACY].value == 50
    assert "group" in retrieve(tiny_encoder, queries, documents, groups=[1] * 4).result.protocol


def test_groups_are_as_many_as_pairs(tiny_encoder):
    with pytest.raises(InputError, match="a group for each query, found 6 and 1"):
        retrieve(tiny_encoder, QUERIES, DOCUMENTS, groups=[1])


@pytest.mark.parametrize("documents", [[], ["one"]])
def test_each_query_needs_a_document(tiny_encoder, documents):
    with pytest.raises(InputError, match=f"found 6 and {len(documents)}"):
        retrieve(tiny_encoder, QUERIES, documents)
    with pytest.raises(InputError):
        retrieve(tiny_encoder, [], documents[:0])
