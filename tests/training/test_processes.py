"""``fmicl train --num-processes``: several processes train as one with the same global batch."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import forked
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from test_image_encoder import VIT
from test_image_encoder import encoder as image_encoder
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from words import WORDS

from fmicl_text.cli import main

RECIPE = """\
name: together
model: {base: BASE}
data: {train: pairs.jsonl, columns: {anchor: question, positive: answer}}
loss: {objective: OBJECTIVE}
train:
  optim: sgd  # AdamW divides by the gradient's size: where that is rounding alone, so is the step
  learning_rate: 0.1
  max_steps: 4
  logging_steps: 1
  save_steps: 100
  dataloader_num_workers: 0
evaluate: {during: null}
"""
IMAGES = (
    "model.base=images",
    "data.train=sample:digits",
    "data.rows=24",
    "data.columns={anchor: image}",
    "data.views=augment",
    "data.augment={crop: null, flip: 0, jitter: [0, 0, 0, 0], grey: 0}",  # each process draws other numbers
)
"""A transformer, which has no statistics of a batch that each process would take of its own rows."""


@pytest.fixture(scope="module")
def folder(tiny_encoder_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs, some twice, and an encoder without dropout, whose masks no two processes share."""
    folder = tmp_path_factory.mktemp("together")
    model = SentenceTransformer(str(tiny_encoder_path), device="cpu")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model[0].auto_model.config.hidden_dropout_prob = model[0].auto_model.config.attention_probs_dropout_prob = 0.0
    model.save_pretrained(str(folder / "encoder"), create_model_card=False)
    words = [word for word in WORDS if len(word) > 2]
    rows = [
        {"question": f"the {a} is {b}", "answer": f"{b} {a}"} for a, b in zip(words[:20], words[20:40], strict=False)
    ]
    rows += rows[:4]
    transformer = image_encoder(VIT | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    transformer.save_pretrained(str(folder / "images"), create_model_card=False)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def train(
    monkeypatch: pytest.MonkeyPatch, folder: Path, objective: str, processes: int, *options: str
) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """Train with a global batch of 8, and return the final weights and the log."""
    recipe = folder / f"{objective}.yaml"
    recipe.write_text(RECIPE.replace("BASE", str(folder / "encoder")).replace("OBJECTIVE", objective))
    output = Path(tempfile.mkdtemp(dir=folder))
    command = ["train", str(recipe), "--output", str(output)]
    for option in (f"train.per_device_train_batch_size={8 // processes}", *options):
        command += ["--set", option]
    if processes == 1:
        monkeypatch.chdir(folder)
        assert main(command) == 0
    else:
        statuses, said = launched(command, processes, folder)
        assert statuses == [0] * processes, said
        assert said.count("Use it:") == 1, "one process speaks"
    log = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return load_file(output / "model" / "model.safetensors"), log


def launched(command: list[str], processes: int, folder: Path) -> tuple[list[int], str]:
    """Run a command in several processes as a launcher does; return their exit statuses and all that they say."""
    logs = [folder / f"{rank}.log" for rank in range(processes)]
    with socket.socket() as kept:  # or another program might be given the port before the processes listen there
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(kept.getsockname()[1]), "WORLD_SIZE": str(processes)}
        running = [
            forked.fmicl(*command, output=log, folder=folder, RANK=str(rank), LOCAL_RANK=str(rank), **shared)
            for rank, log in enumerate(logs)
        ]
        for process in running:
            process.join()
    return [process.exitcode for process in running], "".join(log.read_text() for log in logs)


STREAMED = ("data.streaming=true", "data.shuffle_buffer=10")
SOURCE = "train: pairs.jsonl, columns: {anchor: question, positive: answer}"
MIXED = (
    f"data={{train: [{{{SOURCE}, weight: 1}}, {{{SOURCE}, name: other, weight: 3, loss: {{objective: infonce}}}}]}}",
)
"""Two sources, one of them with a loss of its own: both processes must take the same one at each step."""
ADAPTED = (
    "model.lora={r: 4, lora_alpha: 32, target_modules: [query, value, dense], merge: true}",
    "loss.matryoshka={dims: [32, 8]}",
)
"""An adapter, which begins with the same random numbers in each process, and a loss at two numbers of dimensions."""


