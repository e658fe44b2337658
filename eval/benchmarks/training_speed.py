"""Speed of training: ``fmicl train`` and a plain sentence-transformers script, side by side.

    python -m eval.benchmarks.training_speed [--texts TEXTS.parquet --pairs PAIRS.parquet] [--profile]
    python -m eval.benchmarks.training_speed --growth --steps 4
    python -m eval.benchmarks.training_speed --evaluation

Both train the same encoder on the same rows with the same batch size, length, precision and objective (InfoNCE at
temperature 0.05, which is ``MultipleNegativesRankingLoss`` at its default scale). They take turns in one process, each
from the same weights, so that what slows the machine for a while slows both; a turn has a seed of its own. What one
step takes from start to end, and peak memory, are of a process for each. The score is MRR@10 of held-out pairs after
the same steps.

``TEXTS`` has a column ``text``, ``PAIRS`` the columns anchor, positive and negative. Without them the texts are made
of random words, which measures time and says nothing of scores. The jobs that are run replace those of earlier runs in
``eval/results/training_speed.json``, of which ``.md`` and ``.png`` are made; figures of another encoder, machine or
version are dropped.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback

from eval.benchmarks.resident import peak
from eval.benchmarks.step_clock import REST, StepClock
from fmicl_text.encoders.text import locate
from fmicl_text.errors import InputError
from fmicl_text.files import read_json, write_json, write_text
from fmicl_text.recipe.file import load_recipe
from fmicl_text.runs.folder import RunFolder
from fmicl_text.text import one_line
from fmicl_text.training import timing
from fmicl_text.training.build import build_trainer
from fmicl_text.training.inputs import load_inputs
from fmicl_text.training.memory import keep_memory
from fmicl_text.training.plan import plan
from fmicl_text.versions import versions

RESULTS = Path(__file__).parent.parent / "results" / "training_speed"
LOSSES: dict[str, dict[str, Any]] = {
    "infonce": {"objective": "infonce", "temperature": 0.05},
    "fmicl": {"objective": "fmicl"},
}
GROWTH: dict[str, tuple[int, ...]] = {"batch": (16, 64, 256), "length": (16, 32, 64, 128), "processes": (1, 2)}
"""How rows a second grow with each of these, where the others are those of dropout pairs, in one process."""
HELD_OUT = 256
LEAST = (
    ("steps", 2, ", as the first is not counted"),
    ("turns", 1, ""),
    ("batch", 2, ", as a lone row has no negative"),
)
"""Options, the least they can be, and why."""
RATE = 1e-4


@dataclass(frozen=True)
class Job:
    """What is trained on: columns of the rows, and the sizes."""

    columns: tuple[str, ...]
    length: int
    batch: int = 64
    mini_batch: int | None = None  # of the gradient cache


JOBS = {
    "dropout pairs": Job(("text",), 32),
    "pairs": Job(("anchor", "positive"), 64),
    "triplets": Job(("anchor", "positive", "negative"), 64),
    "pairs, gradient cache": Job(("anchor", "positive"), 64, 256, 32),
}
PROGRAMS = ("plain", "fmicl")
DEFAULT = "fmicl, f-MICL"
"""A column of the profiles: the default objective, in place of the plain script's."""
PRODUCTS = "matrix products"
OPERATIONS: dict[str, tuple[str, ...]] = {
    PRODUCTS: (
        *("mm", "addmm", "bmm", "baddbmm", "mkldnn_linear"),
        *("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention_for_cpu_backward"),
    ),
    "random numbers of dropout": ("bernoulli_", "random_", "native_dropout"),
    "activation": ("gelu", "gelu_backward"),
    "layer norm": ("native_layer_norm", "native_layer_norm_backward"),
    "softmax": ("_softmax", "_softmax_backward_data"),
    "copies": ("copy_", "cat", "index_select", "index"),
    "zeros, mostly for gradients of token embeddings": ("fill_", "zero_", "embedding_dense_backward"),
    "elementwise": ("mul", "mul_", "add", "add_", "sub", "div", "div_", "where", "masked_fill_", "ge", "eq", "sum"),
    "optimiser": ("_fused_adamw_",),
}
"""PyTorch's operations by what they are for; products of matrices are what no program can leave out."""
OURS = ("loss", "checks", "logging", "rest")
"""Parts of a step that are neither the encoder's nor the optimiser's."""


