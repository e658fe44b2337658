"""Saving and loading what the losses of a training own beyond the encoder."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fmicl_text.losses import ContrastiveLoss

logger = logging.getLogger(__name__)

LOSS_FILE = "loss.safetensors"
QUEUE_FILE = "queue-{}.safetensors"
"""The rows of one process's momentum queues, by the number of the process."""


def contrastive_losses(loss: object) -> dict[str, ContrastiveLoss]:
    """Return the losses that own something, each under the prefix of its keys in a checkpoint.

    Args:
        loss: A loss, also inside a wrapper such as ``MatryoshkaLoss``, or a dictionary of them by data set. The
            prefix of a loss that is the only one is empty.
    """
    named = loss if isinstance(loss, dict) else {"": loss}
    found: dict[str, ContrastiveLoss] = {}
    for name, module in named.items():
        for path, part in module.named_modules() if isinstance(module, nn.Module) else ():
            if isinstance(part, ContrastiveLoss) and not any(part is other for other in found.values()):
                found[f"{name}/{path}/"] = part
    return found if len(found) != 1 else dict(zip([""], found.values(), strict=True))


def measured(loss: object) -> dict[str, float]:
    """Return the settings that losses left to the data, as they were measured, of several with the data set's name.

    Args:
        loss: As in :func:`contrastive_losses`.
    """
    found = {prefix.partition("/")[0]: of_data for prefix, of_data in contrastive_losses(loss).items()}
    return {
        f"{data} {name}".strip(): value for data, of_data in found.items() for name, value in of_data.measured().items()
    }


def of_last_batch(loss: object) -> dict[str, Tensor]:
    """Return the settings that each batch has its own of, such as an adaptive temperature, as the last one had them.

    Args:
        loss: As in :func:`contrastive_losses`.
    """
    return {k: v for of_data in contrastive_losses(loss).values() for k, v in of_data.of_last_batch().items()}


def save_losses(losses: dict[str, ContrastiveLoss], folder: Path) -> None:
    """Write weights and running values of the losses to a checkpoint, if they have any."""
    state = {prefix + key: value for prefix, loss in losses.items() for key, value in loss.own_state().items()}
    if state:  # cloned: weights that are tied in an encoder are also tied in its moving average
        save_file(
            {key: value.clone(memory_format=torch.contiguous_format) for key, value in state.items()},
            folder / LOSS_FILE,
        )


def save_queues(losses: dict[str, ContrastiveLoss], folder: Path, process: int) -> None:
    """Write the rows in the queues of a process to a checkpoint, if there are queues."""
    rows = {
        prefix + key: value
        for prefix, loss in losses.items()
        if loss.queue is not None
        for key, value in loss.queue.waiting().items()
    }
    if rows:
        save_file(rows, folder / QUEUE_FILE.format(process))


def load_losses(losses: dict[str, ContrastiveLoss], folder: Path, process: int) -> None:
    """Restore what :func:`save_losses` and :func:`save_queues` wrote.

    A queue whose process had none begins empty, with a warning.

    Raises:
        ValueError: If the checkpoint's losses have other parts than these.
    """
    file = folder / LOSS_FILE
    state = load_file(file) if file.is_file() else {}
    for prefix, loss in losses.items():
        loss.load_own_state(_under(prefix, state))
    queues = {prefix: loss.queue for prefix, loss in losses.items() if loss.queue is not None}
    file = folder / QUEUE_FILE.format(process)
    if queues and not file.is_file():
        logger.warning("%s is missing: the queue of this process begins empty", file)
    elif queues:
        rows = load_file(file)
        for prefix, queue in queues.items():
            queue.load_waiting(_under(prefix, rows))


def _under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
