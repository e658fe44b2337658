"""The doubled batch of dropout views, and texts in one sequence, as flash attention has them."""

from __future__ import annotations

import pytest
import torch
from loss_cases import MeanOfTokens, batch
from torch import nn
from transformers import DataCollatorWithFlattening

from fmicl_text import FMICLLoss
from fmicl_text.losses.features import batch_size, twice
from fmicl_text.losses.identities import identities_of_features


def test_twice_repeats_what_has_a_row_each_and_nothing_else():
    features = {
        "input_ids": torch.arange(6).reshape(3, 2),
        "attention_mask": torch.ones(3, 2, dtype=torch.long),
        "scale": torch.tensor(2.0),
        "positions": torch.arange(5),
        "modality": "text",
    }
    both = twice(features)
    assert list(both) == list(features)
    assert both["input_ids"].tolist() == [[0, 1], [2, 3], [4, 5]] * 2
    assert both["attention_mask"].shape == (6, 2)
    assert both["scale"] is features["scale"] and both["positions"] is features["positions"]
    assert both["modality"] == "text"
    assert batch_size(features) == 3 and features["input_ids"].shape == (3, 2)


def one_sequence(texts: list[list[int]]) -> dict:
    """Texts as sentence-transformers hands them to a model with flash attention."""
    collate = DataCollatorWithFlattening(return_seq_idx=True, return_flash_attn_kwargs=True)
    column = collate([{"input_ids": text} for text in texts])
    column.pop("labels", None)
    return dict(column) | {"modality": "text"}


@pytest.mark.parametrize("texts", [[[5, 6, 7], [8], [9, 4]], [[5, 6]]])
def test_texts_in_one_sequence_follow_once_more(texts: list[list[int]]):
    prompt = torch.full((len(texts),), 2)
    both = twice(one_sequence(texts) | {"prompt_length": prompt})
    expected = one_sequence(texts * 2) | {"prompt_length": prompt.repeat(2)}
    assert both.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(both[key], value) if isinstance(value, torch.Tensor) else both[key] == value
    assert batch_size(both) == 2 * len(texts)


@pytest.mark.parametrize("prompt", [None, 1])
@pytest.mark.parametrize("special", [(), (2,)])
def test_identities_of_texts_in_one_sequence_are_those_of_padded_ones(prompt: int | None, special: tuple[int, ...]):
    texts = [[2, 5, 6], [2, 5], [2, 5, 6], [2, 7, 7, 7]]
    given = {} if prompt is None else {"prompt_length": prompt}
    tokens = nn.utils.rnn.pad_sequence([torch.tensor(text) for text in texts], batch_first=True)  # (B, L)
    padded = {"input_ids": tokens, "attention_mask": (tokens > 0).long()} | given
    found = identities_of_features(one_sequence(texts) | given, special)
    assert torch.equal(found, identities_of_features(padded, special))
    assert len(set(found.tolist())) == 3


class MeanOfSegments(MeanOfTokens):
    """The same encoder of texts in one sequence."""

    def forward(self, features: dict) -> dict:
        vectors = self.tokens(features["input_ids"][0])  # (T, D)
        means = torch.segment_reduce(vectors, "mean", lengths=features["cu_seq_lens_q"].diff().long())  # (B, D)
        return {"sentence_embedding": means}


@pytest.mark.parametrize("columns", [1, 2])
def test_the_loss_of_texts_in_one_sequence_is_that_of_padded_ones(columns: int):
    """Duplicates among them."""
    padded = batch(6, columns, seed=0)
    losses = []
    for kind in (MeanOfTokens, MeanOfSegments):
        torch.manual_seed(0)
        given = padded
        if kind is MeanOfSegments:
            given = [
                one_sequence([ids[mask > 0].tolist() for ids, mask in zip(*column.values(), strict=True)])
                for column in padded
            ]
        losses.append(sum(FMICLLoss(kind(), sigma=0.5)([dict(column) for column in given], None).values()))
    torch.testing.assert_close(losses[1], losses[0])