@dataclass(frozen=True)
class Setting:
    """One training."""

    program: str
    job: Job
    model: str
    data: str
    steps: int
    bf16: bool
    seed: int = 0
    loss: str = "infonce"
    keeps_memory: bool = True

    def written(self) -> str:
        """Return the setting as JSON, for another process."""
        return json.dumps(vars(self) | {"job": vars(self.job)})

    @classmethod
    def read(cls, text: str) -> Setting:
        """Return the setting of :meth:`written`."""
        fields = json.loads(text)
        job = fields.pop("job")
        return cls(**fields, job=Job(**job | {"columns": tuple(job["columns"])}))


class Steps(TrainerCallback):
    """Notes when training begins and when each step ends."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Begin anew."""
        self.times = [time.perf_counter()]

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Wait for the device, and note it."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the jobs and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sample:minilm", help="encoder; default sample:minilm")
    parser.add_argument("--texts", type=Path, help="Parquet file of texts; default: made of random words")
    parser.add_argument("--pairs", type=Path, help="Parquet file of tuples; default: made of random words")
    parser.add_argument("--kind", help="only rows of PAIRS whose column `kind` is this one")
    measured = parser.add_mutually_exclusive_group()
    measured.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS), help="default: all")
    parser.add_argument("--batch", type=int, help="rows of a batch; default: that of the job")
    parser.add_argument("--steps", type=int, default=10, help="of each training; default 10, the first is not counted")
    parser.add_argument("--turns", type=int, default=3, help="trainings of each program; default 3")
    parser.add_argument("--bf16", action="store_true", help="train both in bfloat16")
    parser.add_argument("--profile", action="store_true", help="also say where the time of a step goes")
    measured.add_argument("--growth", action="store_true", help="in place of jobs, how rows a second grow with sizes")
    measured.add_argument(
        "--evaluation", action="store_true", help="in place of jobs, what evaluation in training costs"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="path of the report, without suffix")
    parser.add_argument("--one", type=Setting.read, help=argparse.SUPPRESS)  # a training in a process of its own
    args = parser.parse_args(arguments)
    if args.one:
        if args.one.keeps_memory:
            keep_memory()
        found = profile(args.one) if args.profile else one(args.one)
        if os.environ.get("RANK", "0") == "0":  # of several processes, one speaks
            print(json.dumps(found))
        return
    check_sizes(parser, args)
    keep_memory()
    file = args.output.with_suffix(".json")
    stamp = {"device": device(), "versions": versions(), "model": Path(args.model).name}
    document = read_json(file) if file.is_file() else {}
    if not stamp.items() <= document.items():  # figures of other versions are not put beside these
        document = stamp | {"jobs": {}}
    if args.growth:
        grown = {"growth": growth(args.model, args.steps), "growth_of": stamp["model"]}
        write(document | grown, file)
        return
    if args.evaluation:
        write(document | {"evaluation": evaluation()}, file)
        return
    for name in args.jobs:
        job = replace(JOBS[name], batch=args.batch or JOBS[name].batch)
        document["jobs"][name] = measure(name, job, args)
        write(document, file)


