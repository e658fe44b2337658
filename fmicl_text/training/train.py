"""From a recipe to a run folder: train for each seed, keep the best checkpoint, measure before and after."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback

from fmicl_text import hub
from fmicl_text.data.stream_batches import StreamError
from fmicl_text.data.streams import Stream
from fmicl_text.encoders.images import reads_images
from fmicl_text.encoders.lora import merge_adapter
from fmicl_text.encoders.text import load_encoder
from fmicl_text.errors import InputError, RunFailedError, RunInterrupted
from fmicl_text.evaluation.section import AUTO
from fmicl_text.files import cannot_write, sync, write_json
from fmicl_text.recipe.accelerate import refuse_sharding
from fmicl_text.recipe.file import load_recipe
from fmicl_text.recipe.schema import PublishSection, Recipe
from fmicl_text.runs.folder import RunFolder, check_run, open_run
from fmicl_text.runs.plots import plot_training
from fmicl_text.training.build import build_trainer, check_build, check_rows
from fmicl_text.training.callbacks import SaveAfterEpoch
from fmicl_text.training.checkpoints import differences, fingerprints, newest_sealed, newest_whole, step_of
from fmicl_text.training.criterion import Criterion
from fmicl_text.training.exports import make_exports
from fmicl_text.training.inputs import Inputs, LoadEncoder, load_inputs
from fmicl_text.training.interruption import Interruption
from fmicl_text.training.loss_state import measured
from fmicl_text.training.measure import measure_after, measure_before
from fmicl_text.training.memory import keep_memory
from fmicl_text.training.precision import precision
from fmicl_text.training.processes import in_first_process, lost_contact, processes
from fmicl_text.training.provenance import changes, pinned, provenance
from fmicl_text.training.results import TrainResult
from fmicl_text.training.trainer import ContrastiveTrainer
from fmicl_text.training.view_picture import draw_views

logger = logging.getLogger(__name__)

_ANEW = "starts from the beginning, as there is no complete checkpoint"


def train(
    recipe: Recipe,
    output: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    repeats: Path | None = None,
) -> TrainResult:
    """Run a recipe.

    Completed parts of a run are not repeated. On one CPU process, with the same versions and number of threads, a run
    that was stopped by whatever means and resumed ends with the weights and the ``metrics.jsonl`` of one that was not,
    bit for bit.

    Args:
        recipe: What to run; from :func:`fmicl_text.recipe.file.load_recipe`.
        output: The run folder; default ``runs/NAME``.
        resume: Continue the run in the folder, from its newest complete checkpoint.
        overwrite: Delete the run in the folder first.
        repeats: The folder of an earlier run of this recipe; a warning says if its data or base model was different.

    Returns:
        The run's results; the folder has the models, the results and the metrics.

    Raises:
        InputError: If the model, the data or the evaluation's data cannot be loaded, or the folder is in use; during
            training, if a stream has a row that is not text or cannot be read.
        RunFailedError: If the recipe says to publish and the Hub cannot be reached; before training, or at the end,
            when all else is done and ``resume`` tries again. If the disk is full.
        RunInterrupted: On SIGINT or SIGTERM, in training after a checkpoint is written.
    """
    refuse_sharding()
    folder = output or Path("runs") / recipe.name
    if resume and RunFolder(folder).recipe.is_file():
        begun = load_recipe(RunFolder(folder).recipe)
        recipe = recipe.pinned_as(begun)
        if recipe.evaluate.during == AUTO:  # which was not a default when older runs began
            recipe = recipe.choosing_by(begun.evaluate.during)
    in_first_process(lambda: check_run(folder, recipe, resume, overwrite))  # before much is loaded
    first = RunFolder(folder / f"seed-{recipe.seeds[0]}" if len(recipe.seeds) > 1 else folder)
    trained = resume and first.is_done()
    return train_on(
        prepare(recipe, trained=trained), recipe, folder, resume=resume, overwrite=overwrite, repeats=repeats
    )


@dataclass(frozen=True)
class Prepared:
    """What recipes have in common that differ in loss and training arguments alone, loaded and checked.

    Attributes:
        inputs: What they read.
        origin: Of the data and the base model, for the manifest.
    """

    inputs: Inputs
    origin: dict[str, Any]


def prepare(recipe: Recipe, load_encoder: LoadEncoder = load_encoder, trained: bool = False) -> Prepared:
    """Load and check all that a recipe needs, and warn of data that will not train well; nothing is written.

    Args:
        recipe: The recipe.
        load_encoder: What loads the encoder, here and for each training.
        trained: Whether what is published has been trained already: the repository may hold it.

    Raises:
        InputError: As :func:`train`.
        RunFailedError: If the recipe says to publish and the Hub cannot be reached.
    """
    if not torch.cuda.is_available():
        keep_memory()
    inputs = load_inputs(recipe, load_encoder=load_encoder)
    trainer = check_build(recipe, inputs)
    for warning in check_rows(recipe, inputs, trainer.model, trainer.args):
        logger.warning("%s", warning)
    del trainer  # each seed builds its own
    if recipe.publish.repo is not None:
        if trained:
            hub.check_access(recipe.publish.repo)
        else:
            hub.check_target(recipe.publish)
    return Prepared(inputs, provenance(recipe, inputs))


def train_on(
    prepared: Prepared,
    recipe: Recipe,
    folder: Path,
    resume: bool = False,
    overwrite: bool = False,
    repeats: Path | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> TrainResult:
    """Run a recipe whose inputs are loaded already, as :func:`train` does; ``callbacks`` are for each seed's trainer.

    Args:
        prepared: From :func:`prepare`, of this recipe or one that differs in ``loss`` and ``train`` alone.
        recipe: See :func:`train`, as the other arguments and what is raised.
        folder: The run folder.
        resume: See there.
        overwrite: See there.
        repeats: See there.
        callbacks: Called by the trainer before the run's own callbacks.
    """
    inputs, recipe = prepared.inputs, pinned(recipe, prepared.origin)
    with ExitStack() as stack:
        in_first_process(lambda: stack.enter_context(open_run(folder, recipe, resume, overwrite)))
        interruption = stack.enter_context(Interruption(folder))
        try:
            result = _run(recipe, prepared, folder, folder if resume else repeats, (*callbacks, interruption))
        except OSError as error:
            raise RunFailedError(f"{error}; to continue once that is fixed: {_resume_command(folder)}") from error
        except RuntimeError as error:
            if not processes().use_distributed or not lost_contact(error):
                raise
            # Whatever started the processes says which one failed, and why: one message is enough.
            raise SystemExit(1) from error
        except StreamError as error:
            # A loader that waits in the traceback's frames for the garbage collector, after its queues, would wait
            # 5 s for each of its workers; let go of now, it ends them at once.
            traceback.clear_frames(error.__traceback__)
            raise InputError(
                [*_found(inputs, error), f"to continue once that is fixed: {_resume_command(folder)}"]
            ) from error
    return _publish(recipe.publish, result)


def _run(
    recipe: Recipe,
    prepared: Prepared,
    folder: Path,
    earlier: Path | None,
    callbacks: Sequence[TrainerCallback],
) -> TrainResult:
    """Do everything of a run that is not done yet."""
    inputs, origin = prepared.inputs, prepared.origin
    several = len(recipe.seeds) > 1
    folders = {seed: folder / f"seed-{seed}" if several else folder for seed in recipe.seeds}
    if earlier is not None and processes().is_main_process:
        _say_changes(earlier, origin)
    before = measure_before(recipe, inputs, RunFolder(folder)) if recipe.evaluate.before else {}
    results = []
    for seed, place in folders.items():
        if is_finished(RunFolder(place)):
            if processes().is_main_process:
                logger.warning("%s is finished: nothing is trained", place)
        else:
            if processes().is_main_process:
                logger.info("training with seed %d in %s", seed, place)
            _fit(recipe, prepared, seed, RunFolder(place), callbacks)
        results.append(measure_after(recipe, inputs, seed, RunFolder(place)))
    result = TrainResult(folder, before, results, of_images=recipe.trains_on_images)
    if several:
        in_first_process(lambda: write_json(folder / "summary.json", result.summary()))
    return result


def _say_changes(earlier: Path, origin: dict[str, Any]) -> None:
    """Warn of data or a base model that are not what they were in an earlier run, or an earlier part of this one."""
    runs = [run for run in map(RunFolder, (earlier, *earlier.glob("seed-*"))) if run.manifest.is_file()]
    found = [change for run in runs for change in changes(run.read_manifest()[0], origin)]
    for change in dict.fromkeys(found):
        logger.warning("%s: %s", earlier, change)


def _found(inputs: Inputs, error: StreamError) -> list[str]:
    """Return what is wrong with a stream: its first bad rows, for which it is read again in the order of its files."""
    why = str(error).rpartition("StreamError: ")[2].strip()  # a worker that loads data puts its traceback before
    streams = [source for source in inputs.train.values() if isinstance(source, Stream)]
    names = ", ".join(stream.source for stream in streams)
    logger.warning("%s: %s; looking for it in the order of the files", names, why)
    try:
        for stream in streams:
            stream.check()
    except InputError as problem:
        return problem.problems
    return [f"{names}: {why}"]


def is_finished(folder: RunFolder) -> bool:
    """Return whether the encoder of a run is there and undamaged; one that is damaged is made again."""
    if not folder.is_done():
        return False
    files = folder.read_manifest()[1].model_files
    wrong = differences(folder.model, files) if files is not None else None
    if wrong is None and folder.model.is_dir():
        return True
    if processes().is_main_process:
        logger.warning("%s %s; it is restored from the newest checkpoint", folder.model, wrong or "is missing")
    processes().wait_for_everyone()
    return False


def _resume_command(folder: Path) -> str:
    return f"fmicl train --resume {shlex.quote(str(folder))}"


def _publish(section: PublishSection, result: TrainResult) -> TrainResult:
    """Publish the run if its recipe says so, once for all processes; a run published already stays as it is."""
    if section.repo is None or not processes().is_main_process:
        return result
    try:
        make_exports(result.folder, section.exports)
        published = hub.publish(result.folder, section.repo, private=section.private, exports=bool(section.exports))
    except (InputError, RunFailedError) as error:
        private = " --private" if section.private else ""
        by_itself = f"fmicl publish {shlex.quote(str(result.folder))} {section.repo}{private}"
        again = _resume_command(result.folder) if section.exports else by_itself
        raise RunFailedError(f"{error}\nthe run itself is complete; to publish it: {again}") from error
    return replace(result, published=published)


def _fit(
    recipe: Recipe,
    prepared: Prepared,
    seed: int,
    folder: RunFolder,
    callbacks: Sequence[TrainerCallback],
) -> None:
    """Train one seed, from its newest complete checkpoint if it has any, and save the finished encoder."""
    again = folder.manifest.is_file() or folder.checkpoints.is_dir()
    if again:
        in_first_process(lambda: newest_whole(folder.checkpoints))  # clears away those that cannot be resumed from
    checkpoint = newest_sealed(folder.checkpoints)
    trainer = build_trainer(recipe, prepared.inputs, seed, folder)
    for callback in (*callbacks, SaveAfterEpoch()):  # the callback that must come last
        trainer.add_callback(callback)
    first = trainer.is_world_process_zero()
    if first:
        if again:
            logger.warning("%s: %s", folder.path, f"continues from {checkpoint.name}" if checkpoint else _ANEW)
        folder.write_manifest(
            "running",
            seed=seed,
            device=str(trainer.args.device),
            threads=torch.get_num_threads(),
            precision=precision(trainer.args, recipe.model.dtype),
            criterion=trainer.args.metric_for_best_model,
            **prepared.origin,
        )
        if trainer.views is not None:
            draw_views(trainer, folder.views)
    try:
        output = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        if first:
            if recipe.model.lora is not None and recipe.model.lora.merge:
                merge_adapter(trainer.model)
            files = _save(trainer.model, folder)
            shares = trainer.shares_of_time()
            logger.info(
                "%.1f%% of the time went to waiting for data, %.1f%% to evaluation",
                100 * shares["waited_for_data"],
                100 * shares["evaluated"],
            )
            criterion = trainer.args.metric_for_best_model
            plot_training(trainer.state.log_history, folder.picture, recipe.name, criterion)
            seconds = round(output.metrics["train_runtime"], 1)
            folder.write_manifest(
                "done",
                steps=trainer.state.global_step,
                weights_step=_weights_step(trainer),
                seconds=seconds,
                **{name: round(share, 4) for name, share in shares.items()},
                best=_best(trainer, prepared.inputs.during),
                measured=measured(trainer.loss),
                model_files=files,
            )
    except BaseException as error:
        if first:
            with suppress(OSError):  # the disk may be full, and the error says more
                state = "interrupted" if isinstance(error, RunInterrupted) else "failed"
                folder.write_manifest(state, steps=trainer.state.global_step)
        raise


def _best(trainer: ContrastiveTrainer, during: Criterion | None) -> dict[str, Any] | None:
    """Return the step of the best checkpoint and its score, as in ``stsb-dev spearman``."""
    if trainer.state.best_metric is None or during is None:
        return None
    name = f"{during.name} {during.metric.name.lower()}"
    return {"step": trainer.state.best_global_step, name: during.shown(trainer.state.best_metric)}


def _weights_step(trainer: ContrastiveTrainer) -> int | None:
    """Return the step whose weights the trainer has now: that of the best checkpoint, if it was loaded at the end."""
    loaded = trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is not None
    return step_of(Path(trainer.state.best_model_checkpoint)) if loaded else trainer.state.global_step


def _save(model: SentenceTransformer, folder: RunFolder) -> dict[str, Any]:
    """Write the encoder to a temporary folder, move it to its place, and return the fingerprints of its files."""
    unfinished = folder.unfinished_model
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        # The library's card of an encoder of images shows texts, and images of the training data beside it.
        model.save_pretrained(str(unfinished), create_model_card=not reads_images(model))
        files = fingerprints(unfinished)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)  # makes room
        raise cannot_write("the model", folder.model, error) from error
    if folder.model.is_symlink():
        folder.model.unlink()
    shutil.rmtree(folder.model, ignore_errors=True)
    os.replace(unfinished, folder.model)
    sync(folder.path)
    return files
