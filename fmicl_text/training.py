"""From a recipe to a run folder: train for each seed, keep the best checkpoint, measure before and after."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from transformers import set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import get_last_checkpoint

from fmicl_text import losses
from fmicl_text.callbacks import LastStep, MetricsFile, Progress
from fmicl_text.encoder import load_encoder
from fmicl_text.errors import InputError
from fmicl_text.evaluation.retrieval import retrieve
from fmicl_text.evaluation.sts import evaluate
from fmicl_text.evaluation.suites import Pairs
from fmicl_text.files import read_json, write_json
from fmicl_text.inputs import Inputs, load_inputs
from fmicl_text.memory import keep_memory
from fmicl_text.plots import plot_training
from fmicl_text.recipe import Recipe
from fmicl_text.recipe_file import dump_recipe
from fmicl_text.results import Document, SeedResult, TrainResult
from fmicl_text.run import RunFolder, open_run
from fmicl_text.trainer import ContrastiveTrainer

logger = logging.getLogger(__name__)

_LOSSES: dict[str, Callable[..., losses.ContrastiveLoss]] = {
    "fmicl": losses.FMICLLoss,
    "infonce": losses.InfoNCELoss,
}


@dataclass(frozen=True)
class Plan:
    """What a run would do."""

    rows: int
    columns: list[str]
    parameters: int
    dimensions: int
    max_seq_length: int
    loss: dict[str, Any]
    batch: int
    steps: int
    device: str
    precision: str


def train(recipe: Recipe, output: Path | None = None, resume: bool = False, overwrite: bool = False) -> TrainResult:
    """Run a recipe.

    Args:
        recipe: What to run; from :func:`fmicl_text.recipe_file.load_recipe`.
        output: The run folder; default ``runs/NAME``.
        resume: Go on with the run that is in the folder, from its last checkpoints.
        overwrite: Delete the run that is in the folder.

    Returns:
        The run's results; the folder has the models, the results and the metrics.

    Raises:
        InputError: If the model, the data or the evaluation's data cannot be had, or the folder is taken.
    """
    if not torch.cuda.is_available():
        keep_memory()
    folder = output or Path("runs") / recipe.name
    inputs = load_inputs(recipe)
    _check(recipe, inputs)
    open_run(folder, dump_recipe(recipe), resume, overwrite)
    before = _measure_before(recipe, inputs, RunFolder(folder)) if recipe.evaluate.before else {}
    several = len(recipe.seeds) > 1
    results = [
        _train_seed(recipe, inputs, seed, RunFolder(folder / f"seed-{seed}" if several else folder), resume)
        for seed in recipe.seeds
    ]
    result = TrainResult(folder, before, results)
    if several:
        write_json(folder / "summary.json", result.summary())
    return result


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
    return Plan(
        rows=len(inputs.train),
        columns=inputs.train.column_names,
        parameters=sum(parameter.numel() for parameter in trainer.model.parameters()),
        dimensions=trainer.model.get_embedding_dimension(),
        max_seq_length=trainer.model.max_seq_length,
        loss=trainer.loss.get_config_dict(),
        batch=trainer.get_total_train_batch_size(arguments),
        steps=steps,
        device=str(arguments.device),
        precision=_precision(arguments),
    )


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
    head = "mlp" if recipe.model.head == "mlp-train-only" else None
    try:
        return _LOSSES[recipe.loss.objective](model, head=head, **recipe.loss.arguments())
    except ValueError as error:
        raise InputError(f"loss: {error}") from error


def build_trainer(recipe: Recipe, inputs: Inputs, seed: int, folder: RunFolder) -> ContrastiveTrainer:
    """Put encoder, loss, data and evaluation of one seed together; nothing is written before it trains.

    Raises:
        InputError: If the model cannot be had, or the loss or the training arguments refuse a value.
    """
    set_seed(seed)  # a head's initial weights
    model = load_encoder(recipe.model)
    trainer = ContrastiveTrainer(
        model=model,
        args=training_arguments(recipe, inputs, seed, folder),
        train_dataset=inputs.train,
        loss=build_loss(recipe, model),
        evaluator=_development_evaluator(inputs.development),
        callbacks=[MetricsFile(folder.metrics), LastStep()],
    )
    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(Progress())
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
    settings |= recipe.train
    settings |= {"output_dir": str(folder.checkpoints), "seed": seed}
    if settings.get("bf16") and settings["use_cpu"] and not _cpu_has_bfloat16():
        settings["bf16"] = False
    try:
        return SentenceTransformerTrainingArguments(**settings)
    except (ValueError, TypeError, ImportError) as error:
        raise InputError(f"train: {error}") from error


def _cpu_has_bfloat16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def _train_seed(recipe: Recipe, inputs: Inputs, seed: int, folder: RunFolder, resume: bool) -> SeedResult:
    if not folder.is_done():
        _fit(recipe, inputs, seed, folder, resume)
    after = {}
    model: SentenceTransformer | None = None
    for name in recipe.evaluate.after:
        if not folder.result(name).is_file():
            model = model or SentenceTransformer(str(folder.model))
            write_json(folder.result(name), _measure(name, model, str(folder.model), recipe, inputs))
        after[name] = read_json(folder.result(name))
    return SeedResult(seed, folder, after)


def _fit(recipe: Recipe, inputs: Inputs, seed: int, folder: RunFolder, resume: bool) -> None:
    """Train one seed and put the finished encoder in its folder."""
    trainer = build_trainer(recipe, inputs, seed, folder)
    checkpoint = get_last_checkpoint(str(folder.checkpoints)) if resume and folder.checkpoints.is_dir() else None
    if trainer.is_world_process_zero():
        folder.write_manifest(
            "running",
            seed=seed,
            device=str(trainer.args.device),
            threads=torch.get_num_threads(),
            precision=_precision(trainer.args),
        )
    trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.is_world_process_zero():
        _save(trainer.model, folder.model)
        plot_training(trainer.state.log_history, folder.picture, title=recipe.name)
        folder.write_manifest("done", steps=trainer.state.global_step, best=_best(trainer))


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
    model.save_pretrained(str(unfinished))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(unfinished, folder)


def _measure_before(recipe: Recipe, inputs: Inputs, folder: RunFolder) -> dict[str, Document]:
    names = [name for name in recipe.evaluate.after if not folder.result(f"before-{name}").is_file()]
    model = load_encoder(recipe.model) if names else None
    for name in names:
        write_json(folder.result(f"before-{name}"), _measure(name, model, recipe.model.base, recipe, inputs))
    return {name: read_json(folder.result(f"before-{name}")) for name in recipe.evaluate.after}


def _measure(name: str, model: SentenceTransformer, called: str, recipe: Recipe, inputs: Inputs) -> Document:
    show_progress = sys.stderr.isatty()
    if name == "heldout":
        assert inputs.heldout is not None  # the recipe's schema saw to it
        rows = inputs.heldout
        return retrieve(model, rows["anchor"][:], rows["positive"][:], show_progress=show_progress).document()
    return evaluate(model, name, recipe.evaluate.data, show_progress=show_progress, name=called).document()
