"""How many tokens an encoder makes of a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


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
