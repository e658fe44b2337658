"""SimCLR, MoCo and MoCo v3 on images, against loops in float64 that follow the papers' formulas."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fmicl_text import FMICLLoss, InfoNCELoss, NTXentLoss, SpectralContrastiveLoss
from fmicl_text.errors import InputError
from fmicl_text.losses import Mlp
from fmicl_text.losses.identities import IDENTITY

ROWS, SIZE, WIDTH, OUT = 5, 4, 7, 3


class Pixels(nn.Module):
    """An encoder of images in float64."""

    def __init__(self, batch_norm: bool = False) -> None:
        super().__init__()
        layers = [nn.Flatten(), nn.Linear(3 * SIZE * SIZE, WIDTH), *([nn.BatchNorm1d(WIDTH)] if batch_norm else [])]
        self.layers = nn.Sequential(*layers, nn.ReLU())

    def get_embedding_dimension(self) -> int:
        return WIDTH

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": self.layers(features["pixel_values"]) + 0.1}


def build(kind, batch_norm: bool = False, **settings):
    torch.manual_seed(0)
    return kind(Pixels(batch_norm), projector=Mlp(widths=[6, OUT]), **settings).double().train()


def views(seed: int, same: tuple[int, int] | None = None) -> list[dict[str, Tensor]]:
    """Two views of each of some images; perhaps two of the images are the same."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, ROWS, 3, SIZE, SIZE, dtype=torch.float64, generator=generator)
    identity = torch.arange(ROWS) + 100 * seed
    if same is not None:
        identity[same[1]] = identity[same[0]]
    return [{"pixel_values": view, IDENTITY: identity.clone()} for view in images]


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def vectors(encoder, *layers, view) -> list[Tensor]:
    embeddings = encoder({"pixel_values": view["pixel_values"]})["sentence_embedding"]
    for layer in layers:
        embeddings = layer(embeddings)
    return list(normalize(embeddings, dim=1))


def cross_entropy(logits: list[Tensor]) -> Tensor:
    """The first is the positive."""
    return -logits[0] + torch.stack(logits).logsumexp(dim=0)


def test_nt_xent_after_a_projector():
    loss, tau = build(NTXentLoss, temperature=0.5), 0.5
    features = views(1)
    x, y = (vectors(loss.model, loss.head, view=view) for view in features)
    everyone, expected = [*x, *y], []
    for i, anchor in enumerate(everyone):
        positive = (i + ROWS) % (2 * ROWS)
        others = [everyone[j] @ anchor / tau for j in range(2 * ROWS) if j not in (i, positive)]
        expected.append(cross_entropy([everyone[positive] @ anchor / tau, *others]))
    torch.testing.assert_close(total(loss(features)), torch.stack(expected).mean())


def steps(loss, seeds=(1, 2, 3)):
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.5)
    for number, seed in enumerate(seeds):
        loss.progress = number / len(seeds)
        yield views(seed)
        optimizer.step()
        optimizer.zero_grad()


def test_moco_meets_the_keys_of_its_queue():
    """Each view against the other one's key, the other images' keys and the queue's, both directions, and no gradient
    to keys."""
    loss, tau, momentum = build(InfoNCELoss, temperature=0.2, queue=8, momentum=0.9), 0.2, 0.9
    average = copy.deepcopy(nn.ModuleList([loss.model, loss.head]))
    queue: list[Tensor] = []
    for features in steps(loss):
        for mean, now in zip(average.parameters(), [*loss.model.parameters(), *loss.head.parameters()], strict=True):
            mean.data.mul_(momentum).add_(now.detach(), alpha=1 - momentum)
        found = loss([dict(view) for view in features])
        queries = [vectors(loss.model, loss.head, view=view) for view in features]
        with torch.no_grad():
            keys = [vectors(*average, view=view) for view in features]
        expected = []
        for of, against in ((0, 1), (1, 0)):
            for i, query in enumerate(queries[of]):
                others = [keys[against][j] for j in range(ROWS) if j != i] + queue
                expected.append(cross_entropy([query @ key / tau for key in [keys[against][i], *others]]))
        wanted = torch.stack(expected).mean()
        torch.testing.assert_close(total(found), wanted)
        owned = [*loss.model.parameters(), *loss.head.parameters()]
        gradients = torch.autograd.grad(wanted, owned)
        total(found).backward()
        torch.testing.assert_close([parameter.grad for parameter in owned], list(gradients))
        queue = [*queue, *keys[0], *keys[1]][-8:]
    assert not any(p.requires_grad for p in loss.queue.parameters())


