"""Part 3: rows a second of training beside a plain sentence-transformers script, and what a step waits for."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch.profiler import ProfilerActivity, profile
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback

from eval.benchmarks.gpu.encoder import BASE, TINY, Size, new_encoder
from eval.benchmarks.gpu.machine import Budget, compiling, peak_above, start_of_memory, use_tf32, wait_for
from eval.benchmarks.gpu.words import texts
from fmicl_text import ContrastiveTrainer, FMICLLoss
from fmicl_text.training import on_cuda


class Case(NamedTuple):
    """A batch of training: its columns (1 for dropout pairs), tokens of a text, and rows."""

    columns: int
    tokens: int
    batch: int

    @property
    def name(self) -> str:
        """The case in words."""
        return f"{'dropout pairs' if self.columns == 1 else 'pairs'} L={self.tokens} B={self.batch}"


CASES = {
    "cuda": [Case(1, 32, 64), Case(1, 32, 256), Case(2, 128, 256), Case(1, 32, 512), Case(1, 32, 128)],
    "cpu": [Case(1, 8, 4)],
}
SIZES: dict[str, Size] = {"cuda": BASE, "cpu": TINY}
STEPS = {"cuda": (5, 15), "cpu": (1, 2)}
"""Steps before the clock starts, and those it counts."""
ROUNDS = {"cuda": 2, "cpu": 1}
PROFILED = {"cuda": 3, "cpu": 2}
"""Steps under the profiler, and as many with every synchronisation noted."""
WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize", "cudaDeviceSynchronize")
"""Calls in which the host waits for the device."""
READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2")
"""Operations whose result the host must know, on any device."""


class Clock(TrainerCallback):
    """The seconds of the steps after the first ones."""

    def __init__(self, device: torch.device, warm: int) -> None:
        self._device, self._warm = device, warm
        self.seconds = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        if state.global_step == self._warm:
            wait_for(self._device)
            self.seconds = -time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop it after the last step."""
        if state.global_step == state.max_steps:
            wait_for(self._device)
            self.seconds += time.perf_counter()


class Precision:
    """Notes what a step multiplies in: the type of the first linear layer's result."""

    def __init__(self, model: SentenceTransformer) -> None:
        self.seen: set[torch.dtype] = set()
        layer = next(module for module in model.modules() if isinstance(module, torch.nn.Linear))
        layer.register_forward_hook(lambda _, given, result: self.seen.add(result.dtype))

    def require_bfloat16(self) -> None:
        """Raise a RuntimeError if any step was of another type: the figures would not be what they are called."""
        if self.seen != {torch.bfloat16}:
            raise RuntimeError(f"not trained in bfloat16 but in {', '.join(map(str, self.seen))}")


class Watch(TrainerCallback):
    """Profiles some steps, and then notes where in the code the host waits for the device in as many."""

    def __init__(self, device: torch.device, warm: int, steps: int) -> None:
        self._device, self._first, self._steps = device, warm, steps
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
        self._profiler = profile(activities=activities)
        self._catcher = warnings.catch_warnings(record=True)
        self.places: Counter[str] = Counter()
        self._caught: list[warnings.WarningMessage] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin one or the other."""
        if state.global_step == self._first:
            wait_for(self._device)
            self._profiler.start()
        if state.global_step == self._first + self._steps and self._device.type == "cuda":
            self._caught = self._catcher.__enter__()  # type: ignore[assignment]  # with record=True, a list
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End one or the other."""
        if state.global_step == self._first + self._steps:
            self._profiler.stop()
        if state.global_step == self._first + 2 * self._steps and self._device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
            self._catcher.__exit__(None, None, None)
            noted = [each for each in self._caught if "synchroniz" in str(each.message)]
            self.places = Counter(f"{'/'.join(Path(each.filename).parts[-3:])}:{each.lineno}" for each in noted)

    def figures(self) -> dict[str, Any]:
        """Return counts a step, and the operations that took most of the device's time."""
        averages = self._profiler.key_averages()
        counts = {each.key: each.count / self._steps for each in averages if each.key in WAITS + READS}
        longest = sorted(averages, key=lambda each: -each.self_device_time_total)[:12]
        return {
            "a step": counts,
            "waits a step": sum(counts.get(name, 0.0) for name in WAITS[:2]),
            "reads a step": sum(counts.get(name, 0.0) for name in READS),
            "where": {place: count / self._steps for place, count in self.places.most_common()},
            "longest, ms a step": {
                each.key[:80]: each.self_device_time_total / 1e3 / self._steps
                for each in longest
                if each.self_device_time_total
            },
        }


def fmicl(model: SentenceTransformer, **settings: Any) -> SentenceTransformerTrainer:
    """Return this package's trainer, with the default loss and the training arguments that a recipe would have."""
    return ContrastiveTrainer(model=model, loss=FMICLLoss(model), **settings)


