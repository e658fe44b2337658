"""From a recipe and its data to what trains: encoder, loss, arguments and evaluation."""

from __future__ import annotations

import logging
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.modules import Router
from transformers import set_seed
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from fmicl_text import hub
from fmicl_text.bars import bars_are_shown
from fmicl_text.data.mixture import SourceSection
from fmicl_text.data.section import AugmentSection, DataSection
from fmicl_text.data.streams import Stream
from fmicl_text.data.warnings import data_warnings, image_warnings, leak_warning, require_tokens
from fmicl_text.encoders.images import reads_images
from fmicl_text.encoders.openvino import check_convertible
from fmicl_text.encoders.prompts import Prompts
from fmicl_text.encoders.section import PromptsSection
from fmicl_text.encoders.tokens import token_counts
from fmicl_text.encoders.views import AugmentedViews, PixelCollator
from fmicl_text.errors import InputError
from fmicl_text.losses.columns import is_group_column
from fmicl_text.losses.objective import Objective
from fmicl_text.losses.queue import queue_warning
from fmicl_text.recipe.build import at_dimensions, build_losses, check_dims
from fmicl_text.recipe.schema import Recipe
from fmicl_text.recipe.trackers import place_tensorboard, require_trackers
from fmicl_text.runs.folder import RunFolder
from fmicl_text.training import on_cuda
from fmicl_text.training.arguments import check_train_section, refusals
from fmicl_text.training.batch_norms import has_batch_norms, share_batch_norms
from fmicl_text.training.callbacks import LastStep, MetricsFile, Progress, ProgressLines
from fmicl_text.training.criterion import EvaluationInTraining
from fmicl_text.training.inputs import Inputs
from fmicl_text.training.one_gpu import use_one_gpu
from fmicl_text.training.optimizer_arguments import check_optimizer_arguments
from fmicl_text.training.precision import require_half_precision, settings_of, tell
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
            check_optimizer_arguments(trainer, str(recipe.train.get("optim", "the optimizer")))
            trainer.create_optimizer_and_scheduler(num_training_steps=1)
            trainer.get_train_dataloader()
    if recipe.publish.repo is not None:
        hub.check_no_own_code(trainer.model)
    for precision in recipe.publish.converted:
        check_convertible(trainer.model, precision, "publish.exports")
    tell(recipe.train, trainer.args, recipe.model.dtype)
    return trainer


def check_rows(
    recipe: Recipe, inputs: Inputs, model: SentenceTransformer, arguments: SentenceTransformerTrainingArguments
) -> list[str]:
    """Return why rows that are in memory, or a queue of them, will not train well, each with its source or key.

    Raises:
        InputError: If the encoder makes no token of a text.
    """
    batch = arguments.train_batch_size * arguments.world_size
    found = []
    for name, source in recipe.data.sources.items():
        rows = inputs.train[name]
        if warning := _queue_warning(recipe, name, rows, arguments):
            found.append(f"{recipe.loss_key(name)}.queue: {warning}")
        if isinstance(rows, Stream):
            continue
        if source.views == "augment":
            warnings = image_warnings(rows, batch, inputs.skipped)
        else:
            require_tokens(rows, partial(token_counts, model), source)
            warnings = data_warnings(rows, batch)
            heldout = inputs.heldout.get(name)
            if isinstance(source.heldout, str) and heldout is not None:
                leaks = leak_warning(rows, heldout, labelled=source.views == "group")
                found += [f"{source.heldout}: {leaks}"] if leaks else []
        found += [f"{source.train}: {warning}" for warning in warnings]
    return found


def _queue_warning(
    recipe: Recipe, source: str, rows: Dataset | Stream, arguments: SentenceTransformerTrainingArguments
) -> str | None:
    size = getattr(recipe.loss_of(source), "queue", None)
    own = None if isinstance(rows, Stream) else len(rows) // arguments.world_size
    return None if size is None else queue_warning(size, arguments.train_batch_size, own)


