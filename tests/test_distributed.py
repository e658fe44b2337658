"""Two processes: what the loss owns beyond the encoder starts equal, and its gradients are averaged.

The encoder is the smallest there is, so that the processes need not import sentence-transformers.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fmicl_text import FMICLLoss

TOKENS = (  # (anchors, positives) of each process, three tokens a text; batches of different sizes
    ([[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 5, 9]], [[1, 2, 4], [4, 5, 7], [7, 8, 1], [1, 5, 2]]),
    ([[2, 4, 6], [3, 5, 7], [9, 8, 7]], [[2, 4, 8], [3, 5, 9], [9, 8, 6]]),
)


class MeanOfTokens(nn.Module):
    """An encoder: the mean of learned token vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(10, 6)

    def get_embedding_dimension(self) -> int:
        return self.tokens.embedding_dim

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": self.tokens(features["input_ids"]).mean(dim=1)}


def loss_built_with(seed: int, alpha: float | str = "auto") -> FMICLLoss:
    """The same encoder for every seed, as if loaded from a file, and parts of the loss that differ."""
    torch.manual_seed(0)
    model = MeanOfTokens()
    torch.manual_seed(seed)
    return FMICLLoss(model, "kl", sigma=0.6 + seed, learn_kernel=True, head="mlp", alpha=alpha)


def gradients(loss: FMICLLoss, rank: int) -> dict[str, Tensor]:
    """Gradients of one process's batch, by the parameter's name without wrappers."""
    columns = [torch.tensor(column) for column in TOKENS[rank]]
    terms = loss([{"input_ids": column, "attention_mask": torch.ones_like(column)} for column in columns])
    sum(terms.values()).backward()
    return {name.replace("model.module.", "model."): p.grad for name, p in loss.named_parameters()}


def one_process(rank: int, folder: Path) -> None:
    """As the trainer does it: every process builds its own loss, then the encoder inside is wrapped."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=2)
    loss = loss_built_with(seed=rank)
    loss.model = DistributedDataParallel(loss.model)
    result = {"gradients": gradients(loss, rank), "own": loss.own_state()}
    torch.save(result, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    """What each of two processes ends with after one backward pass."""
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(one_process, args=(folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def average_ratio() -> float:
    """Mean of the two batches' mean density ratios under the first process's loss."""
    ratios = []
    for rank in range(2):
        loss = loss_built_with(seed=0)
        gradients(loss, rank)
        ratios.append(loss.alpha.mean_ratio.item())
    assert ratios[0] != pytest.approx(ratios[1], rel=0.01)
    return sum(ratios) / 2


def test_the_first_process_decides_what_the_others_start_with(processes):
    parameters = ("head.0.weight", "head.0.bias", "kernel.log_temperature")
    first, second = (loss_built_with(seed).own_state() for seed in range(2))
    for name in parameters:
        assert not torch.equal(first[name], second[name])
        assert all(torch.equal(process["own"][name], first[name]) for process in processes)


def test_auto_alpha_is_the_same_everywhere(processes, average_ratio: float):
    ratios = [process["own"]["alpha.mean_ratio"].item() for process in processes]
    assert ratios[0] == ratios[1] == pytest.approx(average_ratio, rel=1e-5)


def test_gradients_are_averaged(processes, average_ratio: float):
    """Encoder, head and width have everywhere the mean of the two batches' gradients, computed here one by one."""
    separate = [gradients(loss_built_with(seed=0, alpha=1 / average_ratio), rank) for rank in range(2)]
    assert len(separate[0]) == 4
    for name in separate[0]:
        first, second = (process["gradients"][name] for process in processes)
        assert torch.equal(first, second)
        torch.testing.assert_close(first, (separate[0][name] + separate[1][name]) / 2, rtol=1e-4, atol=1e-6)
