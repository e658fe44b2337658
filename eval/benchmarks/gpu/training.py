"""Part 2: training on the device in bfloat16, with the gradient cache, with a queue, and resumed after a kill."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainingArguments
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback

from eval.benchmarks.gpu.encoder import SMALL, TINY, Size, new_encoder
from eval.benchmarks.gpu.machine import Budget, use_tf32
from eval.benchmarks.gpu.words import texts
from fmicl_text import ContrastiveTrainer, FMICLLoss


class Job(NamedTuple):
    """What is trained: an encoder on random texts as dropout pairs."""

    size: Size
    batch: int
    tokens: int
    steps: int


JOBS = {"cuda": Job(SMALL, 64, 32, 12), "cpu": Job(TINY, 4, 8, 4)}
"""By kind of device; ``steps`` is even and at least 4."""
PRECISION, CACHE = 0.05, 0.01
"""Largest relative difference of what is in bfloat16, and of the update of the weights by the gradient cache."""
RESUMED = {"cuda": 3.0, "cpu": 0.0}
"""How much further a resumed run may be from a whole one than two whole runs are: CUDA adds up in no fixed order."""
ROUNDING = 1e-4
"""What two whole runs are taken to differ by at least, as a share of their way: by chance they can agree."""


class _Killed(BaseException):
    """Stands for the end of the process: nothing catches it, so nothing is saved."""


class _Kill(TrainerCallback):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._step:
            raise _Killed


def trainer_of(
    device: torch.device,
    job: Job,
    folder: Path,
    loss: dict[str, Any] | None = None,
    dropout: float = 0.1,
    **arguments: Any,
) -> ContrastiveTrainer:
    """Return a trainer of a new encoder, the same at each call, that logs every step.

    Args:
        device: Where it trains.
        job: What it trains.
        folder: Where checkpoints go.
        loss: Settings of f-MICL beside its defaults.
        dropout: Of the encoder.
        arguments: Training arguments.
    """
    model = new_encoder(job.size, device, dropout)
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": job.steps,
        "per_device_train_batch_size": job.batch,
        "learning_rate": 1e-4,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": device.type == "cpu",
        "tf32": False,
    }
    trainer = ContrastiveTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(**settings | arguments),
        train_dataset=Dataset.from_dict({"text": texts(job.batch * job.steps, job.tokens, job.size.words)}),
        loss=FMICLLoss(model, **loss or {}),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def losses_of(trainer: ContrastiveTrainer) -> list[float]:
    """Return the loss of every step."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def weights_of(trainer: ContrastiveTrainer) -> Tensor:
    """Return all weights of the encoder in one vector, on the CPU."""
    return torch.cat([parameter.detach().float().cpu().flatten() for parameter in trainer.model.parameters()])


def run(device: torch.device, budget: Budget, found: dict[str, Any]) -> None:
    """Fill ``found`` with the figures of each kind of training, and ``wrong`` with those beyond the bounds."""
    found |= {"wrong": [], "done": {}}
    kinds = {
        "bfloat16": _bfloat16,
        "gradient cache": _gradient_cache,
        "queue": _queue,
        "resume after a kill": _resume,
    }
    for name, check in kinds.items():
        budget.require()
        with tempfile.TemporaryDirectory() as folder:
            figures, wrong = check(device, JOBS[device.type], Path(folder))
        found["done"][name] = figures
        found["wrong"] += [f"{name}: {sentence}" for sentence in wrong]
    use_tf32(False)


def _bfloat16(device: torch.device, job: Job, folder: Path) -> tuple[dict[str, Any], list[str]]:
    losses = {}
    for name, bf16 in (("float32", False), ("bfloat16", True)):
        trainer = trainer_of(device, job, folder, bf16=bf16)
        trainer.train()
        losses[name] = losses_of(trainer)
    exact, mine = (torch.tensor(values) for values in losses.values())
    difference = ((mine - exact).abs() / exact.abs()).max().item()
    wrong = [] if difference <= PRECISION else [f"the loss of a step differs by {difference:.3f} from float32"]
    return {"losses": losses, "largest relative difference": difference}, wrong


