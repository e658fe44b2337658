"""W processes with B rows each against one process with all of them: values, gradients, and what a process holds."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
import torch.distributed as dist
from reference.objectives import CASES, parameters
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fmicl_text.core import Alpha, GaussianKernel, Region, across_devices, fmicl, infonce, overlap, tile_memory

WORLDS = (2, 3)
ROWS, EXTRA, INPUTS, DIMENSION = 4, 2, 5, 4  # of each process
SITUATIONS = ("plain", "duplicates", "ring")
SEARCHING = ("fmicl-dv-js-both", "fmicl-dv-vlc-cross")  # dozens of sweeps: slow over sockets, and made as with KL


def keys(world: int) -> list[tuple[str, str]]:
    """Objectives and situations that a number of processes is tried with: of three, the one that has everything."""
    return [
        (name, situation)
        for name, case in CASES.items()
        for situation in (SITUATIONS if world == 2 else ("duplicates",))
        if name not in SEARCHING and not (case.needs_extra and situation == "ring")
    ]


def part_of(rank: int, situation: str) -> dict[str, Tensor]:
    """Inputs of one process's encoder, and the identities of their texts, some of which others have too."""
    generator = torch.Generator().manual_seed(rank)
    sizes = {"x": ROWS, "y": ROWS, "extra": EXTRA}
    part = {name: torch.randn(size, INPUTS, generator=generator, dtype=torch.float64) for name, size in sizes.items()}
    part["offered"] = torch.rand(ROWS, EXTRA, generator=generator) < 0.6
    if situation == "duplicates":
        part["texts"] = torch.randint(0, 15, (ROWS, 2), generator=generator)
        part["extra_texts"] = torch.randint(0, 15, (EXTRA,), generator=generator)
    return part


def whole(world: int, situation: str) -> dict[str, Tensor]:
    """The parts of all processes; to a row, only its own process's items were offered."""
    parts = [part_of(rank, situation) for rank in range(world)]
    together = {name: torch.cat([part[name] for part in parts]) for name in parts[0] if name != "offered"}
    return together | {"offered": torch.block_diag(*(part["offered"].double() for part in parts)).bool()}


def encoder() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(INPUTS, DIMENSION, bias=False, dtype=torch.float64)


def value_and_gradients(name: str, situation: str, part: dict[str, Tensor]) -> list[Tensor]:
    """The loss, and its gradient by the encoder's weights and the learned widths."""
    case, layer, settings = CASES[name], encoder(), CASES[name].learned()
    leaves = [layer.weight, *parameters(settings)]
    given: dict[str, Any] = {key: part[key] for key in ("texts", "extra_texts") if key in part}
    if situation == "ring":
        given["region"] = Region(0.8, 0.3)
    if case.needs_extra:
        given["offered"] = part["offered"]
    vectors = [normalize(layer(part[column]), dim=1) for column in ("x", "y", "extra")]
    if situation == "plain" and not case.needs_extra:
        vectors.pop()
    loss = sum(case.objective(*vectors, **settings, **given).values())
    return [loss, *torch.autograd.grad(loss, leaves)]


class Held(TorchDispatchMode):
    """Counts the rows of the tallest float tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        tensors = [t for t in tree_leaves(result) if isinstance(t, Tensor) and t.is_floating_point() and t.ndim == 2]
        self.rows = max([self.rows, *(max(t.shape) for t in tensors)])
        return result


def tallest() -> int:
    """Rows held at once by f-MICL and InfoNCE of 30 rows a process."""
    generator = torch.Generator().manual_seed(dist.get_rank())
    x, y = (normalize(torch.randn(30, 3, generator=generator), dim=1).requires_grad_() for _ in range(2))
    with Held() as held:
        for terms in (fmicl(x, y, negatives="within"), infonce(x, y)):
            torch.autograd.grad(sum(terms.values()), [x, y])
    return held.rows


def auto_alpha(part: dict[str, Tensor]) -> tuple[float, Tensor]:
    """The running mean ratio, and the loss's gradient, after one batch."""
    alpha, layer = Alpha("auto"), encoder()
    x, y = (normalize(layer(part[column]), dim=1) for column in ("x", "y"))
    terms = fmicl(x, y, alpha=alpha, kernel=GaussianKernel(0.5), texts=part["texts"])
    return alpha.mean_ratio.item(), torch.autograd.grad(sum(terms.values()), layer.weight)[0]