def build_trainer(recipe: Recipe, inputs: Inputs, seed: int, folder: RunFolder) -> ContrastiveTrainer:
    """Put encoder, loss, data and evaluation of one seed together; nothing is written before it trains.

    Raises:
        InputError: If the model cannot be loaded, or the loss or the training arguments refuse a value.
    """
    set_seed(seed)  # a head's initial weights
    model = inputs.load_encoder(recipe.model)
    _check_columns(recipe, model)
    views = None
    if recipe.trains_on_images:
        (images,) = recipe.data.sources.values()
        views = AugmentedViews(images.augment or AugmentSection(), model)
        model.to(memory_format=torch.channels_last)
    elif reads_images(model):
        raise InputError("model: the encoder reads images; to train it, set data.views: augment")
    losses = build_losses(recipe, model)
    arguments = training_arguments(recipe, inputs, model, seed, folder, has_batch_norms(losses.values()))
    _require_full_batches(recipe, inputs, arguments)
    share_batch_norms([*losses.values()], arguments)
    check_dims("evaluate.dims", recipe.evaluate.dims, model)
    trained = {name: at_dimensions(recipe, loss, name) for name, loss in losses.items()}
    # The library would draw examples from the rows, with a bar, and encode them for the card of each checkpoint; the
    # card that is published is another one.
    model.model_card_data.generate_widget_examples = False
    model.model_card_data.widget = [{}]
    with refusals(recipe.train):
        trainer = ContrastiveTrainer(
            model=model,
            args=arguments,
            views=views,
            lars=recipe.uses_lars,
            weights=recipe.weights,
            data_collator=None if views is None else PixelCollator(views.size),
            train_dataset=_dataset(recipe, inputs, seed),
            loss=trained.get("", trained),
            evaluator=None if inputs.during is None else EvaluationInTraining(inputs.during),
            callbacks=[MetricsFile(folder.metrics), LastStep()],
        )
    model.model_card_data.widget = []
    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(Progress(inputs.during))
    else:
        trainer.add_callback(ProgressLines(trainer.get_total_train_batch_size(trainer.args)))
    place_tensorboard(trainer, folder.tensorboard)
    return trainer


def _check_columns(recipe: Recipe, model: SentenceTransformer) -> None:
    """Refuse a loss whose columns are not there, and routes of columns for an encoder that has none."""
    for name, source in recipe.data.sources.items():
        loss = recipe.loss_of(name)
        needed = isinstance(loss, Objective) and loss.needs_negatives
        if needed and not source.columns.negatives and source.mine is None:
            how = "name their columns in data.columns.negatives, or set data.mine"
            how = "views of images have none; choose another objective" if source.views == "augment" else how
            raise InputError(f"{recipe.loss_key(name)}.objective: {loss.objective} needs explicit negatives: {how}")
    if recipe.train.get("router_mapping") and not any(isinstance(module, Router) for module in model):
        raise InputError("train.router_mapping: the encoder has no Router, so all columns take the same route")


