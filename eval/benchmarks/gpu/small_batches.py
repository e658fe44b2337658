"""Part 5: loss and gradient of a batch as it is trained on, whose pairs are one matrix: mostly the time of launches."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from eval.benchmarks.gpu.large_batches import embeddings, fmicl_mean, fmicl_row, infonce
from eval.benchmarks.gpu.machine import Budget, compiling, seconds_of, use_tf32

DIMENSIONS = {"cuda": 768, "cpu": 32}
SIZES = {"cuda": (64, 256, 512, 2048), "cpu": (8,)}
REPEATS = 30


def mnrl(x: Tensor, y: Tensor) -> None:
    """InfoNCE by sentence-transformers, from given embeddings."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    model = SentenceTransformer(modules=[torch.nn.Identity()], device=str(x.device))
    MultipleNegativesRankingLoss(model).compute_loss_from_embeddings([x, y], None).backward()


CASES = {
    "f-MICL by row": fmicl_row,
    "f-MICL by row, eager": fmicl_row,
    "f-MICL": fmicl_mean,
    "InfoNCE": infonce,
    "MNRL": mnrl,
}


def run(device: torch.device, budget: Budget, found: dict[str, Any]) -> None:
    """Fill ``found`` with the milliseconds of each case and size, the seconds of its first call too."""
    use_tf32(True)
    found |= {"dimensions": DIMENSIONS[device.type], "sizes": {}}
    for batch in SIZES[device.type]:
        found["sizes"][batch] = {}
        x, y = embeddings(batch, DIMENSIONS[device.type], device)
        for name, loss in CASES.items():
            budget.require()
            call = partial(loss, x, y)
            with compiling(not name.endswith("eager")):
                first = seconds_of(call, device, 1)
                found["sizes"][batch][name] = {"ms": 1e3 * seconds_of(call, device, REPEATS), "seconds at first": first}
    use_tf32(False)


def shown(found: dict[str, Any]) -> list[str]:
    """Return lines for a reader."""
    return [
        f"B={int(batch):,} {name}: {figures['ms']:.2f} ms (at first {figures['seconds at first']:.2f} s)"
        for batch, cases in found["sizes"].items()
        for name, figures in cases.items()
    ]
