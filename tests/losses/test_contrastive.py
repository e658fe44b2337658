"""The loss on vectors of any encoder: in a training loop of one's own, and with vectors at the limits of floats."""

from __future__ import annotations

import copy
import logging
import pickle

import pytest
import torch
from loss_cases import CASES, PAIRWISE, MeanOfTokens, batch, build, total, value_and_gradients
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from fmicl_text.core import Adaptation, Region
from fmicl_text.losses import ContrastiveLoss
from fmicl_text.losses.moving_region import MovingRegion
from fmicl_text.losses.papers.fmicl import FMICL
from fmicl_text.losses.papers.infonce import InfoNCE

FOUR = torch.arange(4)


def vectors(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_infonce_of_vectors_by_hand():
    """Columns of vectors in; row 3's identity is row 0's positive's, so they are no negatives of each other."""
    x, y, n = vectors(3, 4, 6)
    identities = [torch.tensor([0, 1, 2, 3]), torch.tensor([3, 4, 5, 6]), torch.tensor([7, 8, 0, 9])]
    terms = ContrastiveLoss(InfoNCE(temperature=0.5))([x, y, n], identities)
    ux, uy, un = (normalize(v, dim=1) for v in (x, y, n))
    scores = torch.cat([ux @ uy.T, ux @ un.T], dim=1) / 0.5
    scores[[0, 0, 3], [3, 6, 0]] = -torch.inf  # row 0's pair has texts 0 and 3
    torch.testing.assert_close(total(terms), cross_entropy(scores, FOUR))


def test_a_training_loop_of_ones_own_with_a_queue():
    """MoCo over a plain module: keys by the average, which follows once a step, and by whom they are met."""
    torch.manual_seed(0)
    network = nn.Linear(5, 3, dtype=torch.float64)
    loss = ContrastiveLoss(InfoNCE(queue=16, momentum=0.5, temperature=0.5), encoder=network, dimensions=3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    average, waiting = network.weight.detach().clone(), torch.zeros(0, 3, dtype=torch.float64)
    bias = network.bias.detach().clone()
    for step in range(3):
        batches = list(vectors(2, 4, 5, seed=step))
        average, bias = torch.lerp(average, network.weight.detach(), 0.5), torch.lerp(bias, network.bias.detach(), 0.5)
        keys = loss.keys(network, batches)
        of_x, of_y = (normalize(b @ average.T + bias, dim=1) for b in batches)
        torch.testing.assert_close(keys, [of_x, of_y])
        identities = [8 * step + FOUR, 8 * step + 4 + FOUR]
        found = total(loss([network(b) for b in batches], identities, keys))
        x, y = (normalize(network(b), dim=1) for b in batches)
        wanted = [
            cross_entropy(torch.cat([a @ k.T, a @ waiting.T], dim=1) / 0.5, FOUR) for a, k in ((x, of_y), (y, of_x))
        ]
        torch.testing.assert_close(found, sum(wanted) / 2)
        waiting = torch.cat([waiting, of_x, of_y])
        found.backward()
        optimizer.step()
        optimizer.zero_grad()


def test_what_a_loss_on_vectors_refuses():
    with pytest.raises(ValueError, match=r"dimensions must be given for a head, a projector, .* got None"):
        ContrastiveLoss(InfoNCE(head="mlp"))
    with pytest.raises(ValueError, match="encoder must be given for a moving average"):
        ContrastiveLoss(InfoNCE(queue=4), dimensions=3)
    loss = ContrastiveLoss(InfoNCE(queue=4), encoder=nn.Linear(5, 3), dimensions=3)
    with pytest.raises(ValueError, match="a loss with a queue needs the batch's identities, and its keys"):
        loss([torch.eye(3)] * 2)


@pytest.mark.parametrize("case", PAIRWISE)
@pytest.mark.parametrize("scale", [1e25, 1e-25, 3e38, 1e-38])
def test_length_does_not_matter(case: str, scale: float):
    """Nor that of a row among others: squares of 1e25 overflow float32."""
    loss = build(case).float().eval()
    columns = [v.float().requires_grad_() for v in vectors(2, 4, 6)]
    scales = torch.tensor([1.0, scale, 1.0, scale])[:, None]
    expected = loss.compute_loss_from_embeddings(list(columns))
    slopes = torch.autograd.grad(total(expected), columns)
    long = [(normalize(c.detach(), dim=1) * scales * 0.9).requires_grad_() for c in columns]
    terms = loss.compute_loss_from_embeddings(list(long))
    torch.testing.assert_close(dict(terms), dict(expected), rtol=1e-3, atol=1e-4)
    if scale > 1:  # by 1/scale smaller, and infinite for what is nearly 0
        found = torch.autograd.grad(total(terms), long)
        norm = [c.detach().norm(dim=1, keepdim=True) for c in columns]
        wanted = [s * n / (0.9 * scales) for s, n in zip(slopes, norm, strict=True)]
        torch.testing.assert_close(found, tuple(wanted), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("case", PAIRWISE)
def test_zero_vectors_are_counted_and_have_no_gradient(case: str, caplog: pytest.LogCaptureFixture):
    loss = build(case).eval()
    columns = list(vectors(2, 4, 6))
    columns[1][2] = 0
    leaves = [c.requires_grad_() for c in columns]
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            terms = loss.compute_loss_from_embeddings(leaves)
    assert loss.zero_vectors == 2
    assert [record.getMessage()[:49] for record in caplog.records] == [
        "1 of 8 embeddings of a batch are all zeros: they "
    ]
    total(terms).backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)
    assert not leaves[1].grad[2].any() and leaves[1].grad[[0, 1, 3]].abs().sum() > 0


@pytest.mark.parametrize("common", [{}, {"head": "mlp", "queue": 8}], ids=["plain", "queue"])
@pytest.mark.parametrize("case", PAIRWISE)
def test_losses_can_be_pickled_and_copied(case: str, common: dict):
    """Also after a call, and what comes out of it goes on as the one that was."""
    loss = build(case, **common)
    value_and_gradients(loss, batch(5, 2, seed=0))
    total(loss(batch(5, 2, seed=1)))
    twins = [pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)]
    expected = total(loss(batch(5, 2, seed=2)))
    for twin in twins:
        assert type(twin) is type(loss) and twin.objective == loss.objective
        torch.testing.assert_close(total(twin(batch(5, 2, seed=2))), expected, rtol=0, atol=0)


def test_one_warning_for_batches_of_one_row(caplog: pytest.LogCaptureFixture):
    """With explicit negatives, or rows in a queue, such a batch has negatives."""
    single = list(vectors(3, 1, 6))
    with caplog.at_level(logging.WARNING):
        loss = build("fmicl")
        loss.compute_loss_from_embeddings(single)
        assert not caplog.records
        for _ in range(2):
            terms = loss.compute_loss_from_embeddings(single[:2])
    assert terms["negative"] == 0 and terms["positive"] != 0
    assert ["dataloader_drop_last=True" in record.getMessage() for record in caplog.records] == [True]


def test_the_window_of_a_moving_region():
    """The mean is of the last ``window`` losses: with a window of two, 2 after 9, 1, 3, not 13/3 and not 3."""
    for last, level in ((2.5, 1), (1.5, 3)):
        region = MovingRegion(Adaptation(Region(0.1), delta=0.1, window=2))
        for loss in (9.0, 1.0, 3.0, last):
            region.begin_step()
            region.record(torch.tensor(loss))
        region.begin_step()
        # 1 is below 9 (level 1), 3 below (9 + 1) / 2 (level 2); the last is compared with (1 + 3) / 2.
        assert int(region.place) == level
        assert region.losses.shape == (2,)


def test_objectives_are_values():
    assert FMICL(divergence="kl") == FMICL(divergence="kl", sigma="adaptive") != FMICL()
    assert len(CASES) == len({repr(build(case).objective) for case in CASES})
    assert ContrastiveLoss(FMICL(shift="none")).is_mean and not ContrastiveLoss(InfoNCE()).is_mean
    assert MeanOfTokens().get_embedding_dimension() == 6
