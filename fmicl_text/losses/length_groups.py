"""Encoding the rows of a batch in groups of like length, so that a CPU computes less of padding.

A batch is padded to its longest text, so with texts of many lengths most of what an encoder computes is padding. Rows
are encoded independently of each other, so which of them are encoded together changes nothing but rounding (and which
random numbers of dropout a row has). Batches, their order and their negatives stay as they are.

Shapes: ``B`` rows, ``L`` tokens of the longest, ``D`` dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from fmicl_text.core.devices import process_count
from fmicl_text.losses import adaptive_layers
from fmicl_text.losses.features import Features
from fmicl_text.losses.vectors import embeddings_of

_PASS = 64
"""What a further pass through the encoder costs, in tokens: mostly the addition of its gradients to the earlier ones.

By which MiniLM of 6 layers is fastest; the time depends little on it.
"""
_OF_TOKENS, _OF_ROWS = {"input_ids", "attention_mask", "token_type_ids"}, {"prompt_length"}  # (B, L), (B,)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""Layers by which a row's embedding depends on those that are encoded with it."""


def encode(model: nn.Module, column: Features) -> Tensor:
    """Return the embeddings ``(B, D)`` of a column, encoded in groups of like length if that takes less time.

    It is one pass on an accelerator, which is faster with few large passes; where several processes train together, as
    they must make equally many; and for what is not texts padded at their ends.

    Args:
        model: The encoder.
        column: What it reads, such as features or pixels; it leaves its outputs there if it is one pass.
    """
    lengths = _lengths(model, column) if _on_a_cpu(column) and process_count() == 1 else None
    if lengths is None:
        return embeddings_of(model(column))
    order = lengths.argsort(stable=True)  # (B,)
    ends = cuts(lengths[order].tolist())
    if len(ends) == 1:
        return embeddings_of(model(column))
    groups = [order[first:end] for first, end in pairwise([0, *ends])]
    encoded = [embeddings_of(model(_part(column, rows, int(lengths[rows[-1]])))) for rows in groups]
    return torch.cat(encoded)[order.argsort()]  # (B, D)


def _on_a_cpu(column: Features) -> bool:
    """Return whether lengths can be read without waiting for a device."""
    mask = _mask(column)
    return mask is not None and mask.device.type == "cpu"


def _mask(column: Features) -> Tensor | None:
    mask = column.get("attention_mask") if isinstance(column, Mapping) else None
    return mask if isinstance(mask, Tensor) and mask.ndim == 2 and len(mask) else None  # (B, L)


def by_length(model: nn.Module, column: Features) -> tuple[Features, Tensor | None]:
    """Return a column with its rows in the order of their lengths, and the place of each row in it ``(B,)``.

    Of mini-batches that are cut from it, each then has rows of like length. The column itself and ``None``, where
    lengths are not known.
    """
    lengths = _lengths(model, column)
    if lengths is None:
        return column, None
    order = lengths.argsort(stable=True)  # (B,)
    return _part(column, order, int(lengths.max())), order.argsort()


def cuts(lengths: Sequence[int]) -> list[int]:
    """Return where each group of rows ends, so that all together cost least.

    A group costs its rows times its longest length, and :data:`_PASS`.

    Args:
        lengths: Tokens of each row, in ascending order; at least one row.
    """
    ends = [place for place in range(1, len(lengths)) if lengths[place - 1] < lengths[place]] + [len(lengths)]
    least, before = {0: 0}, {}  # of the first rows, by their number: what they cost, and where their last group begins
    for end in ends:
        costs = {first: cost + (end - first) * lengths[end - 1] + _PASS for first, cost in least.items()}
        before[end] = min(costs, key=costs.__getitem__)
        least[end] = costs[before[end]]
    found = [len(lengths)]
    while before[found[0]]:
        found.insert(0, before[found[0]])
    return found


def _lengths(model: nn.Module, column: Features) -> Tensor | None:
    """Return the number of tokens of each row ``(B,)``; ``None`` where rows depend on what is encoded with them."""
    mask = _mask(column)  # (B, L)
    if mask is None:
        return None
    shapes = dict.fromkeys(_OF_TOKENS, mask.shape) | dict.fromkeys(_OF_ROWS, mask.shape[:1])
    tensors = {key: value.shape for key, value in column.items() if isinstance(value, Tensor) and value.ndim}
    if any(shape != shapes.get(key) for key, shape in tensors.items()):
        return None
    if adaptive_layers.are_read(model):
        return None
    if any(isinstance(module, BATCH_NORMS) for module in model.modules()):
        return None
    lengths = mask.sum(dim=1)
    ends_in_padding = mask.bool() == (torch.arange(mask.shape[1], device=mask.device) < lengths[:, None])  # (B, L)
    return lengths if ends_in_padding.all() and lengths.min() > 0 else None


def _part(column: Features, rows: Tensor, longest: int) -> Features:
    """Return some rows of a column, without the padding that none of them needs."""
    part = dict(column)
    part |= {key: column[key][rows, :longest] for key in _OF_TOKENS & column.keys()}
    return part | {key: value[rows] for key in _OF_ROWS if isinstance(value := column.get(key), Tensor) and value.ndim}
