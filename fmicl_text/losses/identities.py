"""Which rows of a batch are the same datum, or of the same group: 64-bit identities, equal for equal data.

They are best taken from the data themselves, a text or the bytes of an image, before a prompt is put in front and a
tokenizer cuts the text off: :class:`IdentityCollator` does that, and :class:`fmicl_text.ContrastiveTrainer` uses it. A
plain ``SentenceTransformerTrainer`` hands a loss the encoder's inputs alone, from which
:func:`identities_of_features` derives identities as well as they allow.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fmicl_text.losses.columns import GROUP, SOURCE, group_of, is_group_column
from fmicl_text.losses.features import BOUNDS, Features

IDENTITY = "identity"
"""Key of a column's features: the identities of its rows, int64 ``(B,)``, or with their groups ``(B, 2)``."""
_BESIDES = (SOURCE, "label", "labels", "score", "scores")
"""Columns of a row that are no input of the encoder."""


def identities(column: Sequence[Any]) -> Tensor:
    """Hash each datum to 64 bits: int64 ``(B,)``, the same on every machine.

    Args:
        column: Texts, bytes, PIL images, arrays, tensors, or lists and dicts of them.

    Two different data collide with a probability of about 2^-64.
    """
    return torch.tensor([_hashed(value) for value in column], dtype=torch.long)


def _hashed(value: Any) -> int:
    digest = hashlib.blake2b(digest_size=8)
    _feed(digest, value)
    return int.from_bytes(digest.digest(), "little", signed=True)


def _feed(digest: Any, value: Any) -> None:
    """Put a datum into a hash, with its kind and size before it, so that no two data look the same."""
    if isinstance(value, str):
        _put(digest, b"text", value.encode("utf-8", "surrogatepass"))
    elif isinstance(value, bytes | bytearray):
        _put(digest, b"bytes", bytes(value))
    elif isinstance(value, Mapping):
        _put(digest, b"mapping", str(len(value)).encode())
        for key in sorted(value, key=str):
            _feed(digest, str(key))
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        _put(digest, b"list", str(len(value)).encode())
        for item in value:
            _feed(digest, item)
    elif isinstance(value, Tensor):
        values = value.float() if value.dtype == torch.bfloat16 else value  # which NumPy does not have
        _feed(digest, values.detach().cpu().numpy())
    elif getattr(value, "mode", None) in ("P", "PA"):  # a PIL image whose bytes are places in its palette
        _feed(digest, value.convert("RGBA"))
    elif hasattr(value, "tobytes"):  # an array or a PIL image
        shape = getattr(value, "shape", None) or getattr(value, "size", ())
        _put(digest, b"array", repr((tuple(shape) if shape else (), str(_kind_of(value)))).encode())
        _put(digest, b"bytes", value.tobytes())
    else:
        _put(digest, b"other", repr(value).encode("utf-8", "surrogatepass"))


def _kind_of(array: Any) -> Any:
    return getattr(array, "dtype", None) or getattr(array, "mode", "")


def _put(digest: Any, kind: bytes, content: bytes) -> None:
    digest.update(kind + len(content).to_bytes(8, "little"))
    digest.update(content)


