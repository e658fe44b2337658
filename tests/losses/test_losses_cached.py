"""The gradient cache: a loss encoded in mini-batches is the loss of the whole batch, in value and in gradient."""

from __future__ import annotations

import pytest
import torch
from loss_cases import CASES, PAIRWISE, batch, build, gradients, part, total, value_and_gradients
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from fmicl_text import Adaptation, Annealing, FMICLLoss, Region
from fmicl_text.losses.length_groups import by_length

EXACT = {"rtol": 1e-9, "atol": 1e-11}
ROWS, MINI = 7, 3  # the last mini-batch is a single row
SHAPES = [(case, columns) for case in CASES for columns in (2, 3, 4) if columns > 2 or case in PAIRWISE]


@pytest.mark.parametrize(("case", "columns"), SHAPES)
def test_cached_is_plain(case: str, columns: int):
    """Each term, and the gradient of encoder, head and learned width; with duplicates and hard negatives."""
    features = batch(ROWS, columns, seed=columns)
    plain, cached = build(case, head="mlp"), build(case, head="mlp", mini_batch_size=MINI)
    expected, slopes = value_and_gradients(plain, features)
    terms, cached_slopes = value_and_gradients(cached, features)
    torch.testing.assert_close(terms, expected, **EXACT)
    torch.testing.assert_close(cached_slopes, slopes, **EXACT)
    assert len(slopes) == 1 + len(list(plain.own_parameters())) and all(g.abs().sum() > 0 for g in slopes.values())
    assert list(terms) == ["positive", "negative"]
    assert cached.model.encoded == [3, 3, 1] * columns * 2 and plain.model.encoded == [ROWS] * columns


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("case", PAIRWISE)
def test_dropout_is_replayed(case: str, columns: int):
    """The second pass draws the masks of the first: the gradient belongs to the embeddings the loss was made of."""
    features = batch(ROWS, columns, seed=1, distinct=True)
    cached, plain = build(case, dropout=0.3, mini_batch_size=MINI), build(case, dropout=0.3)
    torch.manual_seed(5)
    terms, slopes = value_and_gradients(cached, features)
    torch.manual_seed(5)  # draw in the order of the first pass: column by column, mini-batch by mini-batch
    embeddings = []
    for column in features * (3 - columns):
        ordered, places = by_length(plain.model, column)
        parts = [plain.model(*part([ordered], slice(at, at + MINI))) for at in range(0, 7, 3)]
        embeddings.append(torch.cat([encoded["sentence_embedding"] for encoded in parts])[places])
    expected = plain.compute_loss_from_embeddings(embeddings)
    total(expected).backward()
    torch.testing.assert_close(terms, {name: term.detach() for name, term in expected.items()}, **EXACT)
    torch.testing.assert_close(slopes, gradients(plain), **EXACT)


def test_views_under_the_cache_have_their_own_masks():
    loss = build("fmicl", dropout=0.3, mini_batch_size=MINI)
    views = loss(batch(ROWS, 1, seed=0, distinct=True))
    assert views["positive"] > -1 + 1e-3  # -f'(1) if they were the same


@pytest.mark.parametrize("case", ["fmicl", "infonce", "kernel-infonce-losses"])
def test_two_forwards_before_one_backward(case: str):
    first, second = batch(ROWS, 2, seed=1), batch(5, 3, seed=2)
    slopes = []
    for loss in (build(case, head="mlp"), build(case, head="mlp", mini_batch_size=MINI)):
        (total(loss(first)) + 2 * total(loss(second))).backward()
        slopes.append(gradients(loss))
    torch.testing.assert_close(slopes[1], slopes[0], **EXACT)


@pytest.mark.parametrize("case", ["fmicl", "infonce", "kernel-infonce-losses"])
def test_accumulated_micro_batches_are_scaled(case: str):
    """Encoder, head and width alike, as the trainer divides the loss by the number of micro-batches."""
    slopes = []
    for loss in (build(case, head="mlp"), build(case, head="mlp", mini_batch_size=MINI)):
        for seed in range(3):
            (total(loss(batch(ROWS, 2, seed))) / 3).backward()
        slopes.append(gradients(loss))
    torch.testing.assert_close(slopes[1], slopes[0], **EXACT)


