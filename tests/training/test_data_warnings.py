"""Rows that can be read and teach little are told of before training."""

from __future__ import annotations

from datasets import Dataset

from fmicl_text.training.data_warnings import data_warnings


def test_what_will_not_train_well_is_counted():
    anchors = [f"text {i}" for i in range(12_000)]
    positives = [f"answer {i}" for i in range(12_000)]
    assert data_warnings(Dataset.from_dict({"anchor": anchors, "positive": positives}), 64) == []
    positives[10_500] = anchors[10_500]
    positives[11_000] = anchors[11_000]
    anchors[11_999], positives[11_999] = anchors[3], positives[3]
    same, repeated = data_warnings(Dataset.from_dict({"anchor": anchors, "positive": positives}), 64)
    assert same.startswith("2 training rows have an anchor equal to its positive (the first is row 10,501)")
    assert repeated.startswith("1 of 12,000 training rows repeat an earlier row")


def test_fewer_rows_than_a_batch():
    [found] = data_warnings(Dataset.from_dict({"anchor": ["a", "b", "c"]}), 8)
    assert found.startswith("the 3 training rows are fewer than a batch of 8")