def training_arguments(
    recipe: Recipe, inputs: Inputs, model: SentenceTransformer, seed: int, folder: RunFolder, normalises: bool
) -> SentenceTransformerTrainingArguments:
    """Return the trainer's arguments: the recipe's ``train`` section over defaults that fit its evaluation.

    Texts are trained on after the encoder's own prompts, so that training, evaluation and use have the same. On CUDA
    the defaults of :mod:`fmicl_text.training.on_cuda` hold. A last batch of one row that cannot train is left out.

    Args:
        recipe: The recipe.
        inputs: Its inputs.
        model: The encoder.
        seed: The seed.
        folder: Where the run is written.
        normalises: Whether a BatchNorm is trained, which needs two rows.

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
        **({} if recipe.train.get("use_cpu") else on_cuda.defaults()),
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
    have_negatives = all(source.columns.negatives for source in recipe.data.sources.values())
    why = "BatchNorm cannot normalise a row alone" if normalises else "a row alone has no negatives"
    check_train_section(recipe.train, evaluates, no_lone_row=None if have_negatives and not normalises else why)
    if _ends_in_a_lone_row(recipe, inputs, normalises):
        settings["dataloader_drop_last"] = True
        if normalises and recipe.train.get("dataloader_drop_last") is False:
            raise InputError(
                f"train.dataloader_drop_last: false leaves a last batch of one row in an epoch, and {why}; leave it "
                "out, or set it to true"
            )
    settings |= recipe.training_arguments()
    settings["prompts"] = _prompts(recipe, inputs, model, settings.get("prompts"))
    settings |= {"output_dir": str(folder.checkpoints), "seed": seed}
    settings |= settings_of(recipe.train, on_cpu=settings["use_cpu"])
    with refusals(recipe.train):
        arguments = SentenceTransformerTrainingArguments(**settings)
    require_trackers(arguments.report_to)
    require_half_precision(recipe.model, arguments)
    use_one_gpu(arguments)
    return arguments


def _prompts(recipe: Recipe, inputs: Inputs, model: SentenceTransformer, of_training: Any) -> Any:
    """Return what is put before the texts of each column; of several sources by their names.

    Args:
        recipe: The recipe.
        inputs: Its inputs.
        model: The encoder, whose prompts count where there are no others.
        of_training: ``train.prompts``, those of training alone.
    """
    found: dict[str, Any] = {}
    for name, source in recipe.data.sources.items():
        shared = of_training if _own_prompts(source) is None else None
        found[name] = shared or prompts_of(source, model).by_column(text_columns(source, inputs.train[name]))
    return found.get("", {name: prompts for name, prompts in found.items() if prompts})


def prompts_of(source: DataSection, model: SentenceTransformer) -> Prompts:
    """Return the prompts of a source's texts: its own, or else the encoder's."""
    own = _own_prompts(source)
    return Prompts.of(model) if own is None else Prompts(own.query, own.document, own.query)


def _own_prompts(source: DataSection) -> PromptsSection | None:
    return source.prompts if isinstance(source, SourceSection) else None


def text_columns(source: DataSection, rows: Dataset | Stream) -> list[str]:
    """Return the columns that are encoded, by their roles, the anchor first."""
    columns = list(source.columns.roles) if isinstance(rows, Stream) else rows.column_names
    return [column for column in columns if not is_group_column(column)]


def _dataset(recipe: Recipe, inputs: Inputs, seed: int) -> Any:
    """Return what the trainer takes: the rows of one source, or those of several by name; streams shuffled."""
    found = {
        name: rows.shuffled(seed, recipe.data.sources[name].shuffle_buffer) if isinstance(rows, Stream) else rows
        for name, rows in inputs.train.items()
    }
    return found.get("", found)


def _require_full_batches(recipe: Recipe, inputs: Inputs, arguments: SentenceTransformerTrainingArguments) -> None:
    """Refuse a source of which no batch would be drawn: it has fewer rows than a full one, and others are left out.

    Raises:
        InputError: With every such source.
    """
    by_processes = not isinstance(recipe.data, DataSection) and arguments.world_size > 1
    if not (arguments.dataloader_drop_last or by_processes):
        return
    batch = arguments.train_batch_size * arguments.world_size
    small = {
        name: len(rows) for name, rows in inputs.train.items() if not isinstance(rows, Stream) and len(rows) < batch
    }
    why = "with several processes" if by_processes else "by train.dataloader_drop_last"
    if small:
        raise InputError(
            [
                f"data.train: {f'{name} has ' if name else ''}{rows:,} rows, fewer than a batch of {batch:,}, and "
                f"{why} an incomplete batch is left out: none would be trained on; "
                "lower train.per_device_train_batch_size"
                for name, rows in small.items()
            ]
        )


def _ends_in_a_lone_row(recipe: Recipe, inputs: Inputs, normalises: bool) -> bool:
    """Whether the last batch that an epoch has of any source would be one row that cannot train."""
    default = SentenceTransformerTrainingArguments.per_device_train_batch_size
    batch = recipe.train.get("per_device_train_batch_size", default)
    return any(
        recipe.data.sources[name].ends_in_a_lone_row(len(rows), batch, normalises)
        for name, rows in inputs.train.items()
        if not isinstance(rows, Stream)
    )