def of_some_rows(part: dict[str, Tensor]) -> list[Tensor]:
    """As :func:`value_and_gradients`, with a temperature that every third or fourth row of the whole batch gives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "_ROWS", 3)
        return value_and_gradients("fmicl-adaptive-js-cross", "plain", part)


def mean_over_processes(gradient: Tensor) -> Tensor:
    """What ``DistributedDataParallel`` makes of it."""
    dist.all_reduce(gradient)
    return gradient / dist.get_world_size()


def one_process(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=world)
    results: dict[Any, Any] = {}
    with across_devices(), tile_memory(8 * 8 * 15):  # tiles of 15 pairs
        for key in keys(world):
            loss, *gradients = value_and_gradients(*key, part_of(rank, key[1]))
            results[key] = [loss.detach(), *map(mean_over_processes, gradients)]
    with across_devices():
        results["tallest"] = tallest()
        loss, *gradients = of_some_rows(part_of(rank, "plain"))
        results["some rows"] = [loss.detach(), *map(mean_over_processes, gradients)]
        ratio, gradient = auto_alpha(part_of(rank, "duplicates"))
        results["auto"] = (ratio, mean_over_processes(gradient))
    results["apart"] = value_and_gradients("infonce", "plain", part_of(rank, "plain"))[0].item()
    with across_devices(False):
        results["not across"] = value_and_gradients("infonce", "plain", part_of(rank, "plain"))[0].item()
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


Found = list[dict[Any, Any]]
"""What each of some processes found."""


@pytest.fixture(scope="module")
def found_by(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Found]:
    """Start so many processes, the first time they are asked for."""

    @functools.cache
    def found(world: int) -> Found:
        folder = tmp_path_factory.mktemp("processes")
        forked.together(one_process, world, world, folder)
        return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]

    return found


@pytest.mark.parametrize(("world", "name", "situation"), [(world, *key) for world in WORLDS for key in keys(world)])
def test_processes_are_one_process_with_all_rows(
    found_by: Callable[[int], Found], world: int, name: str, situation: str
):
    """The same loss in every process, and the mean of their gradients, of the encoder and of learned widths."""
    expected = [tensor.detach() for tensor in value_and_gradients(name, situation, whole(world, situation))]
    for found in found_by(world):
        torch.testing.assert_close(found[name, situation], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("world", WORLDS)
def test_no_process_holds_all_rows(found_by: Callable[[int], Found], world: int):
    """30 of its own and 30 visitors, never side by side in one tensor; a tile is 30 by 30."""
    assert [found["tallest"] for found in found_by(world)] == [30] * world


@pytest.mark.parametrize("world", WORLDS)
def test_auto_alpha_looks_at_all_rows(found_by: Callable[[int], Found], world: int):
    ratio, gradient = auto_alpha(whole(world, "duplicates"))
    for found in found_by(world):
        assert found["auto"][0] == pytest.approx(ratio)
        torch.testing.assert_close(found["auto"][1], gradient)


@pytest.mark.parametrize("world", WORLDS)
def test_the_rows_that_give_a_temperature_are_those_of_the_whole_batch(found_by: Callable[[int], Found], world: int):
    expected = [tensor.detach() for tensor in of_some_rows(whole(world, "plain"))]
    every = value_and_gradients("fmicl-adaptive-js-cross", "plain", whole(world, "plain"))[0]
    assert not torch.isclose(expected[0], every)
    for found in found_by(world):
        torch.testing.assert_close(found["some rows"], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("world", WORLDS)
def test_processes_are_apart_unless_told(found_by: Callable[[int], Found], world: int):
    for rank, found in enumerate(found_by(world)):
        alone = value_and_gradients("infonce", "plain", part_of(rank, "plain"))[0].item()
        assert found["apart"] == found["not across"] == pytest.approx(alone)


def test_one_process_is_as_without():
    part = part_of(0, "duplicates")
    with across_devices():
        across = value_and_gradients("infonce", "duplicates", part)
    torch.testing.assert_close(across, value_and_gradients("infonce", "duplicates", part))