def test_moco_v3():
    """``ctr(q1, k2) + ctr(q2, k1)``, ``ctr = 2 tau CE``, a predictor of queries, and a momentum that goes to 1."""
    tau, momentum = 0.2, 0.9
    loss = build(
        InfoNCELoss,
        temperature=tau,
        momentum=momentum,
        momentum_schedule="cosine",
        factor=4 * tau,
        predictor=Mlp(widths=[6, OUT]),
    )
    assert len(loss.queue.vectors) == 0, "no queue"
    average = copy.deepcopy(nn.ModuleList([loss.model, loss.head]))
    for number, features in enumerate(steps(loss)):
        share = 1 - (1 - momentum) * (math.cos(math.pi * number / 3) + 1) / 2
        assert loss.momentum() == pytest.approx(share)
        for mean, now in zip(average.parameters(), [*loss.model.parameters(), *loss.head.parameters()], strict=True):
            mean.data.mul_(share).add_(now.detach(), alpha=1 - share)
        queries = [vectors(loss.model, loss.head, loss.predictor, view=view) for view in features]
        with torch.no_grad():
            keys = [vectors(*average, view=view) for view in features]

        def contrast(q: list[Tensor], k: list[Tensor]) -> Tensor:
            losses = [
                cross_entropy([q[i] @ key / tau for key in [k[i], *(k[j] for j in range(ROWS) if j != i)]])
                for i in range(ROWS)
            ]
            return 2 * tau * torch.stack(losses).mean()

        found = loss([dict(view) for view in features])
        torch.testing.assert_close(total(found), contrast(queries[0], keys[1]) + contrast(queries[1], keys[0]))
        total(found).backward()
        assert all(p.grad is not None for p in loss.predictor.parameters())


@pytest.mark.parametrize("kind", [FMICLLoss, InfoNCELoss, NTXentLoss])
@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_momentum_0_is_the_encoder_and_1_never_moves(kind, momentum: float):
    loss = build(kind, momentum=momentum)
    first = [parameter.clone() for parameter in loss.queue.parameters()]
    for features in steps(loss):
        total(loss(features)).backward()
        expected = [*loss.model.parameters(), *loss.head.parameters()] if momentum == 0 else first
        assert all(torch.equal(a, b) for a, b in zip(loss.queue.parameters(), expected, strict=True))
    assert not torch.equal(first[0], next(loss.model.parameters()))


def slope_of_row_1(loss, features: list[dict[str, Tensor]]) -> Tensor:
    """How the loss changes with the first view of row 1; the loss stays as it is."""
    loss.model.eval()
    x = features[0]["pixel_values"].clone().requires_grad_()
    terms = loss([{**features[0], "pixel_values": x}, dict(features[1])])
    return torch.autograd.grad(total(terms), x)[0][1]


@pytest.mark.parametrize("kind", [FMICLLoss, SpectralContrastiveLoss])
@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9}], ids=["SimCLR", "MoCo v3"])
@pytest.mark.parametrize("copied", [True, False])
def test_a_copy_of_an_image_is_never_its_own_negative(kind, settings: dict, copied: bool):
    """Row 1 does not feel where the views of its copy, row 3, lie; objectives are sums over pairs, so this is all."""
    loss = build(kind, **settings)
    features = views(1, (1, 3) if copied else None)
    moved = [dict(view) for view in features]
    moved[1]["pixel_values"] = moved[1]["pixel_values"].index_add(
        0, torch.tensor([3]), 0.5 + torch.rand(1, 3, SIZE, SIZE, dtype=torch.float64)
    )
    same = torch.allclose(slope_of_row_1(loss, features), slope_of_row_1(loss, moved), atol=1e-12)
    assert same == copied


