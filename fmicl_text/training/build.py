"""From a recipe and its data to what trains: encoder, loss, arguments and evaluation."""

from __future__ import annotations

import logging
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.modules import Router
from transformers import set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from fmicl_text import hub
from fmicl_text.bars import bars_are_shown
from fmicl_text.data.section import AugmentSection
from fmicl_text.data.streams import Stream
from fmicl_text.data.warnings import data_warnings, image_warnings, require_tokens
from fmicl_text.encoders.images import reads_images
from fmicl_text.encoders.prompts import Prompts
from fmicl_text.encoders.text import load_encoder
from fmicl_text.encoders.tokens import token_counts
from fmicl_text.encoders.views import AugmentedViews, PixelCollator
from fmicl_text.errors import InputError
from fmicl_text.evaluation.embeddings import cpu_has_bfloat16
from fmicl_text.losses.columns import is_group_column
from fmicl_text.losses.objective import Objective
from fmicl_text.recipe.build import at_dimensions, build_loss, check_dims
from fmicl_text.recipe.schema import Recipe
from fmicl_text.recipe.trackers import place_tensorboard, require_trackers
from fmicl_text.runs.folder import RunFolder
from fmicl_text.runs.manifest import FLOAT32
from fmicl_text.training.arguments import check_train_section, refusals
from fmicl_text.training.batch_norms import share_batch_norms
from fmicl_text.training.callbacks import LastStep, MetricsFile, Progress, ProgressLines
from fmicl_text.training.criterion import EvaluationInTraining
from fmicl_text.training.inputs import Inputs
from fmicl_text.training.trainer import ContrastiveTrainer

logger = logging.getLogger(__name__)


def check_build(recipe: Recipe, inputs: Inputs) -> ContrastiveTrainer:
    """Build encoder, loss and trainer before anything is written, to find out what they refuse, and warn of bad data.

    Returns:
        The trainer of the first seed; its output folder is gone.

    Raises:
        InputError: They refuse something.
    """
    if recipe.publish.repo is not None:
        hub.check_adapted_base(recipe.model)
    with tempfile.TemporaryDirectory() as scratch:  # the trainer makes its output folder when it is built
        trainer = build_trainer(recipe, inputs, recipe.seeds[0], RunFolder(Path(scratch)))
        with refusals(recipe.train):
            trainer.create_optimizer_and_scheduler(num_training_steps=1)
            trainer.get_train_dataloader()
    if recipe.train.get("bf16") and not trainer.args.bf16:
        logger.warning("this CPU has no bfloat16 instructions: training in float32, which is faster here")
    return trainer


def check_rows(
    recipe: Recipe, inputs: Inputs, model: SentenceTransformer, arguments: SentenceTransformerTrainingArguments
) -> list[str]:
    """Return why rows that are in memory will not train well.

    Raises:
        InputError: If the encoder makes no token of a text.
    """
    if isinstance(inputs.train, Stream):
        return []
    if recipe.data.views == "augment":
        return image_warnings(inputs.train, arguments.train_batch_size * arguments.world_size, inputs.skipped)
    require_tokens(inputs.train, partial(token_counts, model), recipe.data)
    return data_warnings(inputs.train, arguments.train_batch_size * arguments.world_size)


def build_trainer(recipe: Recipe, inputs: Inputs, seed: int, folder: RunFolder) -> ContrastiveTrainer:
    """Put encoder, loss, data and evaluation of one seed together; nothing is written before it trains.

    Raises:
        InputError: If the model cannot be loaded, or the loss or the training arguments refuse a value.
    """
    set_seed(seed)  # a head's initial weights
    model = load_encoder(recipe.model)
    _check_columns(recipe, model)
    rows = inputs.train
    views = None
    if recipe.data.views == "augment":
        views = AugmentedViews(recipe.data.augment or AugmentSection(), model)
        model.to(memory_format=torch.channels_last)
    elif reads_images(model):
        raise InputError("model: the encoder reads images; to train it, set data.views: augment")
    arguments, loss = training_arguments(recipe, inputs, model, seed, folder), build_loss(recipe, model)
    share_batch_norms(loss, arguments)
    check_dims("evaluate.dims", recipe.evaluate.dims, model)
    with refusals(recipe.train):
        trainer = ContrastiveTrainer(
            model=model,
            args=arguments,
            views=views,
            lars=recipe.uses_lars,
            data_collator=None if views is None else PixelCollator(views.size),
            train_dataset=rows.shuffled(seed, recipe.data.shuffle_buffer) if isinstance(rows, Stream) else rows,
            loss=at_dimensions(loss, recipe.matryoshka),
            evaluator=None if inputs.during is None else EvaluationInTraining(inputs.during),
            callbacks=[MetricsFile(folder.metrics), LastStep()],
        )
    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(Progress(inputs.during))
    else:
        trainer.add_callback(ProgressLines(trainer.get_total_train_batch_size(trainer.args)))
    place_tensorboard(trainer, folder.tensorboard)
    return trainer


