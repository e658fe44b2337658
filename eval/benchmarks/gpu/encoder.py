"""An encoder from a configuration, with a tokenizer from a list of words."""

from __future__ import annotations

import copy
import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizerFast
from transformers.utils import logging

from eval.benchmarks.gpu.words import vocabulary

logging.set_verbosity_error()  # of weights that are new
logging.disable_progress_bar()


@dataclass(frozen=True)
class Size:
    """A BERT: its layers, width and words; ``words`` beside the special tokens."""

    layers: int
    width: int
    words: int = 30_000


BASE = Size(12, 768)
"""BERT-base: 110 million parameters with its 30,000 words."""
SMALL = Size(4, 256, 5000)
TINY = Size(2, 32, 200)


def new_encoder(size: Size, device: torch.device, dropout: float = 0.1) -> SentenceTransformer:
    """Return an encoder with random weights, the same for every call, that takes the mean of its tokens' vectors."""
    return copy.deepcopy(_made(size, dropout)).to(device)


@functools.lru_cache(maxsize=2)
def _made(size: Size, dropout: float) -> SentenceTransformer:
    known = vocabulary(size.words)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(known),
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=max(2, size.width // 64),
        intermediate_size=4 * size.width,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    with tempfile.TemporaryDirectory() as folder:  # sentence-transformers reads a transformer from files
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
        BertTokenizerFast(vocab=known).save_pretrained(folder)
        transformer = Transformer(str(Path(folder)), max_seq_length=512)
    return SentenceTransformer(modules=[transformer, Pooling(size.width, pooling_mode="mean")], device="cpu")
