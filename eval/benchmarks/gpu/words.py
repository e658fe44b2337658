"""Texts of a known number of tokens, of words that are a token each."""

from __future__ import annotations

import random

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def vocabulary(words: int) -> dict[str, int]:
    """Return the vocabulary of a tokenizer of BERT with so many words, by token."""
    return {token: number for number, token in enumerate([*_SPECIAL, *map(_word, range(words))])}


def texts(count: int, tokens: int, words: int, seed: int = 0) -> list[str]:
    """Return texts of random words, each of so many tokens with the two that the tokenizer adds."""
    draw = random.Random(seed)
    return [" ".join(_word(draw.randrange(words)) for _ in range(tokens - 2)) for _ in range(count)]


def _word(number: int) -> str:
    return f"w{number}"