def check_sizes(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse sizes that measure nothing, an encoder that is not there, and a report that cannot be written.

    Raises:
        InputError: There is no such encoder.
    """
    for name, least, why in LEAST:
        if getattr(args, name) is not None and getattr(args, name) < least:
            parser.error(f"--{name} must be at least {least}{why}, got {getattr(args, name)}")
    if args.kind is not None and args.pairs is None:
        parser.error("--kind is of the rows of --pairs, which is not given")
    locate(args.model)
    args.output.parent.mkdir(parents=True, exist_ok=True)


def write(document: dict[str, Any], file: Path) -> None:
    """Write figures, page and picture."""
    write_json(file, document)
    write_text(file.with_suffix(".md"), markdown(document))
    plot(document, file.with_suffix(".png"))


def growth(model: str, steps: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return the rows a second of each program by what grows and its size; texts are longer than any length."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder) / "rows.parquet")
        texts = made(40 * max(GROWTH["batch"]), words=(100, 100))["anchor"]
        Dataset.from_dict({"text": texts}).to_parquet(data)
        for what, size in ((what, size) for what, sizes in GROWTH.items() for size in sizes):
            sizes = {"processes": 1, "length": 32, "batch": 64} | {what: size}
            job, rates = Job(("text",), sizes["length"], sizes["batch"]), {}
            for program in PROGRAMS:
                setting = Setting(program, job, model, data, steps, bf16=False)
                step = in_a_process(setting, sizes["processes"])["step"]
                rates[program] = sizes["batch"] * sizes["processes"] / step
            found.setdefault(what, {})[str(size)] = rates
            print(f"{what} {size}: {rates}", file=sys.stderr)
    return found


def evaluation() -> dict[str, float]:
    """Return the steps and evaluations of the quickstart's training, and the seconds of one, from a few steps."""
    recipe = load_recipe("quickstart")
    run, measured = plan(recipe), timing.times(recipe)
    return {"steps": run.steps, "step": measured.step, "evaluations": run.evaluations, "during": measured.during}


def measure(name: str, job: Job, args: argparse.Namespace) -> dict[str, Any]:
    """Measure both programs on a job, in turns."""
    rows, held_out = tuples(job, args.texts, args.pairs, args.kind, args.batch or job.batch)
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder) / "rows.parquet")
        Dataset.from_dict(rows).to_parquet(data)
        setting = Setting("plain", job, args.model, data, args.steps, args.bf16)
        for program in PROGRAMS:  # warms up
            train(replace(setting, program=program, steps=1))
        turns = []
        for seed in range(args.turns):
            turn = {}
            for program in PROGRAMS if seed % 2 else reversed(PROGRAMS):
                trainer, times = train(replace(setting, program=program, seed=seed))
                seconds = [after - before for before, after in itertools.pairwise(times[1:])]
                turn[program] = {"seconds": seconds, "mrr": mrr(trainer.model, held_out)}
                print(f"{name}, {program}, turn {seed}: {job.batch / median(seconds):.1f} rows/s", file=sys.stderr)
            turns.append(turn)
        encoder = SentenceTransformer(locate(args.model))
        found: dict[str, Any] = {
            "texts": origin(job, args),
            "tokens": tokens(encoder, rows, job.length),
            "length": job.length,
            "batch": job.batch,
            "precision": "bfloat16 autocast" if args.bf16 else "float32",
            "untrained": mrr(encoder, held_out),
            "turns": turns,
            "megabytes": {p: in_a_process(_alone(setting, p, steps=2))["megabytes"] for p in PROGRAMS},
            "one_step": {p: start_to_end(_alone(setting, p, steps=1)) for p in PROGRAMS},
        }
        if args.profile:
            setting = replace(setting, steps=4)
            found["profile"] = {p: profile(replace(setting, program=p)) for p in PROGRAMS}
            found["profile"][DEFAULT] = profile(replace(setting, program="fmicl", loss="fmicl"))
            found["operations"] = {p: operations(replace(setting, program=p, steps=2)) for p in PROGRAMS}
    return found