def _gradient_cache(device: torch.device, job: Job, folder: Path) -> tuple[dict[str, Any], list[str]]:
    figures, wrong = {}, []
    for precision, most in (("float32", CACHE), ("bfloat16", PRECISION)):
        moved = []
        for size in (None, job.batch // 4):
            # Plain SGD: Adam would make a large step of a small rounding.
            settings = {"optim": "sgd", "max_steps": 2, "learning_rate": 0.01, "bf16": precision == "bfloat16"}
            trainer = trainer_of(device, job, folder, {"mini_batch_size": size}, dropout=0.0, **settings)
            before = weights_of(trainer)
            trainer.train()
            moved.append(weights_of(trainer) - before)
        whole, cached = moved
        difference = ((whole - cached).norm() / whole.norm()).item()
        if not difference <= most:
            wrong.append(f"the update in {precision} differs by {difference:.3f} from that of the whole batch")
        figures[f"relative difference of the update in {precision}"] = difference
        figures[f"moved by in {precision}"] = whole.norm().item()
    return figures, wrong


def _queue(device: torch.device, job: Job, folder: Path) -> tuple[dict[str, Any], list[str]]:
    trainer = trainer_of(device, job, folder, {"queue": 3 * job.batch, "momentum": 0.9}, bf16=True)
    trainer.train()
    queue = trainer.loss.queue
    lengths = queue.vectors.norm(dim=1)
    average = torch.cat([parameter.flatten().float().cpu() for parameter in queue.encoder.parameters()])
    behind = (average - weights_of(trainer)).norm().item()
    pushed, right = int(queue.pushed), 2 * job.batch * job.steps
    wrong = []
    if pushed != right:
        wrong.append(f"{pushed} rows were pushed, not {right}")
    if not (lengths - 1).abs().max().item() < 1e-3:
        wrong.append("rows of the queue are not of length 1")
    if not 0 < behind < float("inf"):
        wrong.append(f"the moving average is {behind} away from the encoder")
    return {"rows pushed": pushed, "moving average behind by": behind, "losses": losses_of(trainer)}, wrong


def _resume(device: torch.device, job: Job, folder: Path) -> tuple[dict[str, Any], list[str]]:
    kinds: dict[str, Any] = {"save_strategy": "steps", "save_steps": job.steps // 2, "bf16": True}
    loss = {"queue": 3 * job.batch, "momentum": 0.9}

    def begun(name: str) -> ContrastiveTrainer:
        return trainer_of(device, job, folder / name, loss, **kinds)

    whole = begun("whole")
    start = weights_of(whole)
    whole.train()
    killed = begun("killed")
    killed.add_callback(_Kill(job.steps - 1))
    try:
        killed.train()
    except _Killed:
        pass
    else:
        return {}, ["the training that was to be killed ended"]
    resumed = begun("killed")
    resumed.train(resume_from_checkpoint=True)
    moved = (weights_of(whole) - start).norm().item()
    difference = (weights_of(whole) - weights_of(resumed)).norm().item() / moved
    spread = 0.0
    if device.type == "cuda":
        again = begun("again")
        again.train()
        spread = (weights_of(whole) - weights_of(again)).norm().item() / moved
    losses = {"whole": losses_of(whole), "resumed": losses_of(resumed)}
    wrong = []
    if difference > RESUMED[device.type] * max(spread, ROUNDING):
        wrong.append(f"the weights differ by {difference:.1e} of their way, those of two whole runs by {spread:.1e}")
    if len(losses["resumed"]) != job.steps:
        wrong.append(f"{len(losses['resumed'])} steps are logged, not {job.steps}")
    return {"relative difference of the weights": difference, "of two whole runs": spread, "losses": losses}, wrong


def shown(found: dict[str, Any]) -> list[str]:
    """Return lines for a reader."""
    return [
        f"{name}: "
        + ", ".join(f"{key} {value:.3g}" for key, value in figures.items() if not isinstance(value, dict | list))
        for name, figures in found["done"].items()
    ]