@pytest.mark.parametrize(
    ("objective", "options"),
    [("infonce", IMAGES), ("fmicl", STREAMED), ("fmicl", MIXED), ("fmicl", ADAPTED)],
)
def test_two_processes_train_as_one(monkeypatch, folder: Path, objective: str, options: tuple[str, ...]):
    if options == ADAPTED:
        pytest.importorskip("peft", reason="peft is not installed")
    (one, log_of_one), (two, log_of_two) = (
        train(monkeypatch, folder, objective, processes, *options) for processes in (1, 2)
    )
    start = load_file(folder / ("images" if options == IMAGES else "encoder") / "model.safetensors")
    moved = max((one[name] - start[name]).abs().max().item() for name in one)
    assert moved > 1e-3
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-4, atol=1e-4 * moved)
    losses = [[line["loss"] for line in log if "loss" in line] for log in (log_of_one, log_of_two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4, abs=1e-5) and len(losses[0]) == 4


@pytest.mark.parametrize("options", [(), ("model.base=images", *IMAGES[2:], "data.train=no/such/folder")])
def test_wrong_input_ends_as_in_one_process(folder: Path, options: tuple[str, ...]):
    """Images are read by the first process, while the other waits for it."""
    (folder / "broken.yaml").write_text(RECIPE.replace("BASE", "no/such/folder").replace("OBJECTIVE", "fmicl"))
    settings = [argument for option in options for argument in ("--set", option)]
    statuses, said = launched(["train", "broken.yaml", *settings], 2, folder)
    assert statuses == [2, 2], said
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "no/such/folder" in errors[0]
    assert "Traceback" not in said


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Afterwards signals are received as before: torch's launcher keeps them."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    yield
    for number, handler in before.items():
        if handler != signal.getsignal(number):
            signal.signal(number, handler)


@pytest.mark.parametrize("status", [0, 2])
def test_the_command_ends_as_its_processes_do(
    monkeypatch, own_signals, tmp_path: Path, status: int, capfd: pytest.CaptureFixture[str]
):
    """What it starts is Python with the same arguments and each process's place; here a script says what it got."""
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\necho "$RANK/$WORLD_SIZE $*"\nexit {status}\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("OBJECTIVE", "fmicl"))
    arguments = ["train", str(recipe), "--set", "train.max_steps=3", "--output", "out", "--quiet"]
    assert main([*arguments, "--num-processes", "2"]) == status
    said = set(capfd.readouterr().out.splitlines())
    expected = {f"{rank}/2 -m fmicl_text {' '.join(arguments)}" for rank in (0, 1)}
    assert said == expected or (status and said < expected), "one may be ended before it speaks"


def test_a_killed_process_is_named_also_if_others_ended_before_the_launcher_looked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def launched(*_: object) -> None:
        ends = {0: 1, 1: -signal.SIGKILL}  # the first lost contact with the second
        raise ChildFailedError("fmicl", {rank: ProcessFailure(rank, 7, end, "") for rank, end in ends.items()})

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", lambda *_: launched)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("OBJECTIVE", "fmicl"))
    assert main(["train", str(recipe), "--num-processes", "2"]) == 1
    assert "error: process 1 of 2 was ended by SIGKILL" in capsys.readouterr().err


def test_a_killed_process_gives_one_message(folder: Path):
    """Not the traceback of the other one, which lost contact with it."""
    recipe = folder / "killed.yaml"
    recipe.write_text(RECIPE.replace("BASE", str(folder / "encoder")).replace("OBJECTIVE", "fmicl"))
    command = ["train", recipe, "--output", folder / "killed", "--num-processes", 2]
    for override in ("train.max_steps=100000", "train.per_device_train_batch_size=4"):
        command += ["--set", override]
    running = forked.fmicl(*command, output=folder / "killed.log", folder=folder)  # which starts two interpreters
    while not (folder / "killed" / "metrics.jsonl").is_file() and running.is_alive():
        time.sleep(0.1)
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    workers = [int(child) for child in children if b"--output" in Path(f"/proc/{child}/cmdline").read_bytes()]
    os.kill(workers[-1], signal.SIGKILL)
    running.join()
    said = (folder / "killed.log").read_text()
    assert running.exitcode == 1 and "Traceback" not in said, said
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "was ended by SIGKILL; to continue: fmicl train --resume" in errors[0], said
