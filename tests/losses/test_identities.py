"""Identities: of data, of what an encoder reads, and of batches that a trainer makes."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from fmicl_text.losses.identities import IDENTITY, IdentityCollator, identities
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
def test_ids_are_equal_exactly_for_equal_texts(texts: list[list[int]]):
    ids = text_ids(column(texts))
    assert ids.shape == (len(texts),) and ids.dtype == torch.int64
    for i, text in enumerate(texts):
        assert (ids == ids[i]).tolist() == [other == text for other in texts]


@given(texts=st.lists(TEXT, min_size=1, max_size=5), width=st.integers(0, 70), side=st.sampled_from(["left", "right"]))
def test_ids_do_not_depend_on_padding(texts: list[list[int]], width: int, side: str):
    assert torch.equal(text_ids(column(texts, width, side)), text_ids(column(texts)))


@given(texts=st.lists(TEXT, min_size=2, max_size=5), data=st.data())
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
        {"input_values": torch.zeros(2, 9)},
        {"pixel_values": torch.zeros(9, 4), "image_grid_thw": torch.ones(2, 3)},
        {"input_ids": torch.zeros(2, 3, dtype=torch.long)},
        {"input_ids": [[1, 2]], "attention_mask": [[1, 1]]},
    ],
    ids=["sound", "patches", "no mask", "no tensors"],
)
def test_columns_whose_rows_cannot_be_told_apart_have_no_ids(features: dict):
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


DATA = st.recursive(
    st.text() | st.binary() | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(DATA, min_size=1, max_size=6))
def test_data_are_the_same_exactly_if_they_are_equal(column: list):
    """``1 == True`` and such apart: kinds are told by ``repr``."""
    ids = identities(column)
    assert ids.dtype == torch.int64
    for i, value in enumerate(column):
        assert (ids == ids[i]).tolist() == [repr(_ordered(other)) == repr(_ordered(value)) for other in column]


def _ordered(value):
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value)}
    return [_ordered(item) for item in value] if isinstance(value, list) else value


def test_data_are_known_again_in_another_process():
    told = "identities(['a dog', b'a dog', '\\ud800']).tolist()"
    code = f"from fmicl_text.losses.identities import identities; print({told})"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(finished.stdout) == identities(["a dog", b"a dog", "\ud800"]).tolist()


def test_images_are_told_by_their_pixels():
    red, blue = (Image.new("RGB", (4, 3), colour) for colour in ("red", "blue"))
    ids = identities([red, blue, red.copy(), Image.new("RGB", (3, 4), "red"), red.convert("L")])
    assert len(ids.unique()) == 4 and ids[0] == ids[2]
    arrays = [np.zeros((2, 6)), np.zeros((3, 4)), np.zeros((2, 6), dtype="f4"), np.zeros((2, 6))]
    assert len(identities(arrays).unique()) == 3
    torch.testing.assert_close(identities([torch.zeros(2, 6, dtype=torch.float64)]), identities(arrays[:1]))


def test_images_with_a_palette_are_told_by_their_colours():
    red, blue = (Image.new("P", (4, 3)) for _ in range(2))
    red.putpalette([255, 0, 0]), blue.putpalette([0, 0, 255])
    assert red.tobytes() == blue.tobytes()  # of the places in the palettes
    assert len(identities([red, blue, red.copy()]).unique()) == 2


def test_bfloat16_is_hashed_by_its_values():
    rows = torch.tensor([[0.5, 1.0], [0.5, 2.0], [0.5, 1.0]], dtype=torch.bfloat16)
    assert identities(list(rows)).tolist() == identities(list(rows.float())).tolist()
    assert len(identities(list(rows)).unique()) == 2


def test_a_collator_tells_the_identities_of_the_data():
    rows = [
        {"anchor": "a dog", "positive": "the cat", "label": 1},
        {"anchor": "the cat", "positive": "a dog", "label": 0},
    ]
    batch = IdentityCollator(lambda given: {"anchor_input_ids": torch.zeros(len(given), 3), "label": torch.ones(2)})(
        rows
    )
    assert list(batch) == ["anchor_input_ids", "label", f"anchor_{IDENTITY}", f"positive_{IDENTITY}"]
    assert torch.equal(batch["anchor_identity"], batch["positive_identity"].flip(0))
    assert IdentityCollator(lambda given: {})([]) == {}


@given(texts=st.lists(st.lists(st.integers(0, 6), max_size=5), min_size=1, max_size=6))
def test_flat_tokens_of_a_static_embedding(texts: list[list[int]]):
    """Also of texts without any."""
    lengths = [0, *(len(text) for text in texts[:-1])]
    flat = torch.tensor([token for text in texts for token in text], dtype=torch.long)
    ids = text_ids({"input_ids": flat, "offsets": torch.tensor(lengths).cumsum(0)})
    for i, text in enumerate(texts):
        assert (ids == ids[i]).tolist() == [other == text for other in texts]


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_prompt_does_not_count(tiny_encoder, side: str):
    texts = ["a dog runs", "the woman plays a big red guitar in the park"]
    tiny_encoder.tokenizer.padding_side = side
    start = {tiny_encoder.tokenizer.cls_token_id}
    plain = text_ids(tiny_encoder.preprocess(texts), start)
    for prompt in ("the old man ", "water is "):
        features = tiny_encoder.preprocess(texts[::-1], prompt=prompt)
        assert features["prompt_length"] > 1
        assert torch.equal(text_ids(features, start), plain.flip(0))
