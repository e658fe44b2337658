"""The momentum queue: where its keys come from, whom they meet, and when they leave."""

from __future__ import annotations

import copy
from collections import deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import DIMENSIONS, PAIRWISE, MeanOfTokens, batch, build, gradients, part, total, value_and_gradients
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from torch import Tensor, nn
from torch.nn.functional import normalize

from fmicl_text import ContextualInfoNCELoss, FMICLLoss, InfoNCELoss
from fmicl_text.core import infonce
from fmicl_text.losses.identities import identities_of_features as text_ids
from fmicl_text.losses.queue import MomentumQueue, queue_warning

ROWS = 5


def unit(loss, column: dict[str, Tensor], average: bool = False) -> Tensor:
    """Unit vectors of a column by the encoder, or by its moving average."""
    model = loss.queue.encoder if average else loss.model
    return normalize(model(column)["sentence_embedding"], dim=1)


def step(loss, optimizer, features) -> None:
    total(loss(features)).backward()
    optimizer.step()
    optimizer.zero_grad()


def numbered_texts(*columns: list[int]) -> list[dict[str, Tensor]]:
    """Columns of texts of one token each."""
    tokens = [torch.tensor(column).unsqueeze(1) for column in columns]
    return [{"input_ids": column, "attention_mask": torch.ones_like(column)} for column in tokens]


def test_both_directions_meet_keys_of_the_average_and_of_the_queue():
    """``loss(x, key(y)) + loss(y, key(x))``, halved, with the earlier batches' keys as explicit negatives.

    Texts come back: a key that waits stands for both texts of its pair, and is no negative of a row that has one.
    """
    loss = build("infonce", queue=100, momentum=0.5)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.5)
    waiting: list[Tensor] = []
    standing_for: list[Tensor] = []
    for anchors, positives in (([1, 2, 3], [4, 5, 6]), ([7, 8, 9], [10, 1, 12]), ([5, 7, 15], [16, 17, 3])):
        features = numbered_texts(anchors, positives)
        # The loss moves the average on before it encodes: what it will be, by the formula.
        moved = torch.lerp(loss.queue.encoder.tokens.weight, loss.model.tokens.weight, 0.5).detach()
        terms = loss(features)
        torch.testing.assert_close(loss.queue.encoder.tokens.weight.data, moved)
        x, y = (unit(loss, column) for column in features)
        of_x, of_y = (unit(loss, column, average=True) for column in features)
        texts = torch.tensor(list(zip(anchors, positives, strict=True)))
        batch_of = {"texts": texts, "kernel": loss.kernel}
        if waiting:
            batch_of |= {"extra": torch.cat(waiting), "extra_texts": torch.cat(standing_for)}
        one, other = infonce(x, of_y, **batch_of), infonce(y, of_x, **batch_of)
        torch.testing.assert_close(dict(terms), {name: (one[name] + other[name]) / 2 for name in one})
        waiting += [of_x, of_y]
        standing_for += [texts, texts]
        total(terms).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert int(loss.queue.pushed) == 18


def test_the_average_follows_encoder_and_head():
    loss = build("fmicl", head="mlp", queue=8, momentum=0.9)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    owned = [*loss.model.parameters(), *loss.head.parameters()]
    averages = [parameter.detach().clone() for parameter in owned]
    for seed in range(4):
        for average, parameter in zip(averages, owned, strict=True):
            average.mul_(0.9).add_(parameter.detach(), alpha=0.1)
        step(loss, optimizer, batch(ROWS, 2, seed))
    found = [*loss.queue.encoder.parameters(), *loss.queue.head.parameters()]
    torch.testing.assert_close([p.data for p in found], averages)
    assert not any(p.requires_grad or p.grad is not None for p in found)
    assert all(not torch.equal(p, average) for p, average in zip(owned, averages, strict=True))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_the_average_of_an_encoder_in_half_precision_moves(half: torch.dtype):
    """By steps that half precision would round away; keys are encoded in it all the same."""
    seen = []

    class Encoder(nn.Linear):
        def forward(self, batch: Tensor) -> Tensor:
            seen.append(super().forward(batch))
            return seen[-1]

    encoder = Encoder(4, 3).to(half)
    queue = MomentumQueue(encoder, None, size=0, momentum=0.999, dimensions=3)
    start = encoder.weight.detach().double()
    encoder.weight.data += 0.5
    for _ in range(20):
        queue.follow(encoder, None)
    moved = start + (1 - 0.999**20) * (encoder.weight.double() - start)
    torch.testing.assert_close(queue.encoder.weight.double(), moved, rtol=1e-4, atol=1e-6)
    assert encoder.weight.dtype == half
    if half == torch.bfloat16:  # autocast on a CPU
        queue.keys([torch.randn(2, 4)])
        assert [values.dtype for values in seen] == [half, half]