def tuples(
    job: Job, texts: Path | None, pairs: Path | None, kind: str | None, batch: int
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the columns of training rows, and of held-out pairs; of files, or made."""
    file = texts if job.columns == ("text",) else pairs
    given = _read(pairs, ("anchor", "positive", "negative")[: max(len(job.columns), 2)], kind) if pairs else made(4000)
    held_out = {column: given[column][:HELD_OUT] for column in ("anchor", "positive")}
    if job.columns == ("text",):
        rows = {"text": _read(file, ("text",), None)["text"] if file else given["anchor"][HELD_OUT:]}
    else:
        rows = {column: given[column][HELD_OUT:] for column in job.columns}
    if len(held_out["anchor"]) < HELD_OUT or min(map(len, rows.values())) < batch:
        raise InputError(f"{pairs or file}: too few rows: {HELD_OUT} are held out, and a batch has {batch}")
    return {column: values[: 40 * batch] for column, values in rows.items()}, held_out


def _read(file: Path, columns: Sequence[str], kind: str | None) -> dict[str, list[str]]:
    try:
        rows = Dataset.from_parquet(str(file))
    except Exception as error:  # pyarrow, fsspec and datasets each have their own
        raise InputError(f"{file}: cannot be read as Parquet: {one_line(error)}") from error
    needed = [*columns, *(["kind"] if kind is not None else [])]
    if missing := set(needed) - set(rows.column_names):
        raise InputError(f"{file}: has no column {', '.join(sorted(missing))}; it has {', '.join(rows.column_names)}")
    kept = [row for row in rows if all(row[column] for column in columns) and (kind is None or row["kind"] == kind)]
    if not kept:
        of = "" if kind is None else f" of kind {kind}"
        raise InputError(f"{file}: none of {len(rows):,} rows{of} has {', '.join(columns)}")
    return {column: [row[column] for row in kept] for column in columns}


def _alone(setting: Setting, program: str, steps: int) -> Setting:
    """Return the setting of a program as a user has it."""
    return replace(setting, program=program, steps=steps, keeps_memory=program == "fmicl")


def origin(job: Job, args: argparse.Namespace) -> str:
    """Say where a job's training rows are from."""
    file = args.texts if job.columns == ("text",) else args.pairs
    if file is None:
        return "random words"
    return f"`{file.name}`" + (f", {args.kind}" if args.kind and file is args.pairs else "")


def tokens(encoder: SentenceTransformer, rows: dict[str, list[str]], length: int) -> list[int]:
    """Return how many tokens the texts have once cut to a length: what a tenth, half and nine tenths have at most."""
    texts = [text for column in rows.values() for text in column]
    counts = sorted(len(ids) for ids in encoder.tokenizer(texts, truncation=True, max_length=length)["input_ids"])
    return [counts[int(share * (len(counts) - 1))] for share in (0.1, 0.5, 0.9)]


def made(rows: int, seed: int = 0, words: tuple[int, int] = (4, 40)) -> dict[str, list[str]]:
    """Return tuples of random words, between two numbers of them; a positive has most of its anchor's."""
    draw = random.Random(seed)
    known = ["".join(draw.choices("aeioubdgklmnprst", k=draw.randint(2, 7))) for _ in range(2000)]
    anchors = [draw.choices(known, k=draw.randint(*words)) for _ in range(rows)]
    positives = [draw.sample(anchor, k=len(anchor) - 1) for anchor in anchors]
    negatives = [draw.choices(known, k=draw.randint(*words)) for _ in range(rows)]
    columns = {"anchor": anchors, "positive": positives, "negative": negatives}
    return {name: [" ".join(text) for text in texts] for name, texts in columns.items()}


def build(setting: Setting) -> tuple[SentenceTransformerTrainer, Steps]:
    """Return a program's trainer, ready to train."""
    trainer = _plain(setting) if setting.program == "plain" else _ours(setting)
    steps = Steps()
    trainer.add_callback(steps)
    trainer.remove_callback(PrinterCallback)
    return trainer, steps


def _plain(setting: Setting) -> SentenceTransformerTrainer:
    """As the documentation of sentence-transformers trains; a text is its own positive for dropout pairs."""
    job = setting.job
    model = SentenceTransformer(locate(setting.model))
    model.max_seq_length = job.length
    rows = Dataset.from_parquet(setting.data)
    if len(job.columns) == 1:
        rows = rows.add_column("again", rows["text"])
    loss = MultipleNegativesRankingLoss(model)
    if job.mini_batch:
        loss = CachedMultipleNegativesRankingLoss(model, mini_batch_size=job.mini_batch)
    args = SentenceTransformerTrainingArguments(
        output_dir=str(Path(setting.data).parent / "plain"),
        per_device_train_batch_size=job.batch,
        max_steps=setting.steps,
        learning_rate=RATE,
        bf16=setting.bf16,
        logging_steps=5,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        seed=setting.seed,
    )
    return SentenceTransformerTrainer(model=model, args=args, train_dataset=rows, loss=loss)


def _recipe(setting: Setting) -> Path:
    """Write the recipe of a training beside its data, and return its file."""
    job, file = setting.job, Path(setting.data).with_name("recipe.yaml")
    roles = dict(zip(("anchor", "positive"), job.columns, strict=False))
    recipe = {
        "name": "speed",
        "model": {"base": setting.model, "max_seq_length": job.length},
        "data": {
            "train": setting.data,
            "columns": roles | ({"negatives": list(job.columns[2:])} if job.columns[2:] else {}),
            **({"views": "dropout"} if len(job.columns) == 1 else {}),
        },
        "loss": LOSSES[setting.loss] | {"mini_batch_size": job.mini_batch},
        "train": {
            "per_device_train_batch_size": job.batch,
            "max_steps": setting.steps,
            "learning_rate": RATE,
            "bf16": setting.bf16,
            "logging_steps": 5,
            "save_strategy": "no",
        },
        "evaluate": {"during": "none"},
    }
    write_json(file, recipe)  # JSON is YAML
    return file


def _ours(setting: Setting) -> SentenceTransformerTrainer:
    recipe = load_recipe(_recipe(setting))
    return build_trainer(recipe, load_inputs(recipe), setting.seed, RunFolder(Path(setting.data).with_name("run")))


def train(setting: Setting) -> tuple[SentenceTransformerTrainer, list[float]]:
    """Train, and return the trainer, and when it began and each step ended."""
    trainer, steps = build(setting)
    trainer.train()
    return trainer, steps.times


def mrr(model: SentenceTransformer, pairs: dict[str, list[str]]) -> float:
    """Return MRR@10 in percent of finding each anchor's positive among all positives."""
    embed = {
        name: model.encode(texts, convert_to_tensor=True, normalize_embeddings=True) for name, texts in pairs.items()
    }
    similarities = embed["anchor"] @ embed["positive"].T  # (n, n)
    ranks = (similarities > similarities.diagonal()[:, None]).sum(dim=1) + 1  # (n,)
    return 100 * torch.where(ranks <= 10, 1 / ranks, 0).mean().item()


def profile(setting: Setting) -> dict[str, Any]:
    """Return the seconds of each part of a step, the mean of steps after the first."""
    trainer, _ = build(setting)
    clock = StepClock()
    clock.watch(trainer)

    class AfterTheFirst(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 1:
                clock.reset()

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            self.seconds = clock.read()

    after = AfterTheFirst()
    trainer.add_callback(after)
    trainer.train()
    steps = setting.steps - 1
    return {part: seconds / steps for part, seconds in after.seconds.items()}


def operations(setting: Setting) -> dict[str, float]:
    """Return the share of each kind of operation, and of the rest, in a training's time on the processor."""
    trainer, _ = build(setting)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        trainer.train()
    times = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in profiler.key_averages()}
    shares = {kind: sum(times.get(name, 0) for name in names) for kind, names in OPERATIONS.items()}
    whole = sum(times.values())
    return {kind: share / whole for kind, share in shares.items()} | {REST: 1 - sum(shares.values()) / whole}


def one(setting: Setting) -> dict[str, float]:
    """Train and save the encoder in this process: seconds of a step, and the process's peak memory in MB."""
    trainer, times = train(setting)
    most = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else peak()
    trainer.save_model(str(Path(setting.data).with_name("saved")))
    step = median(after - before for before, after in itertools.pairwise(times[1:])) if len(times) > 2 else 0.0
    return {"step": step, "megabytes": most}


def in_a_process(setting: Setting, processes: int = 1, *more: str, cwd: Path | None = None) -> dict[str, float]:
    """Train once in processes of their own, and return what the first of them has measured.

    Args:
        setting: The training.
        processes: How many.
        *more: Further arguments: with ``--profile`` it is the seconds of a step's parts that are measured.
        cwd: The checkout whose code trains; default: this one's.
    """
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes)] if processes > 1 else []
    command = [sys.executable, *launcher, "-m", "eval.benchmarks.training_speed", "--one", setting.written(), *more]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=cwd)
    return json.loads(finished.stdout.splitlines()[-1])


