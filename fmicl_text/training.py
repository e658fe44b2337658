"""From a recipe to a run folder: train for each seed, keep the best checkpoint, measure before and after."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from transformers import set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import get_last_checkpoint

from fmicl_text import hub, losses
from fmicl_text.callbacks import LastStep, MetricsFile, Progress, SaveAfterEpoch
from fmicl_text.checkpoints import newest_whole
from fmicl_text.encoder import load_encoder, load_model
from fmicl_text.errors import InputError, RunFailedError, RunInterrupted
from fmicl_text.evaluation.embeddings import cpu_has_bfloat16
from fmicl_text.evaluation.geometry import measure_geometry
from fmicl_text.evaluation.items import write_result
from fmicl_text.evaluation.retrieval import retrieve
from fmicl_text.evaluation.sts import evaluate
from fmicl_text.evaluation.suites import Pairs
from fmicl_text.files import read_json, write_json
from fmicl_text.inputs import Inputs, load_inputs
from fmicl_text.interruption import Interruption
from fmicl_text.memory import keep_memory
from fmicl_text.plots import plot_training
from fmicl_text.provenance import changes, provenance
from fmicl_text.recipe import PublishSection, Recipe
from fmicl_text.recipe_file import load_recipe
from fmicl_text.results import Document, SeedResult, TrainResult
from fmicl_text.run import RunFolder, open_run
from fmicl_text.stream_batches import StreamError
from fmicl_text.streams import Stream
from fmicl_text.trackers import place_tensorboard, require_trackers
from fmicl_text.trainer import ContrastiveTrainer

logger = logging.getLogger(__name__)

_ANEW = "starts from the beginning, as there is no whole checkpoint"


@dataclass(frozen=True)
class Plan:
    """What a run would do; ``rows`` is None for a stream, ``buffer`` for all else."""

    rows: int | None
    buffer: int | None
    columns: list[str]
    parameters: int
    dimensions: int
    max_seq_length: int
    loss: dict[str, Any]
    batch: int
    steps: int
    device: str
    precision: str
    remote_code: bool


def train(
    recipe: Recipe,
    output: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    repeats: Path | None = None,
) -> TrainResult:
    """Run a recipe.

    What is there already of a run is not done again. One that was stopped, by whatever means, and is resumed ends with
    the same weights and ``metrics.jsonl``, bit by bit, as if it had not been: on one CPU process, with the same
    versions and number of threads.

    Args:
        recipe: What to run; from :func:`fmicl_text.recipe_file.load_recipe`.
        output: The run folder; default ``runs/NAME``.
        resume: Go on with the run that is in the folder, from its newest checkpoint that is whole.
        overwrite: Delete the run that is in the folder.
        repeats: The folder of an earlier run of this recipe; a warning says if its data or base model was another.

    Returns:
        The run's results; the folder has the models, the results and the metrics.

    Raises:
        InputError: If the model, the data or the evaluation's data cannot be had, or the folder is taken; during
            training, if a stream has a row that is not text or cannot be read.
        RunFailedError: If the recipe says to publish and the Hub cannot be reached; before training, or at the end,
            when all else is done and ``resume`` tries again. If the disk is full.
        RunInterrupted: On SIGINT or SIGTERM, in training after a checkpoint is written.
    """
    if not torch.cuda.is_available():
        keep_memory()
    folder = output or Path("runs") / recipe.name
    if resume and RunFolder(folder).recipe.is_file():
        begun = load_recipe(RunFolder(folder).recipe)
        recipe = recipe.pinned(begun.model.revision, begun.data.revision)
    inputs = load_inputs(recipe)
    _check(recipe, inputs)
    if recipe.publish.repo is not None:
        hub.check_access(recipe.publish.repo)
    origin = provenance(recipe, inputs)
    # What a name on the Hub stands for may change.
    recipe = recipe.pinned(origin["base_model"].get("revision"), origin["data"]["training"].get("revision"))
    with ExitStack() as stack:
        _in_first_process(lambda: stack.enter_context(open_run(folder, recipe, resume, overwrite)))
        interruption = stack.enter_context(Interruption(folder))
        try:
            result = _run(recipe, inputs, folder, origin, folder if resume else repeats, interruption)
        except OSError as error:
            raise RunFailedError(f"{error}; to go on, when that is mended: {_resume_command(folder)}") from error
        except StreamError as error:
            raise InputError(
                [*_found(inputs, error), f"to go on, when that is mended: {_resume_command(folder)}"]
            ) from error
    return _publish(recipe.publish, result)


def _run(
    recipe: Recipe,
    inputs: Inputs,
    folder: Path,
    origin: dict[str, Any],
    earlier: Path | None,
    interruption: Interruption,
) -> TrainResult:
    """Do all that is not there yet of a run."""
    several = len(recipe.seeds) > 1
    folders = {seed: folder / f"seed-{seed}" if several else folder for seed in recipe.seeds}
    if earlier is not None and _processes().is_main_process:
        _say_changes(earlier, origin)
    before = _measure_before(recipe, inputs, RunFolder(folder)) if recipe.evaluate.before else {}
    results = []
    for seed, place in folders.items():
        if not RunFolder(place).is_done():
            _fit(recipe, inputs, seed, RunFolder(place), origin, interruption)
        results.append(_measure_after(recipe, inputs, seed, RunFolder(place)))
    result = TrainResult(folder, before, results)
    if several:
        _in_first_process(lambda: write_json(folder / "summary.json", result.summary()))
    return result


def _say_changes(earlier: Path, origin: dict[str, Any]) -> None:
    """Warn of data or a base model that are not what they were in an earlier run, or an earlier part of this one."""
    manifests = [file for file in (earlier / "manifest.json", *earlier.glob("seed-*/manifest.json")) if file.is_file()]
    found = [change for manifest in manifests for change in changes(read_json(manifest), origin)]
    for change in dict.fromkeys(found):
        logger.warning("%s: %s", earlier, change)


def _found(inputs: Inputs, error: StreamError) -> list[str]:
    """Return what is wrong with a stream: its first bad rows, for which it is read again in the order of its files."""
    assert isinstance(inputs.train, Stream)  # nothing else raises the error
    said = str(error).rpartition("StreamError: ")[2].strip()  # a worker that loads data puts its traceback before
    logger.warning("%s: %s; looking for it in the order of the files", inputs.train.source, said)
    try:
        inputs.train.check()
    except InputError as problem:
        return problem.problems
    return [f"{inputs.train.source}: {said}"]


def _resume_command(folder: Path) -> str:
    return f"fmicl train --resume {shlex.quote(str(folder))}"


def _processes() -> PartialState:
    """Return what accelerate knows of the processes of this run: one, unless it was launched as several."""
    patience = timedelta(days=1)  # of processes that wait for one to evaluate
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=patience)


def _in_first_process(action: Callable[[], object]) -> None:
    """Do something once, while the other processes wait."""
    if _processes().is_main_process:
        action()
    _processes().wait_for_everyone()


def _publish(section: PublishSection, result: TrainResult) -> TrainResult:
    """Publish the run if its recipe says so, once for all processes; a run published already stays as it is."""
    if section.repo is None or not _processes().is_main_process:
        return result
    try:
        published = hub.publish(result.folder, section.repo, private=section.private)
    except (InputError, RunFailedError) as error:
        private = " --private" if section.private else ""
        raise RunFailedError(
            f"{error}\nthe run itself is complete; to publish it: "
            f"fmicl publish {shlex.quote(str(result.folder))} {section.repo}{private}"
        ) from error
    return replace(result, published=published)


def plan(recipe: Recipe) -> Plan:
    """Load everything a run needs and say what it would do, without writing anything.

    Raises:
        InputError: As :func:`train`.
    """
    inputs = load_inputs(recipe)
    with tempfile.TemporaryDirectory() as scratch:  # the trainer makes its output folder when it is built
        trainer = build_trainer(recipe, inputs, recipe.seeds[0], RunFolder(Path(scratch)))
    arguments = trainer.args
    *_, steps = trainer.set_initial_training_values(arguments, trainer.get_train_dataloader())
    rows = inputs.train
    return Plan(
        rows=None if isinstance(rows, Stream) else len(rows),
        buffer=recipe.data.shuffle_buffer if isinstance(rows, Stream) else None,
        columns=list(recipe.data.columns.roles),
        parameters=sum(parameter.numel() for parameter in trainer.model.parameters()),
        dimensions=trainer.model.get_embedding_dimension(),
        max_seq_length=trainer.model.max_seq_length,
        loss=trainer.loss.get_config_dict(),
        batch=trainer.get_total_train_batch_size(arguments),
        steps=steps,
        device=str(arguments.device),
        precision=_precision(arguments),
        remote_code=recipe.model.trust_remote_code,
    )


def _ends_in_a_lone_row(recipe: Recipe, inputs: Inputs) -> bool:
    """Whether the last batch of an epoch would be one pair, with nothing to be told apart from."""
    if isinstance(inputs.train, Stream):
        return False
    default = SentenceTransformerTrainingArguments.per_device_train_batch_size
    batch = recipe.train.get("per_device_train_batch_size", default)
    return not recipe.data.columns.negatives and len(inputs.train) > 1 and len(inputs.train) % batch == 1


def _precision(arguments: SentenceTransformerTrainingArguments) -> str:
    return "bfloat16 autocast" if arguments.bf16 else "float16 autocast" if arguments.fp16 else "float32"


def _check(recipe: Recipe, inputs: Inputs) -> None:
    """Find out before anything is written what encoder, loss and trainer would refuse."""
    build_loss(recipe, load_encoder(recipe.model))
    arguments = training_arguments(recipe, inputs, recipe.seeds[0], RunFolder(Path()))
    if recipe.train.get("bf16") and not arguments.bf16:
        logger.warning("this CPU has no bfloat16 instructions: training in float32, which is faster here")


def build_loss(recipe: Recipe, model: SentenceTransformer) -> losses.ContrastiveLoss:
    """Build the loss of a recipe over an encoder.

    Raises:
        InputError: If the loss refuses its settings.
    """
    arguments = recipe.loss.arguments()
    if recipe.model.head == "mlp-train-only":
        arguments["head"] = "mlp"
    try:
        return losses.LOSSES[recipe.loss.objective](model, **arguments)
    except ValueError as error:
        raise InputError(f"loss: {error}") from error


def build_trainer(recipe: Recipe, inputs: Inputs, seed: int, folder: RunFolder) -> ContrastiveTrainer:
    """Put encoder, loss, data and evaluation of one seed together; nothing is written before it trains.

    Raises:
        InputError: If the model cannot be had, or the loss or the training arguments refuse a value.
    """
    set_seed(seed)  # a head's initial weights
    model = load_encoder(recipe.model)
    rows = inputs.train
    trainer = ContrastiveTrainer(
        model=model,
        args=training_arguments(recipe, inputs, seed, folder),
        train_dataset=rows.shuffled(seed, recipe.data.shuffle_buffer) if isinstance(rows, Stream) else rows,
        loss=build_loss(recipe, model),
        evaluator=_development_evaluator(inputs.development),
        callbacks=[MetricsFile(folder.metrics), LastStep()],
    )
    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(Progress())
    place_tensorboard(trainer, folder.tensorboard)
    return trainer


def training_arguments(
    recipe: Recipe, inputs: Inputs, seed: int, folder: RunFolder
) -> SentenceTransformerTrainingArguments:
    """Return the trainer's arguments: the recipe's ``train`` section over defaults that fit its evaluation.

    On a CPU without bfloat16 instructions ``bf16: true`` is dropped, since emulating them is several times slower
    than float32.

    Raises:
        InputError: If the arguments refuse a value.
    """
    every = recipe.evaluate.every_steps
    settings: dict[str, Any] = {
        "report_to": "none",
        "run_name": recipe.name if len(recipe.seeds) == 1 else f"{recipe.name}-seed-{seed}",
        "save_strategy": "steps",
        "save_steps": every,
        "save_total_limit": 2,
        "use_cpu": not torch.accelerator.is_available(),
        "disable_tqdm": not sys.stderr.isatty(),
    }
    if inputs.development is not None:
        settings |= {
            "eval_strategy": "steps",
            "eval_steps": every,
            "load_best_model_at_end": True,
            "metric_for_best_model": "stsb-dev_spearman_cosine",
            "greater_is_better": True,
        }
    if _ends_in_a_lone_row(recipe, inputs):
        settings["dataloader_drop_last"] = True
    settings |= recipe.train
    settings |= {"output_dir": str(folder.checkpoints), "seed": seed}
    if settings.get("bf16") and settings["use_cpu"] and not cpu_has_bfloat16():
        settings["bf16"] = False
    try:
        arguments = SentenceTransformerTrainingArguments(**settings)
    except (ValueError, TypeError, ImportError) as error:
        raise InputError(f"train: {error}") from error
    require_trackers(arguments.report_to)
    return arguments


def _measure_after(recipe: Recipe, inputs: Inputs, seed: int, folder: RunFolder) -> SeedResult:
    model = str(folder.model)
    load = partial(load_model, model, trust_remote_code=recipe.model.trust_remote_code)
    after = _measure(recipe, inputs, folder, "", load, model)
    return SeedResult(seed, folder, after)


def _fit(
    recipe: Recipe,
    inputs: Inputs,
    seed: int,
    folder: RunFolder,
    origin: dict[str, Any],
    interruption: Interruption,
) -> None:
    """Train one seed, from its newest whole checkpoint if it has any, and put the finished encoder in its folder."""
    again = folder.manifest.is_file()
    if again:
        _in_first_process(lambda: newest_whole(folder.checkpoints))  # which sets aside those that are not
    checkpoint = get_last_checkpoint(str(folder.checkpoints)) if folder.checkpoints.is_dir() else None
    trainer = build_trainer(recipe, inputs, seed, folder)
    for callback in (interruption, SaveAfterEpoch()):  # which wants the last word
        trainer.add_callback(callback)
    first = trainer.is_world_process_zero()
    if first:
        if again:
            logger.warning("%s: %s", folder.path, f"goes on from {Path(checkpoint).name}" if checkpoint else _ANEW)
        folder.write_manifest(
            "running",
            seed=seed,
            device=str(trainer.args.device),
            threads=torch.get_num_threads(),
            precision=_precision(trainer.args),
            **origin,
        )
    try:
        output = trainer.train(resume_from_checkpoint=checkpoint)
        if first:
            _save(trainer.model, folder.model)
            plot_training(trainer.state.log_history, folder.picture, title=recipe.name)
            seconds = round(output.metrics["train_runtime"], 1)
            folder.write_manifest("done", steps=trainer.state.global_step, seconds=seconds, best=_best(trainer))
    except BaseException as error:
        if first:
            with suppress(OSError):  # the disk may be full, and the error says more
                state = "interrupted" if isinstance(error, RunInterrupted) else "failed"
                folder.write_manifest(state, steps=trainer.state.global_step)
        raise


def _development_evaluator(pairs: Pairs | None) -> EmbeddingSimilarityEvaluator | None:
    if pairs is None:
        return None
    return EmbeddingSimilarityEvaluator(
        pairs.sentences1,
        pairs.sentences2,
        pairs.scores.tolist(),
        batch_size=128,
        main_similarity="cosine",
        similarity_fn_names=["cosine"],
        name="stsb-dev",
        write_csv=False,
    )


def _best(trainer: ContrastiveTrainer) -> dict[str, Any] | None:
    if trainer.state.best_metric is None:
        return None
    return {"step": trainer.state.best_global_step, "stsb-dev spearman": 100 * trainer.state.best_metric}


def _save(model: SentenceTransformer, folder: Path) -> None:
    """Write the encoder beside its place, then move it there whole."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        model.save_pretrained(str(unfinished))
    except (OSError, SafetensorError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)  # makes room
        raise OSError(f"the model cannot be written to {folder}: {error}") from error
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(unfinished, folder)