def test_the_average_moves_once_a_training_step():
    """Three micro-batches of one step are three calls of the loss, and one move."""
    loss = build("fmicl", queue=8, momentum=0.5)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    weight, average = loss.model.tokens.weight, loss.queue.encoder.tokens.weight
    for seed in range(3):
        expected = torch.lerp(average, weight, 0.5).detach()
        for micro in range(3):
            (total(loss(batch(ROWS, 2, 10 * seed + micro))) / 3).backward()
            torch.testing.assert_close(average, expected)
        optimizer.step()
        optimizer.zero_grad()


def test_a_view_never_meets_its_own_key():
    """The queue gets a batch only after both directions have been computed."""
    features = batch(ROWS, 2, seed=0, distinct=True)
    with_queue, without = build("infonce", queue=50), build("infonce", queue=1)
    torch.testing.assert_close(dict(with_queue(features)), dict(without(features)))
    assert int(with_queue.queue.pushed) == 2 * ROWS


def test_texts_that_come_back_do_not_meet_themselves_in_the_queue():
    first, second = numbered_texts([1], [2]), numbered_texts([2, 1], [3, 4])  # all of the queue is theirs
    loss, fresh = build("infonce", queue=50), build("infonce", queue=50)
    loss(numbered_texts([9, 10], [11, 12]))
    loss.queue.push([vectors[:1] for vectors in loss.queue.keys(first)], torch.tensor([[7, 8]]))
    assert total(loss(second)) > total(fresh(second)) + 1e-3  # others' keys are negatives
    loss, fresh = build("infonce", queue=50), build("infonce", queue=50)
    loss.queue.push(loss.queue.keys(first), torch.stack([text_ids(column) for column in first], dim=1))
    torch.testing.assert_close(dict(loss(second)), dict(fresh(second)))


@settings(max_examples=40)
@given(size=st.integers(1, 9), pushes=st.lists(st.integers(1, 6), max_size=6))
def test_the_oldest_leave(size: int, pushes: list[int]):
    """Like a deque of limited length, whatever the sizes of batches."""
    queue = MomentumQueue(MeanOfTokens(), None, size, momentum=0.9, dimensions=DIMENSIONS)
    model: deque[tuple[float, int, int]] = deque(maxlen=size)
    counter = 0.0
    for rows in pushes:
        keys = torch.arange(counter, counter + 2 * rows).view(2, rows, 1).expand(-1, -1, DIMENSIONS)
        texts = torch.arange(rows).unsqueeze(1) + torch.tensor([100, 200])
        queue.push(list(keys), texts)
        model.extend((counter + k, 100 + k % rows, 200 + k % rows) for k in range(2 * rows))
        counter += 2 * rows
    vectors, texts = queue.rows(like=torch.zeros(1, DIMENSIONS))
    assert sorted((v[0].item(), *t.tolist()) for v, t in zip(vectors, texts, strict=True)) == sorted(model)


@pytest.mark.parametrize("switch", ["loss", "encoder"])
def test_evaluation_neither_moves_nor_pushes(switch: str):
    """The trainer puts the encoder alone in evaluation mode; the loss follows it there and back."""
    loss = build("infonce", queue=20, momentum=0.5, dropout=0.3)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    step(loss, optimizer, batch(ROWS, 2, seed=0))
    before = copy.deepcopy([loss.queue.waiting(), loss.own_state()])
    (loss if switch == "loss" else loss.model).eval()
    first, second = total(loss(batch(ROWS, 2, seed=1))), total(loss(batch(ROWS, 2, seed=1)))
    torch.testing.assert_close([loss.queue.waiting(), loss.own_state()], before, rtol=0, atol=0)
    assert first == second  # no dropout, in the keys neither
    (loss if switch == "loss" else loss.model).train()
    loss(batch(ROWS, 2, seed=2))
    assert int(loss.queue.pushed) == 4 * ROWS
    assert not torch.equal(loss.queue.encoder.tokens.weight, before[1]["queue.encoder.tokens.weight"])