@pytest.mark.parametrize("case", CASES)
def test_evaluation_without_gradients(case: str):
    features = batch(ROWS, 3, seed=3)
    plain, cached = build(case).eval(), build(case, mini_batch_size=MINI).eval()
    with torch.no_grad():
        terms = cached(features)
        torch.testing.assert_close(dict(terms), dict(plain(features)), **EXACT)
    assert not any(term.requires_grad for term in terms.values())


TRAININGS = {
    "queue": {"queue": 12, "momentum": 0.5},
    "ring": {"region": Region(0.5, 0.3)},
    "annealing": {"region": Annealing(Region(0.3), steps=4)},
    "adaptation": {"region": Adaptation(Region(0.3), delta=0.3, window=2)},
    "all": {"queue": 30, "momentum": 0.9, "head": "mlp", "region": Region(0.5, 0.3)},
}


@pytest.mark.parametrize(
    ("case", "common"),
    [
        pytest.param(case, common, id=f"{case}-{name}")
        for case in PAIRWISE
        for name, common in TRAININGS.items()
        if name in ("queue", "all") or case in ("fmicl", "infonce")  # a region moves alike whatever the objective
    ],
)
def test_training_is_the_same(case: str, common: dict):
    """Four steps of SGD: queue, moving average and region move as they do without the cache."""
    ends = []
    for mini_batch_size in (None, MINI):
        loss = build(case, mini_batch_size=mini_batch_size, **common)
        optimizer = torch.optim.SGD(loss.parameters(), lr=0.02)
        for step in range(4):
            total(loss(batch(ROWS, 2 + step % 2, seed=step))).backward()
            optimizer.step()
            optimizer.zero_grad()
        ends.append(loss.state_dict())
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-7, atol=1e-9)


MATRYOSHKA = {"matryoshka_dims": [6, 4, 2], "matryoshka_weights": [1.0, 0.5, 2.0]}


def fixed(case: str, **common):
    """A loss that learns nothing of its own."""
    loss = build(case, **common)
    for parameter in loss.own_parameters():
        parameter.requires_grad_(False)
    return loss


@pytest.mark.parametrize("case", CASES)
def test_matryoshka_over_the_cache(case: str):
    features = batch(ROWS, 3, seed=4)
    slopes, values = [], []
    for mini_batch_size in (None, MINI):
        loss = fixed(case, mini_batch_size=mini_batch_size)
        terms, slope = value_and_gradients(MatryoshkaLoss(loss.model, loss, **MATRYOSHKA), features)
        slopes.append(slope["model.tokens.weight"])
        values.append(total(terms))
    torch.testing.assert_close(values[1], values[0], **EXACT)
    torch.testing.assert_close(slopes[1], slopes[0], **EXACT)


def test_one_weighted_dimension_over_the_cache():
    features = batch(ROWS, 2, seed=4)
    plain, cached = build("spectral"), build("spectral", mini_batch_size=MINI)
    halved = MatryoshkaLoss(cached.model, cached, matryoshka_dims=[6], matryoshka_weights=[0.5])
    terms, slopes = value_and_gradients(plain, features)
    half, half_slopes = value_and_gradients(halved, features)
    torch.testing.assert_close(total(half), total(terms) / 2, **EXACT)
    torch.testing.assert_close(half_slopes["model.tokens.weight"], slopes["model.tokens.weight"] / 2, **EXACT)


@pytest.mark.parametrize("dims", [[6, 2], [6]])
@pytest.mark.parametrize(
    ("common", "message"),
    [
        ({}, "mini_batch_size does not go with what the loss learns"),
        ({"head": "mlp"}, "does not go with"),
    ],
    ids=["width", "head"],
)
def test_matryoshka_over_the_cache_with_something_learned(dims: list[int], common: dict, message: str):
    loss = build("infonce", mini_batch_size=MINI, **common)
    with pytest.raises(ValueError, match=message):
        MatryoshkaLoss(loss.model, loss, matryoshka_dims=dims)(batch(ROWS, 2, seed=0), None)


def test_a_static_embedding_has_no_mini_batches(tiny_encoder: SentenceTransformer):
    model = SentenceTransformer(modules=[StaticEmbedding(tiny_encoder.tokenizer, embedding_dim=8)], device="cpu")
    columns = [model.preprocess(["a dog", "the cat"]), model.preprocess(["a man runs", "food"])]
    with pytest.raises(ValueError, match="mini_batch_size must be None for a static embedding"):
        FMICLLoss(model, mini_batch_size=1)(columns)
