"""Text identities of tokenised columns, and the doubled batch of dropout views."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fmicl_text.losses.features import batch_size, twice
from fmicl_text.losses.identities import identities_of_features as text_ids

TEXT = st.lists(st.integers(0, 6), min_size=1, max_size=6)  # token ids; few, so that texts are near each other


def column(texts: list[list[int]], width: int = 0, side: str = "right") -> dict[str, Tensor]:
    """Tokenise: pad to ``width`` at least, with a token id that also occurs in texts."""
    width = max(width, *map(len, texts))
    tokens, mask = [], []
    for text in texts:
        padding = [0] * (width - len(text))
        tokens.append(text + padding if side == "right" else padding + text)
        mask.append([1] * len(text) + padding if side == "right" else padding + [1] * len(text))
    return {"input_ids": torch.tensor(tokens), "attention_mask": torch.tensor(mask)}


@given(texts=st.lists(TEXT, min_size=1, max_size=8))
@settings(deadline=None)
def test_ids_are_equal_exactly_for_equal_texts(texts: list[list[int]]):
    ids = text_ids(column(texts))
    assert ids.shape == (len(texts),) and ids.dtype == torch.int64
    for i, text in enumerate(texts):
        assert (ids == ids[i]).tolist() == [other == text for other in texts]


@given(texts=st.lists(TEXT, min_size=1, max_size=5), width=st.integers(0, 70), side=st.sampled_from(["left", "right"]))
@settings(deadline=None)
def test_ids_do_not_depend_on_padding(texts: list[list[int]], width: int, side: str):
    assert torch.equal(text_ids(column(texts, width, side)), text_ids(column(texts)))


@given(texts=st.lists(TEXT, min_size=2, max_size=5), data=st.data())
@settings(deadline=None)
def test_ids_do_not_depend_on_place_or_company(texts: list[list[int]], data: st.DataObject):
    order = data.draw(st.permutations(range(len(texts))))
    moved = text_ids(column([texts[i] for i in order]))
    assert torch.equal(moved, text_ids(column(texts))[list(order)])
    assert torch.equal(text_ids(column(texts[:1])), text_ids(column(texts))[:1])


def test_no_collisions_among_a_realistic_number_of_texts():
    """100,000 texts of one to eight tokens, each id from a vocabulary of 30,000."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 30_000, (100_000, 8), generator=generator)
    mask = (torch.arange(8) < torch.randint(1, 9, (100_000, 1), generator=generator)).long()
    distinct = len((tokens * mask + (1 - mask) * -1).unique(dim=0))
    assert len(text_ids({"input_ids": tokens, "attention_mask": mask}).unique()) == distinct


def test_ids_neither_use_nor_move_the_random_state():
    from fmicl_text.losses.identities import _position_weights

    first = text_ids(column([[1, 2, 3]]))
    _position_weights.cache_clear()  # as in another process
    torch.manual_seed(123)
    state = torch.get_rng_state()
    assert torch.equal(text_ids(column([[1, 2, 3]])), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_long_texts_that_differ_at_the_end_differ():
    texts = torch.ones(2, 512, dtype=torch.long)
    texts[1, -1] = 2
    ids = text_ids({"input_ids": texts, "attention_mask": torch.ones_like(texts)})
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    "features",
    [
        {"pixel_values": torch.zeros(2, 3, 4, 4)},
        {"input_ids": torch.zeros(2, 3, dtype=torch.long)},
        {"input_ids": [[1, 2]], "attention_mask": [[1, 1]]},
    ],
    ids=["image", "no mask", "no tensors"],
)
def test_columns_that_are_not_tokens_have_no_ids(features: dict):
    assert text_ids(features) is None


def test_ids_of_a_real_tokeniser(tiny_encoder):
    """Padding side and the longest text of the column change the tokens, not the identities."""
    texts = ["a dog runs", "the woman plays a big red guitar in the park", "a dog runs"]
    right = text_ids(tiny_encoder.preprocess(texts))
    alone = text_ids(tiny_encoder.preprocess(texts[:1]))
    tiny_encoder.tokenizer.padding_side = "left"
    left = tiny_encoder.preprocess(texts)
    assert left["attention_mask"][0, 0] == 0
    assert torch.equal(text_ids(left), right) and alone[0] == right[0] == right[2] != right[1]


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


def test_flattened_input_is_refused():
    flattened = {"input_ids": torch.arange(7)[None], "cu_seq_lens_q": torch.tensor([0, 3, 7])}
    with pytest.raises(ValueError, match=r"flattened inputs are not supported: .* without unpadding"):
        twice(flattened)