def start_to_end(setting: Setting) -> float:
    """Return the seconds of a process that trains and saves, as a user starts it: the plain script or the command."""
    begun = time.perf_counter()
    if setting.program == "plain":
        in_a_process(setting)
    else:
        folder = Path(setting.data).with_name("of-the-command")
        command = [sys.executable, "-m", "fmicl_text", "train", str(_recipe(setting)), "--output", str(folder)]
        subprocess.run([*command, "--overwrite"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def device() -> str:
    """Say what trains."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


def _rates(job: dict[str, Any], program: str) -> list[float]:
    """Return rows a second of each turn."""
    return [job["batch"] / median(turn[program]["seconds"]) for turn in job["turns"]]


def _ratios(job: dict[str, Any]) -> list[float]:
    return [ours / plain for ours, plain in zip(_rates(job, "fmicl"), _rates(job, "plain"), strict=True)]


def shown(values: list[float], digits: int = 1) -> str:
    """Return the median, and the extremes."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def markdown(document: dict[str, Any]) -> str:
    """Return the report as a page."""
    used = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    lines = [
        "# Speed of training",
        "",
        f"`python -m eval.benchmarks.training_speed`: `fmicl train` and a plain `SentenceTransformerTrainer` script on "
        f"{document['model']}, {document['device']}, {used}. Rows a second are medians of steps, shown "
        "as median (least to most) of turns, in which both train the same; MRR@10 of held-out pairs is after the same "
        "steps of each turn's seed. glibc keeps freed memory for both, which `fmicl train` sees to and "
        "a plain script does not, where steps are timed. One step is a process that trains one and saves the encoder, "
        "from start to end; memory is the peak of a process of two steps.",
        "",
        "![Rows a second of both programs](training_speed.png)",
        "",
        "Tokens are those of a text once cut: median (a tenth have at most the first number, nine tenths the second).",
        "",
        "| job | texts | tokens | batch, length "
        "| plain, rows/s | fmicl, rows/s | ratio | MRR@10 before | plain | fmicl |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, job in document["jobs"].items():
        scores = [shown([turn[p]["mrr"] for turn in job["turns"]]) for p in PROGRAMS]
        rates = [shown(_rates(job, p)) for p in PROGRAMS]
        few, half, most = job["tokens"]
        sizes = f"{job['batch']}, {job['length']}, {job['precision']}"
        cells = [name, job["texts"], f"{half} ({few} to {most})", sizes, *rates, f"**{shown(_ratios(job), 2)}**"]
        lines.append("| " + " | ".join([*cells, f"{job['untrained']:.1f}", *scores]) + " |")
    lines += ["", "| job | one step, plain | fmicl | memory, plain | fmicl |", "|---|---|---|---|---|"]
    for name, job in document["jobs"].items():
        cells = [f"{job['one_step'][p]:.1f} s" for p in PROGRAMS]
        cells += [f"{job['megabytes'][p]:,.0f} MB" for p in PROGRAMS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for name, job in document["jobs"].items():
        if "profile" in job:
            lines += ["", *_profile(name, job["profile"]), "", *_operations(job["profile"], job["operations"])]
    if "evaluation" in document:
        lines += ["", _evaluation(**document["evaluation"])]
    if "growth" in document:
        lines += ["", *_growth(document["growth"], document["growth_of"])]
    return "\n".join([*lines, ""])


def _evaluation(steps: int, step: float, evaluations: int, during: float) -> str:
    """Say what share of a run evaluations in training take."""
    share = evaluations * during / (evaluations * during + steps * step)
    return (
        f"Evaluation in training: of the quickstart's {steps} steps of {step:.1f} s and {evaluations} evaluations of "
        f"{during:.1f} s, by a few steps and one evaluation, the evaluations are {share:.1%}."
    )


def _growth(growth: dict[str, dict[str, dict[str, float]]], model: str) -> Iterator[str]:
    """Return how rows a second grow."""
    yield (
        f"How rows a second grow, on {model}, measured once: dropout pairs of texts that all fill their length, 32 "
        "tokens, 64 rows a process, 1 process, if not named."
    )
    yield ""
    yield "| | plain | fmicl |"
    yield "|---|---|---|"
    for what, sizes in growth.items():
        for size, rates in sizes.items():
            yield f"| {what} {size} | " + " | ".join(f"{rates[program]:.1f}" for program in PROGRAMS) + " |"


def _profile(name: str, profiles: dict[str, dict[str, float]]) -> Iterator[str]:
    """Return where a step of each program goes, and the share of what is not the encoder's."""
    yield f"Where a step of {name} goes, in milliseconds ({DEFAULT} trains the default objective):"
    yield ""
    yield f"| part | {' | '.join(profiles)} |"
    yield "|---|" + "---|" * len(profiles)
    parts = dict.fromkeys(part for parts in profiles.values() for part in parts)
    for part in sorted(parts, key=lambda part: -profiles["plain"].get(part, 0)):
        yield f"| {part} | " + " | ".join(f"{1000 * parts.get(part, 0):.0f}" for parts in profiles.values()) + " |"
    shares = [sum(parts.get(part, 0) for part in OURS) / sum(parts.values()) for parts in profiles.values()]
    yield f"| {', '.join(OURS)}: share of the step | " + " | ".join(f"{share:.1%}" for share in shares) + " |"


def _operations(profiles: dict[str, dict[str, float]], operations: dict[str, dict[str, float]]) -> Iterator[str]:
    """Return what the processor's time goes to, and what could be gained by making all but products faster."""
    yield f"| operations: share of the processor's time | {' | '.join(operations)} |"
    yield "|---|" + "---|" * len(operations)
    for kind in [*OPERATIONS, REST]:
        yield f"| {kind} | " + " | ".join(f"{operations[program][kind]:.1%}" for program in PROGRAMS) + " |"
    plain, fmicl = (sum(profiles[program].values()) for program in PROGRAMS)
    yield ""
    yield (
        f"If matrix products were the same share of fmicl's step and nothing else took time, the ratio of these two "
        f"steps, {plain / fmicl:.2f}, would be {plain / (operations['fmicl'][PRODUCTS] * fmicl):.2f}."
    )


def plot(document: dict[str, Any], file: Path) -> None:
    """Draw the rows a second of both programs, turn by turn."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    growth = document.get("growth", {})
    figure, axes = pyplot.subplots(
        1, 1 + len(growth), figsize=(7 + 2.5 * len(growth), 3.5), layout="constrained", squeeze=False
    )
    axis, *others = axes[0]
    for number, program in enumerate(PROGRAMS):
        for place, job in enumerate(document["jobs"].values()):
            rates, x = _rates(job, program), place + 0.4 * number - 0.2
            axis.bar(x, median(rates), 0.36, color=f"C{number}", label=program if place == 0 else None)
            axis.plot([x] * len(rates), rates, "k.", markersize=4)
        for other, (what, sizes) in zip(others, growth.items(), strict=True):
            other.plot(list(sizes), [rates[program] for rates in sizes.values()], "o-", color=f"C{number}")
            other.set_xlabel(what)
    for other in others:
        other.set_ylim(0, 1.1 * other.get_ylim()[1])
    axis.set_xticks(range(len(document["jobs"])), [name.replace(", ", ",\n") for name in document["jobs"]])
    axis.set(ylabel="rows a second")
    axis.legend()
    figure.suptitle(f"Training {document['model']} on {document['device']}")
    figure.savefig(file, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
