"""Training arguments that are faster on a CUDA device, for a recipe that does not say otherwise."""

from __future__ import annotations

import multiprocessing
from typing import Any

import torch
from transformers import TrainingArguments

WORKERS = 2
"""Processes that tokenise the next batches while the device computes, for each process of training."""


def is_used() -> bool:
    """Whether training is on a CUDA device."""
    return torch.cuda.is_available()


def defaults() -> dict[str, Any]:
    """Return training arguments for a CUDA device; none for another.

    One kernel makes the whole step of AdamW (torch from 2.8 on has it anyway); workers make batches ahead, into pinned
    memory, which is copied while the device computes. Neither rows nor their order depend on the workers. There are
    none where a process is not forked (Windows, macOS, Linux from Python 3.14 on): a worker would be sent the encoder,
    whose tokenizer it needs, and use the device.
    """
    if not is_used():
        return {}
    start_method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    return {
        "optim": "adamw_torch_fused",
        "dataloader_num_workers": WORKERS if start_method == "fork" else 0,
        "dataloader_pin_memory": True,
        "accelerator_config": {"non_blocking": True},
    }


def described(arguments: TrainingArguments) -> str | None:
    """Return optimizer and loading of batches in words; ``None`` unless training is on a CUDA device."""
    if not is_used():
        return None
    workers = arguments.dataloader_num_workers
    made = f"made by {workers} worker{'s' * (workers > 1)} ahead" if workers else "made between steps"
    memory = "pinned memory" if arguments.dataloader_pin_memory else "pageable memory"
    return f"optimizer {arguments.optim.value}; batches {made}, in {memory}"