def _check_columns(recipe: Recipe, model: SentenceTransformer) -> None:
    """Refuse a loss whose columns are not there, and routes of columns for an encoder that has none."""
    needed = isinstance(recipe.loss, Objective) and recipe.loss.needs_negatives
    if needed and not recipe.data.columns.negatives and recipe.data.mine is None:
        raise InputError(
            f"loss.objective: {recipe.loss.objective} needs explicit negatives: name their columns in "
            "data.columns.negatives, or set data.mine"
        )
    if recipe.train.get("router_mapping") and not any(isinstance(module, Router) for module in model):
        raise InputError("train.router_mapping: the encoder has no Router, so all columns take the same route")


def training_arguments(
    recipe: Recipe, inputs: Inputs, model: SentenceTransformer, seed: int, folder: RunFolder
) -> SentenceTransformerTrainingArguments:
    """Return the trainer's arguments: the recipe's ``train`` section over defaults that fit its evaluation.

    Texts are trained on after the encoder's own prompts, so that training, evaluation and use have the same.

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
        "disable_tqdm": not bars_are_shown(),
    }
    if inputs.during is not None:
        settings |= {
            "eval_strategy": "steps",
            "eval_steps": every,
            "load_best_model_at_end": True,
            "metric_for_best_model": inputs.during.logged,
            "greater_is_better": inputs.during.metric.higher_is_better,
        }
    evaluates = "metric_for_best_model" in settings
    check_train_section(recipe.train, evaluates, smallest_batch=1 if recipe.data.columns.negatives else 2)
    if _ends_in_a_lone_row(recipe, inputs):
        settings["dataloader_drop_last"] = True
    settings |= recipe.training_arguments()
    if prompts := Prompts.of(model).by_column(text_columns(recipe, inputs)):
        settings.setdefault("prompts", prompts)  # train.prompts are those of training alone
    settings |= {"output_dir": str(folder.checkpoints), "seed": seed}
    if settings.get("bf16") and settings["use_cpu"] and not cpu_has_bfloat16():
        settings["bf16"] = False
    with refusals(recipe.train):
        arguments = SentenceTransformerTrainingArguments(**settings)
    require_trackers(arguments.report_to)
    return arguments


def text_columns(recipe: Recipe, inputs: Inputs) -> list[str]:
    """Return the columns that are encoded, by their roles, the anchor first."""
    rows = inputs.train
    columns = list(recipe.data.columns.roles) if isinstance(rows, Stream) else rows.column_names
    return [column for column in columns if not is_group_column(column)]


def precision(arguments: SentenceTransformerTrainingArguments) -> str:
    """Return the type of matrix products in training."""
    return "bfloat16 autocast" if arguments.bf16 else "float16 autocast" if arguments.fp16 else FLOAT32


def _ends_in_a_lone_row(recipe: Recipe, inputs: Inputs) -> bool:
    """Whether the last batch of an epoch would be one pair, which has no negatives."""
    if isinstance(inputs.train, Stream):
        return False
    default = SentenceTransformerTrainingArguments.per_device_train_batch_size
    batch = recipe.train.get("per_device_train_batch_size", default)
    return not recipe.data.columns.negatives and len(inputs.train) > 1 and len(inputs.train) % batch == 1
