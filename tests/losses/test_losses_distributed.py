"""Several processes that share a batch: the value and the gradient of one process with all of its rows.

The processes of a world are started once; each runs every scenario and leaves what came out in a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
import torch.distributed as dist
from loss_cases import CASES, DIMENSIONS, PAIRWISE, batch, build, part, total, value_and_gradients
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from fmicl_text import Adaptation, Annealing, ContrastiveLoss, Region

ROWS, STEPS = 4, 3  # rows of each process


class Place:
    """One process of a world of several, or the one process that has the rows of them all."""

    def __init__(self, rank: int, world: int) -> None:
        self.world = world
        self.alone = not dist.is_initialized()
        self.rank = rank
        self.rows = slice(None) if self.alone else slice(rank * ROWS, (rank + 1) * ROWS)

    def loss(self, case: str, queue: int | None = None, **common: Any) -> ContrastiveLoss:
        """As the trainer does it: every process builds its own loss, then the encoder inside is wrapped.

        What the loss owns differs until the first process says what it is. A queue is shared out among the processes.
        """
        rows = queue and queue * (self.world if self.alone else 1)
        loss = build(case, seed=self.rank, queue=rows, **common)
        if not self.alone:
            loss.model = DistributedDataParallel(loss.model)
        return loss

    def features(self, columns: int, seed: int) -> list[dict[str, Tensor]]:
        """This process's rows of a batch in which texts occur again, here and on other processes."""
        return part(batch(ROWS * self.world, columns, seed), self.rows)

    def step(self, case: str, columns: int, **common: Any) -> Any:
        """Value and gradients of one batch."""
        return value_and_gradients(self.loss(case, **common), self.features(columns, seed=columns))

    def training(self, case: str, **common: Any) -> Any:
        """Values of some steps of SGD on pairs and triplets, and the state they end with."""
        loss = self.loss(case, **common)
        optimizer = torch.optim.SGD(loss.parameters(), lr=0.02)
        values = []
        for step in range(STEPS):
            value = total(loss(self.features(2 + step % 2, seed=step)))
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
            values.append(value.detach())
        return values, {name.replace("model.module.", "model."): state for name, state in loss.state_dict().items()}

    def embeddings(self, case: str) -> Any:
        """Value and gradient of a batch that is given as embeddings, without texts."""
        generator = torch.Generator().manual_seed(0)
        whole = torch.randn(3, ROWS * self.world, DIMENSIONS, generator=generator, dtype=torch.float64)
        columns = whole[:, self.rows].clone().requires_grad_()
        loss = self.loss(case)
        value = total(loss.compute_loss_from_embeddings(list(columns)))
        value.backward()
        return value.detach(), [p.grad for p in loss.own_parameters()]


def in_every_case(kind: str, cases: Iterable[str], do: Callable[[Place, str], Any]) -> dict[str, Any]:
    return {f"{case}-{kind}": partial(do, case=case) for case in cases}


WORLDS: dict[int, dict[str, Callable[[Place], Any]]] = {
    2: in_every_case("views", PAIRWISE, partial(Place.step, columns=1))
    | in_every_case("pairs", PAIRWISE, partial(Place.step, columns=2, head="mlp"))
    | in_every_case("triplets", CASES, partial(Place.step, columns=3, head="mlp"))
    | in_every_case("cached", CASES, partial(Place.step, columns=3, head="mlp", mini_batch_size=3))
    | in_every_case("ring", PAIRWISE, partial(Place.step, columns=3, region=Region(0.6, 0.4)))
    | in_every_case("embeddings", CASES, Place.embeddings)
    | in_every_case("queue", PAIRWISE, partial(Place.training, head="mlp", queue=8, momentum=0.5))
    | in_every_case("annealing", ["infonce"], partial(Place.training, region=Annealing(Region(0.4, 0.3), steps=4)))
    | in_every_case("adaptation", ["fmicl"], partial(Place.training, region=Adaptation(Region(0.4), 0.3, window=2))),
    3: in_every_case("pairs", PAIRWISE, partial(Place.step, columns=2))
    | in_every_case("quadruplets", CASES, partial(Place.step, columns=4, head="mlp"))
    | in_every_case("queue", ["fmicl", "ntxent"], partial(Place.training, queue=8, momentum=0.5, mini_batch_size=3)),
}
"""By the number of processes: what comes out the same from them and from one process that has all their rows."""


def separate(place: Place) -> list[Any]:
    """Without sharing: what each of the batches gives by itself, or in its process."""
    parts = [slice(r * ROWS, (r + 1) * ROWS) for r in range(place.world)] if place.alone else [slice(None)]
    found = []
    for rows in parts:
        loss = place.loss("fmicl", head="mlp", gather_across_devices=False)
        found.append(value_and_gradients(loss, part(place.features(3, seed=3), rows)))
    return found


def refused(place: Place) -> list[str]:
    """The message of each process where the last has NaN in its batch, and where the first has fewer rows."""
    messages = []
    broken = place.loss("infonce")
    with torch.no_grad():
        broken.model.module.tokens.weight[1] = torch.nan
    tokens = torch.full((ROWS, 1), 1 if place.rank == place.world - 1 else 2)
    fewer = part(place.features(2, seed=0), slice(0, ROWS - (place.rank == 0)))
    for loss, features in (
        (broken, [{"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}] * 2),
        (place.loss("infonce"), fewer),
    ):
        try:
            loss(features)
        except ValueError as error:
            messages.append(str(error))
    return messages


def one_process(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=world)
    place = Place(rank, world)
    found = {name: scenario(place) for name, scenario in WORLDS[world].items()}
    found |= {"separate": separate(place), "refused": refused(place)}
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=WORLDS, ids="{}-processes".format)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process of a world ends with."""
    folder = tmp_path_factory.mktemp("world")
    forked.together(one_process, request.param, request.param, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(request.param)]


def test_as_one_process_with_all_rows(world: list[dict[str, Any]]):
    for name, scenario in WORLDS[len(world)].items():
        expected = scenario(Place(0, len(world)))
        for process in world:
            torch.testing.assert_close(process[name], expected, rtol=1e-8, atol=1e-10, msg=f"{name}: {{}}".format)


def test_separate_batches_are_averaged(world: list[dict[str, Any]]):
    """``gather_across_devices=False``: each its own loss, and the mean of the gradients everywhere."""
    expected = separate(Place(0, len(world)))
    names = expected[0][1].keys()
    mean = {name: sum(slopes[name] for _, slopes in expected) / len(world) for name in names}
    assert len(names) == 4  # encoder, head and width
    for process, (value, _) in zip(world, expected, strict=True):
        [(own_value, slopes)] = process["separate"]
        torch.testing.assert_close(own_value, value)
        torch.testing.assert_close(slopes, mean)
    assert total(expected[0][0]) != total(expected[1][0])


def test_all_processes_stop_where_one_has_to(world: list[dict[str, Any]]):
    """Nobody is left waiting for a process that has stopped."""
    *others, last = (process["refused"] for process in world)
    sizes = [ROWS - 1, *[ROWS] * (len(world) - 1)]
    assert last[0].startswith(f"the encoder gave NaN or infinity for {ROWS} of {ROWS} rows of a batch")
    assert {nan for nan, _ in others} == {"the encoder gave NaN or infinity for a batch of another process"}
    assert all(f"the processes have {sizes} rows, which must be as many on each" in even for _, even in [*others, last])
