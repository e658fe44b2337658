"""A single process has one GPU; transformers would make DataParallel of all."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformerTrainingArguments

from fmicl_text.training.one_gpu import use_one_gpu


@pytest.mark.parametrize("gpus", [0, 1, 2])
def test_a_process_has_one_gpu_at_most(tmp_path: Path, caplog: pytest.LogCaptureFixture, gpus: int):
    arguments = SentenceTransformerTrainingArguments(str(tmp_path), per_device_train_batch_size=8, use_cpu=True)
    arguments._n_gpu = gpus  # as transformers counts them; the name is private, and this test guards it
    assert arguments.n_gpu == gpus and arguments.train_batch_size == 8 * max(gpus, 1)
    with caplog.at_level(logging.INFO):
        use_one_gpu(arguments)
    assert arguments.n_gpu == min(gpus, 1) and arguments.train_batch_size == 8
    assert ("trains on the first of 2 GPUs; --num-processes 2" in caplog.text) == (gpus == 2)