class IdentityCollator:
    """Collates rows as another collator does, and adds the identities of each column's data to its features.

    A column ``group`` is not given to the other collator: the group of a row, a text or a number, is a further
    identity of its first two columns, and a column ``group_NAME`` one of the column ``NAME``. A row whose group is
    None or NaN is in none.

    Args:
        collate: Makes a batch from rows; features of a column ``text`` have keys such as ``text_input_ids``.
    """

    def __init__(self, collate: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self.collate = collate

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the batch, with ``COLUMN_identity`` for each column that became features."""
        names = list(rows[0]) if rows else []
        inputs = [name for name in names if name not in _BESIDES and not is_group_column(name)]
        found = {}
        for place, name in enumerate(inputs):
            own = identities([row[name] for row in rows])  # (B,)
            group = group_of(name) if group_of(name) in names or place > 1 else GROUP
            if group in names:
                of_group = identities([row[name] if _is_missing(row[group]) else (GROUP, row[group]) for row in rows])
                own = torch.stack([own, of_group], dim=1)  # (B, 2)
            found[f"{name}_{IDENTITY}"] = own
        ungrouped = [{name: row[name] for name in names if not is_group_column(name)} for row in rows]
        return {**self.collate(ungrouped), **found}


def _is_missing(group: Any) -> bool:
    return group is None or (isinstance(group, float) and math.isnan(group))


def identities_of_features(features: Features, special: Collection[int] = ()) -> Tensor | None:
    """Hash each row of a column by what the encoder reads: int64 ``(B,)``, or ``None`` if rows cannot be told apart.

    What is hashed are tokens, padded or one text after another as flash attention and static embeddings have them, or
    pixels. Two texts that differ only
    beyond the model's maximum length are the same to the encoder, and so are they here. The prompt and the special
    token before it are left out where ``prompt_length`` tells their length; but a tokenizer that joins the last word
    of the prompt to the first of the text makes another text of it.

    Args:
        features: One column as the encoder reads it.
        special: Token ids that a tokenizer puts at the start of a text.
    """
    tokens, mask, offsets = (features.get(key) for key in ("input_ids", "attention_mask", "offsets"))
    if isinstance(tokens, Tensor) and isinstance(offsets, Tensor) and tokens.ndim == 1:
        return _of_tokens(*_padded(tokens, offsets))
    if isinstance(tokens, Tensor) and BOUNDS in features:  # (1, T)
        tokens, mask = _padded(tokens[0], features[BOUNDS][:-1])
    if isinstance(tokens, Tensor) and isinstance(mask, Tensor) and tokens.ndim == 2:  # (B, L)
        return _of_tokens(tokens, _without_start(tokens, mask, features.get("prompt_length"), special))
    pixels = features.get("pixel_values")
    counted = features.get("num_images_per_sample")  # then rows may have several images, or none
    if isinstance(pixels, Tensor) and counted is None and "image_grid_thw" not in features:
        return identities(list(pixels)).to(pixels.device)
    return None


def _padded(tokens: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Return flat tokens ``(T,)``, whose rows begin at ``offsets`` ``(B,)``, as padded ones ``(B, L)``, and a mask."""
    ends = torch.cat([offsets[1:], offsets.new_tensor([len(tokens)])])
    places = offsets[:, None] + torch.arange(max(int((ends - offsets).max()), 1), device=offsets.device)  # (B, L)
    mask = (places < ends[:, None]).long()
    if len(tokens) == 0:
        return torch.zeros_like(mask), mask
    return tokens[places.clamp(max=len(tokens) - 1)], mask


def _without_start(tokens: Tensor, mask: Tensor, prompt: Any, special: Collection[int]) -> Tensor:
    """Return the mask ``(B, L)`` without the prompt, or without a first special token where there is no prompt."""
    position = mask.cumsum(dim=1) - 1  # (B, L)
    if prompt is not None:
        length = int(prompt[0]) if isinstance(prompt, Tensor) else int(prompt)
        return mask * (position >= length)
    if not special:
        return mask
    is_special = functools.reduce(torch.logical_or, (tokens == number for number in special))  # no copy to a GPU
    return mask * ~((position == 0) & is_special)


def _of_tokens(tokens: Tensor, mask: Tensor) -> Tensor:
    """Return a sum of token ids weighted by fixed random 64-bit numbers, modulo 2^64: ``(B,)``.

    It does not depend on padding, column, device or process; two texts collide with a probability of about 2^-60.
    """
    position = mask.cumsum(dim=1) - 1  # (B, L); counts from the first real token under left padding too
    weights = _position_weights(tokens.shape[1], tokens.device)[position.clamp(min=0)]  # (B, L)
    return ((tokens + 1) * weights * mask).sum(dim=1)


@functools.lru_cache(maxsize=64)
def _position_weights(length: int, device: torch.device) -> Tensor:
    """Odd random numbers ``(L,)``; drawn one after another, so a longer list begins with a shorter one."""
    generator = torch.Generator().manual_seed(0)
    limit = 2**62
    drawn = [torch.randint(-limit, limit, (), generator=generator) for _ in range(length)]
    return (torch.stack(drawn) * 2 + 1).to(device)