@pytest.mark.parametrize("kind", [FMICLLoss, InfoNCELoss])
@pytest.mark.parametrize("copied", [True, False])
def test_a_copy_in_the_queue_is_no_negative(kind, copied: bool):
    # A copy is a negative of other rows, so an adaptive width would differ.
    loss = build(kind, queue=50, **({"sigma": 0.3} if kind is FMICLLoss else {}))
    earlier, now = views(1), views(2)
    loss([dict(view) for view in earlier])
    if copied:  # row 1 was row 0 of the earlier batch, under another pair of views
        for view in now:
            view[IDENTITY][1] = earlier[0][IDENTITY][0]
    before = slope_of_row_1(loss, now)
    for place in (0, ROWS):  # both keys of that row
        loss.queue.vectors[place] = -loss.queue.vectors[place]
    assert torch.allclose(before, slope_of_row_1(loss, now), atol=1e-12) == copied


def test_mini_batches_are_refused_with_batch_norm():
    with pytest.raises(ValueError, match="mini_batch_size must be None with BatchNorm"):
        build(InfoNCELoss, batch_norm=True, mini_batch_size=2)
    with pytest.raises(ValueError, match="mini_batch_size must be None with BatchNorm"):
        InfoNCELoss(Pixels(), projector=Mlp(widths=[6, OUT], batch_norm="hidden"), mini_batch_size=2)
    build(InfoNCELoss, mini_batch_size=2)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"predictor": Mlp(widths=[OUT])}, "predictor is for a loss whose positives a moving average makes"),
        ({"momentum_schedule": "cosine"}, "momentum_schedule belongs to momentum"),
        ({"factor": 2.0}, "factor belongs to momentum"),
        ({"head": "mlp"}, "projector takes the place of head"),
        ({"projector": {"widths": []}}, "projector.widths must not be empty"),
    ],
)
def test_settings_that_do_not_go_together(settings: dict, why: str):
    with pytest.raises(InputError, match=why):
        InfoNCELoss(Pixels(), **{"projector": Mlp(widths=[6, OUT])} | settings)


def test_a_predictor_ends_as_its_keys():
    with pytest.raises(ValueError, match="must end in 3 dimensions"):
        build(InfoNCELoss, momentum=0.9, predictor=Mlp(widths=[6, 4]))


def test_a_schedule_needs_to_know_where_training_stands():
    loss = build(InfoNCELoss, momentum=0.9, momentum_schedule="cosine")
    with pytest.raises(ValueError, match=r"train with fmicl_text\.ContrastiveTrainer"):
        loss(views(1))


def test_layers_of_a_projector():
    hidden = Mlp(widths=[4, 2], batch_norm="hidden").build(3)
    assert [type(layer).__name__ for layer in hidden] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    everywhere = Mlp(widths=[4, 2], batch_norm="all").build(3)
    assert [type(layer).__name__ for layer in everywhere] == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    assert everywhere[-1].weight is None and everywhere[0].bias is None
    assert all(layer.bias is not None for layer in Mlp(widths=[4, 2]).build(3) if isinstance(layer, nn.Linear))


def test_images_that_come_back_do_not_meet_their_keys_in_the_queue():
    """Other views of the same images, as in the next epoch: their own earlier keys are no negatives."""
    one = {name: view[:1] for name, view in views(1)[0].items()}
    again = {name: view[:1] for name, view in views(1)[1].items()}
    loss, fresh = (build(InfoNCELoss, queue=12, momentum=0.5) for _ in range(2))
    loss.queue.push(loss.queue.keys([one, one]), torch.stack([one[IDENTITY]] * 2, dim=1))
    torch.testing.assert_close(total(dict(loss([again, one]))), total(dict(fresh([again, one]))))
    other = {name: view[1:2] for name, view in views(1)[1].items()}
    assert total(dict(loss([other, other]))) > total(dict(fresh([other, other]))) + 1e-3