def plain(model: SentenceTransformer, **settings: Any) -> SentenceTransformerTrainer:
    """Return the trainer of a plain script; dropout pairs are pairs of a text with itself."""
    rows = settings.pop("train_dataset")
    if rows.column_names == ["anchor"]:
        rows = Dataset.from_dict({"anchor": rows["anchor"], "positive": rows["anchor"]})
    return SentenceTransformerTrainer(
        model=model, loss=MultipleNegativesRankingLoss(model), train_dataset=rows, **settings
    )


PROGRAMS: dict[str, Callable[..., SentenceTransformerTrainer]] = {"fmicl": fmicl, "plain": plain}


def run(device: torch.device, budget: Budget, found: dict[str, Any]) -> None:
    """Fill ``found`` with rows a second of each case and program, and with what one step waits for."""
    size = SIZES[device.type]
    use_tf32(True)  # what is left to float32 under autocast
    parameters = sum(parameter.numel() for parameter in new_encoder(size, device).parameters())
    found |= {"parameters": parameters, "cases": {}, "waits": {}}
    for case in CASES[device.type]:
        rates: dict[str, list[float]] = {name: [] for name in PROGRAMS}
        memory: dict[str, float | None] = {}
        for _ in range(ROUNDS[device.type]):
            for name in PROGRAMS:
                budget.require(5.0 if device.type == "cuda" else 0.0)
                with compiling():  # in the first steps, which are not counted
                    rate, memory[name] = _rate(name, case, size, device)
                rates[name].append(rate)
                ratios = [ours / other for ours, other in zip(*rates.values(), strict=False)]
                found["cases"][case.name] = {
                    "rows/s": rates,
                    "ratio": median(ratios) if ratios else None,
                    "megabytes": memory,
                }
        if not found["waits"]:  # of the first case, the smallest batch
            with compiling():
                found["waits"] = {name: _watched(name, case, size, device) for name in PROGRAMS}
    use_tf32(False)


def _trainer(
    name: str, case: Case, model: SentenceTransformer, size: Size, device: torch.device, steps: int, folder: str
) -> SentenceTransformerTrainer:
    columns = ("anchor", "positive")[: case.columns]
    rows = {column: texts(case.batch * steps, case.tokens, size.words, seed) for seed, column in enumerate(columns)}
    settings: dict[str, Any] = {
        "output_dir": folder,
        "max_steps": steps,
        "per_device_train_batch_size": case.batch,
        "bf16": True,
        "logging_steps": 1000,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": device.type == "cpu",
    }
    if name == "fmicl":  # as of a recipe
        settings |= on_cuda.defaults()
    arguments = SentenceTransformerTrainingArguments(**settings)
    return PROGRAMS[name](model, args=arguments, train_dataset=Dataset.from_dict(rows))


def _rate(name: str, case: Case, size: Size, device: torch.device) -> tuple[float, float | None]:
    """Return rows a second, and the peak of memory above the encoder's weights.

    Each training has an encoder of its own: accelerate wraps an encoder in autocast once, and not again.
    """
    warm, counted = STEPS[device.type]
    model = new_encoder(size, device)
    precision = Precision(model)
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(name, case, model, size, device, warm + counted, folder)
        clock = Clock(device, warm)
        trainer.add_callback(clock)
        trainer.remove_callback(PrinterCallback)
        start = start_of_memory(device)
        trainer.train()
    precision.require_bfloat16()
    return case.batch * counted / clock.seconds, peak_above(start, device)


def _watched(name: str, case: Case, size: Size, device: torch.device) -> dict[str, Any]:
    warm, steps = STEPS[device.type][0], PROFILED[device.type]
    model = new_encoder(size, device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(name, case, model, size, device, warm + 2 * steps + 1, folder)
        watch = Watch(device, warm, steps)
        trainer.add_callback(watch)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return watch.figures()


def shown(found: dict[str, Any]) -> list[str]:
    """Return lines for a reader."""
    lines = []
    for name, case in found["cases"].items():
        rates = {program: f"{median(values):,.0f}" for program, values in case["rows/s"].items() if values}
        ratio = "" if case["ratio"] is None else f", ratio {case['ratio']:.2f}"
        lines.append(f"{name}: rows/s {', '.join(f'{key} {value}' for key, value in rates.items())}{ratio}")
    for name, figures in found["waits"].items():
        lines.append(
            f"{name}: the host waits for the device {figures['waits a step']:.1f} times a step, and reads "
            f"{figures['reads a step']:.1f} results"
        )
        lines += [f"    {count:.1f} a step at {place}" for place, count in figures["where"].items()]
    return lines
