"""How many tokens an encoder makes of a text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def longest_text(model: SentenceTransformer) -> int | None:
    """Return how many tokens of a text the encoder reads; ``None`` if it reads them all, as a static embedding does."""
    longest = model.max_seq_length
    return None if longest is None or longest == math.inf else int(longest)


def token_counts(model: SentenceTransformer, texts: Sequence[str]) -> list[int] | None:
    """Return the number of tokens of each text before truncation, special tokens among them where the encoder has any.

    ``None`` for an encoder without a tokeniser of the ``tokenizers`` or ``transformers`` library.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

    tokenizer = getattr(model[0], "tokenizer", None)
    if isinstance(tokenizer, Tokenizer):  # a static embedding, which adds no special tokens
        return [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        return [len(ids) for ids in tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]]
    return None