def _measure_before(recipe: Recipe, inputs: Inputs, folder: RunFolder) -> dict[str, Document]:
    return _measure(recipe, inputs, folder, "before-", lambda: load_encoder(recipe.model), recipe.model.base)


def _measure(
    recipe: Recipe,
    inputs: Inputs,
    folder: RunFolder,
    prefix: str,
    load: Callable[[], SentenceTransformer],
    called: str,
) -> dict[str, Document]:
    """Return the results of ``evaluate.after``, computing in the first process those that are not there yet."""
    files = {name: folder.result(prefix + Path(name).stem) for name in recipe.evaluate.after}  # a suite may be a file

    def compute() -> None:
        missing = [name for name, file in files.items() if not file.is_file()]
        model = load() if missing else None
        for name in missing:
            _evaluate(name, model, called, recipe, inputs, files[name])

    _in_first_process(compute)
    return {name: read_json(file) for name, file in files.items()}


def _evaluate(name: str, model: SentenceTransformer, called: str, recipe: Recipe, inputs: Inputs, file: Path) -> None:
    """Evaluate one of ``evaluate.after``, and write the documents."""
    show_progress = sys.stderr.isatty()
    if name == "heldout":
        assert inputs.heldout is not None  # the recipe's schema saw to it
        queries, documents = inputs.heldout["anchor"][:], inputs.heldout["positive"][:]
        write_result(retrieve(model, queries, documents, show_progress=show_progress), file)
    elif name == "geometry":
        assert inputs.geometry is not None  # as it is asked for
        write_json(file, measure_geometry(model, inputs.geometry, 128, show_progress, called).document())
    else:
        write_result(evaluate(model, name, recipe.evaluate.data, show_progress=show_progress, name=called), file)
