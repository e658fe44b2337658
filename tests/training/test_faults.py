"""Training that is stopped at any moment and resumed ends as if it had not been: by killing real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fault_trials import AIMS

TRIALS = {"1": (len(AIMS), 3), "2": (0, 8)}
"""Of each process, by its seed: how many are aimed, and how many are left to chance."""
STREAM_TRIALS = {"3": (3, 1)}
"""Of a third, which streams."""
SENTENCES = [
    f"the {size} {animal} {verb} in the {place}"
    for size in ("big", "small")
    for animal in ("dog", "cat", "horse")
    for verb in ("runs", "sleeps")
    for place in ("park", "house")
]


@pytest.fixture(scope="module")
def recipe(tiny_encoder_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve steps in three epochs, with everything that has a state; logs and checkpoints fall on different steps."""
    folder = tmp_path_factory.mktemp("data")
    rows = [{"question": sentence, "answer": sentence.replace("the", "a")} for sentence in SENTENCES]
    for name, part in {"pairs": rows, "heldout": rows[:8]}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    (folder / "sts").mkdir()
    n = 1500  # pairs of STS-B dev
    first = [SENTENCES[i % len(SENTENCES)] for i in range(n)]
    second = [SENTENCES[i * i % len(SENTENCES)] for i in range(n)]
    columns = {"split": ["dev"] * n, "sentence1": first, "sentence2": second, "score": [i % 6 + 0.0 for i in range(n)]}
    pq.write_table(pa.table(columns), folder / "sts" / "stsb.parquet")
    recipe = {
        "name": "tiny",
        "model": {"base": str(tiny_encoder_path), "head": "mlp-train-only"},
        "data": {
            "train": str(folder / "pairs.jsonl"),
            "columns": {"anchor": "question", "positive": "answer"},
            "heldout": str(folder / "heldout.jsonl"),
        },
        "loss": {"objective": "fmicl", "learn_kernel": True, "alpha": "auto", "queue": {"size": 16}},
        "train": {
            "per_device_train_batch_size": 6,
            "num_train_epochs": 3,
            "logging_steps": 5,
            "learning_rate": 1e-3,
            "save_total_limit": 2,
        },
        "evaluate": {"during": "stsb-dev", "every_steps": 3, "data": str(folder), "after": ["heldout"]},
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe))  # JSON is YAML
    return path


@pytest.mark.slow
@pytest.mark.timeout(3600)  # three minutes of a processor, and more on a busy machine
@pytest.mark.skipif(not hasattr(os, "fork"), reason="trials are forked")
def test_stopped_at_any_moment_a_run_ends_as_if_it_had_not_been(recipe: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("fault_trials.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    streamed = json.loads(recipe.read_text())
    streamed["data"] |= {"streaming": True, "shuffle_buffer": 10}
    del streamed["train"]["num_train_epochs"]
    streamed["train"]["max_steps"] = 12  # three passes
    (tmp_path / "streamed.yaml").write_text(json.dumps(streamed))
    running = {}
    for seed, (aimed, others) in (TRIALS | STREAM_TRIALS).items():
        (tmp_path / seed).mkdir()
        what = tmp_path / "streamed.yaml" if seed in STREAM_TRIALS else recipe
        command = [sys.executable, str(script), str(tmp_path / seed), str(what), str(aimed), str(others), seed]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running[subprocess.Popen(command, env=environment, **pipes)] = aimed, others
    for process, (aimed, others) in running.items():
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        whole, *trials = map(json.loads, output.splitlines())
        assert len(trials) == aimed + others
        for outcome in whole["outcomes"]:
            results = {"results/heldout.json", "results/heldout.items.json"}
            assert outcome.keys() == {"model/model.safetensors", "metrics.jsonl", *results}
            assert outcome == whole["outcomes"][0], "runs that are not stopped are the same"
        for trial in trials:
            assert trial["outcome"] == whole["outcomes"][0], trial
            assert len(trial["checkpoints"]) <= 2, trial
            assert "traceback" not in trial["said"], trial
            assert trial["statuses"][-1] == 0 and {*trial["statuses"]} <= {0, 1, -9, -15, 128 + 2, 128 + 15}, trial
        for aim, trial in zip(AIMS, trials[:aimed], strict=False):
            assert trial["statuses"] == [aim.status, 0], trial
            assert all(what in trial["said"] for what in aim.said), trial
            assert bool(trial["damage"]) == aim.damage, trial
            assert trial["unfinished"] == (aim.status == -9), trial