def test_keys_are_drawn_with_dropout(tiny_encoder: SentenceTransformer):
    """A loaded encoder begins in evaluation mode; its copy must not stay there, or both keys of a text coincide."""
    loss = InfoNCELoss(tiny_encoder, queue=8)
    tiny_encoder.train()  # as the trainer does
    of_x, of_y = loss.queue.keys([tiny_encoder.preprocess(["a dog runs", "the cat sleeps"])])
    assert ((of_x - of_y).abs().amax(dim=1) > 1e-3).all()


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("case", PAIRWISE)
def test_every_objective_trains_with_a_queue(case: str, columns: int):
    loss = build(case, dropout=0.1, head="mlp", queue=16, momentum=0.9)
    for seed in range(3):
        terms, slopes = value_and_gradients(loss, batch(ROWS, columns, seed))
        assert all(term.isfinite() for term in terms.values())
        assert all(g.isfinite().all() and g.abs().sum() > 0 for g in slopes.values())
        assert not any(name.startswith("queue.") for name in slopes)
    assert int(loss.queue.pushed) == 6 * ROWS


@pytest.mark.parametrize("case", PAIRWISE)
def test_what_waits_counts(case: str):
    """As explicit negatives do: the loss with a filled queue is another than with an empty one."""
    features = batch(ROWS, 2, seed=9, distinct=True)
    filled, empty = build(case, queue=16), build(case, queue=16)
    filled(batch(ROWS, 2, seed=1, distinct=True))
    assert abs(total(filled(features)) - total(empty(features))) > 1e-6


def test_state_goes_from_one_loss_to_another():
    loss, other = (build("infonce", seed=seed, head="mlp", queue=12, momentum=0.5) for seed in range(2))
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    for seed in range(3):
        step(loss, optimizer, batch(ROWS, 2, seed))
    other.model.load_state_dict(loss.model.state_dict())
    other.load_own_state(loss.own_state())
    other.queue.load_waiting(loss.queue.waiting())
    features = batch(ROWS, 3, seed=8)
    torch.testing.assert_close(dict(other(features)), dict(loss(features)), rtol=0, atol=0)
    assert "queue.vectors" not in loss.own_state()  # each process has its own
    with pytest.raises(ValueError, match=r"saved queue has \(rows, dimensions\) \(12, 6\), this one has \(5, 6\)"):
        build("infonce", queue=5).queue.load_waiting(loss.queue.waiting())


def test_bad_arguments_and_inputs(tiny_encoder: SentenceTransformer):
    with pytest.raises(ValueError, match="queue must be greater than 0, got 0"):
        InfoNCELoss(MeanOfTokens(), queue=0)
    with pytest.raises(ValueError, match=r"momentum must be less than or equal to 1, got 1\.5"):
        InfoNCELoss(MeanOfTokens(), queue=4, momentum=1.5)
    with pytest.raises(ValueError, match="queue does not go with contextual-infonce"):
        ContextualInfoNCELoss(MeanOfTokens(), queue=4)
    loss = build("infonce", queue=4)
    with pytest.raises(ValueError, match="a loss with a queue needs the texts"):
        loss.compute_loss_from_embeddings([torch.eye(4), torch.eye(4)])
    with pytest.raises(ValueError, match="queue does not go with MatryoshkaLoss"):
        MatryoshkaLoss(loss.model, loss, matryoshka_dims=[6, 2])(batch(ROWS, 2, seed=0), None)
    with pytest.raises(ValueError, match="a queue needs to know which of its rows are in the batch"):
        FMICLLoss(tiny_encoder, queue=4)([{"input_values": torch.zeros(2, 9)}] * 2)


