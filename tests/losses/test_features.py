"""The doubled batch of dropout views."""

from __future__ import annotations

import pytest
import torch

from fmicl_text.losses.features import batch_size, twice


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
