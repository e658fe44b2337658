"""Several workers on one machine: they share its GPUs and its cores."""

from __future__ import annotations

import os

import pytest
import torch

from fmicl_text.sweep.slots import slots


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


def gpus(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)


@pytest.mark.parametrize(("number", "devices"), [(0, [None] * 3), (1, ["0", "0", "0"]), (2, ["0", "1", "0"])])
def test_workers_share_the_gpus_and_never_more_threads_than_there_are_cores(monkeypatch, number, devices):
    gpus(monkeypatch, number)
    found = slots(3)
    assert [slot.get("CUDA_VISIBLE_DEVICES") for slot in found] == devices
    assert all((slot["OMP_NUM_THREADS"], slot["RAYON_NUM_THREADS"]) == ("5", "5") for slot in found)
    assert slots(20)[19]["OMP_NUM_THREADS"] == "1"


def test_what_the_environment_says_stays(monkeypatch):
    gpus(monkeypatch, 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    found = slots(3)
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in found] == ["2", "3", "2"]
    assert {(slot["OMP_NUM_THREADS"], slot["RAYON_NUM_THREADS"]) for slot in found} == {("7", "5")}