class Flattened(nn.Module):
    """An encoder of images: the mean of their colours, scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def get_embedding_dimension(self) -> int:
        return 3

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return features | {"sentence_embedding": features["pixel_values"].mean(dim=(2, 3)) * self.scale}


def static_batches(tiny_encoder: SentenceTransformer) -> tuple[nn.Module, list]:
    static = SentenceTransformer(modules=[StaticEmbedding(tiny_encoder.tokenizer, embedding_dim=8)], device="cpu")
    texts = [(["a dog", "the cat"], ["a man runs", "food"]), (["water", "a man runs"], ["blue", "the city"])]
    return static, [[static.preprocess(column) for column in columns] for columns in texts]


def image_batches(_: SentenceTransformer) -> tuple[nn.Module, list]:
    first = [torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)]
    second = [torch.cat([torch.rand(1, 3, 4, 4), first[1][:1]]), torch.rand(2, 3, 4, 4)]
    return Flattened(), [[{"pixel_values": pixels} for pixels in columns] for columns in (first, second)]


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("batches", [static_batches, image_batches], ids=["static", "images"])
def test_a_queue_of_any_encoder(tiny_encoder: SentenceTransformer, batches, double: bool):
    """Row 1 of the second batch was a positive of row 0 of the first: none of that pair's keys is its negative."""
    model, (first, second) = batches(tiny_encoder)
    if double:
        model = model.double()
        first, second = (
            [{k: v.double() if v.is_floating_point() else v for k, v in c.items()} for c in b] for b in (first, second)
        )
    loss = InfoNCELoss(model, queue=8, temperature=0.5)
    model.train()
    loss([dict(column) for column in first])
    assert loss.queue.vectors.dtype == (torch.float64 if double else torch.float32)
    before = copy.deepcopy(loss.queue.waiting())
    waiting = before["vectors"][:4]
    total(loss([dict(column) for column in second])).backward()
    x, y = (unit(loss, dict(column)) for column in second)
    of_x, of_y = (unit(loss, dict(column), average=True) for column in second)
    shared = torch.tensor([[False] * 4, [True, False, True, False]])

    def direction(anchors: Tensor, positives: Tensor) -> Tensor:
        scores = torch.cat([anchors @ positives.T, (anchors @ waiting.T).masked_fill(shared, -torch.inf)], dim=1) / 0.5
        return torch.nn.functional.cross_entropy(scores, torch.arange(2))

    loss.queue.load_waiting(before)
    found = total(loss([dict(column) for column in second]))
    torch.testing.assert_close(found, (direction(x, of_y) + direction(y, of_x)) / 2)


@pytest.mark.parametrize("settings", [{"queue": 8}, {"head": "mlp"}, {"queue": 8, "head": "mlp"}])
@pytest.mark.parametrize("shorten", [{"truncate_dim": 8}, {"max_seq_length": 4}])
def test_dimensions_are_those_of_the_forward_pass(tiny_encoder: SentenceTransformer, settings: dict, shorten: dict):
    for name, value in shorten.items():
        setattr(tiny_encoder, name, value)
    loss = InfoNCELoss(tiny_encoder, **settings)
    columns = [tiny_encoder.preprocess(texts) for texts in (["a dog runs", "the cat"], ["a man", "food"])]
    tiny_encoder.train()
    for _ in range(2):
        total(loss([dict(column) for column in columns])).backward()
    assert tiny_encoder.get_embedding_dimension() == shorten.get("truncate_dim", 32)


def test_a_single_pair_has_the_queue_for_negatives():
    """Only an empty queue leaves it without."""
    loss = build("infonce", queue=8)
    features = batch(3, 2, seed=0, distinct=True)
    total(loss(part(features, slice(0, 1)))).backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in loss.parameters())
    loss.zero_grad()
    loss(part(features, slice(1, 3)))
    total(loss(part(features, slice(0, 1)))).backward()
    assert gradients(loss)


@pytest.mark.parametrize(
    ("size", "rows", "said"),
    [
        (8, 100, "no more than the last batch has (4 rows, two keys each); set some multiple of 8, and at most 200"),
        (9, 100, None),
        (8, None, "set some multiple of 8"),
        (200, 100, None),
        (201, 100, "an epoch has 200 (100 rows, two keys each)"),
        (10**6, None, None),
        (50, 4, "leave it out"),
    ],
)
def test_a_queue_fits_between_a_batch_and_an_epoch(size: int, rows: int | None, said: str | None):
    warning = queue_warning(size, batch=4, rows=rows)
    assert warning is None if said is None else said in warning


def test_an_epoch_leaves_as_many_keys_as_the_warning_says():
    loss = build("infonce", queue=100)
    for step in range(3):
        loss(batch(ROWS, 2, seed=step, distinct=True))
    keys = int(loss.queue.pushed)
    assert f"at most {keys}" in queue_warning(keys + 1, batch=ROWS, rows=3 * ROWS)
