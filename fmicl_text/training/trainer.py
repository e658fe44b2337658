"""The sentence-transformers trainer with complete checkpoints, exact resuming, and a stop at NaN and infinity.

It overrides and calls what the libraries document, but for the one method of :mod:`fmicl_text.training.library`.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict, IterableDataset
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformerTrainer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import TrainOutput

from fmicl_text.core.conditions import read_together
from fmicl_text.encoders.images import EXTRA
from fmicl_text.encoders.lora import has_adapter, load_adapter
from fmicl_text.encoders.views import AugmentedViews
from fmicl_text.errors import RunFailedError
from fmicl_text.files import cannot_write
from fmicl_text.losses import ContrastiveLoss
from fmicl_text.losses.columns import SOURCE, is_group_column
from fmicl_text.training import checkpoints
from fmicl_text.training.cheap_dropout import CheapDropout, may_be_cheap
from fmicl_text.training.finite_checks import FiniteChecks
from fmicl_text.training.first_steps import FirstSteps
from fmicl_text.training.library import load_weights
from fmicl_text.training.loaders import Loaders, set_epoch
from fmicl_text.training.log_sums import LogSums
from fmicl_text.training.loss_state import contrastive_losses, load_losses, of_last_batch, save_losses, save_queues
from fmicl_text.training.numbered_rows import ROWS
from fmicl_text.training.optimizer_state import foreign_state

SUMS_FILE = "sums-{}.safetensors"
"""What one process has added up since the last log, by the number of the process."""
_STATE_FILE = "trainer_state.json"
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
_RANDOM_STATES = "rng_state*.pth"
"""What the library adds to every checkpoint, unless it is to have the model alone."""


def _without_groups(rows: Any) -> Any:
    """Return a data set, or several by name, without the columns that have groups."""
    if isinstance(rows, dict):
        return type(rows)({name: _without_groups(part) for name, part in rows.items()})
    groups = [name for name in getattr(rows, "column_names", None) or () if is_group_column(name)]
    return rows.remove_columns(groups) if groups else rows


class ContrastiveTrainer(SentenceTransformerTrainer):
    """``SentenceTransformerTrainer`` for one or several :class:`ContrastiveLoss`.

    It saves and restores what the losses own (head, kernel, alpha, queue), where the parent saves the encoder alone.
    Losses inside a wrapper such as ``MatryoshkaLoss``, or in a dictionary by data set, are found there.

    A checkpoint counts once it is sealed (:mod:`fmicl_text.training.checkpoints`), and only then an older one is
    deleted. It has the sums that the next log averages, and no path, so that a training that was stopped, moved and
    resumed logs the same figures and keeps the same best checkpoint. ``resume_from_checkpoint=True`` resumes from the
    newest sealed one.

    Training stops at NaN or infinity in embeddings, in a term of a loss or in the gradient, before it changes a weight.
    The parent would log the average of other losses instead, and carry on.

    A stream (``datasets.IterableDataset``) has no end: it begins again, in another order, until ``max_steps``. Rows and
    their order are the same for any number of processes and workers, and a resumed training continues with the very
    next row (:mod:`fmicl_text.data.stream_batches`).

    Of several data sets, a batch is of one, on all processes together, so that only rows of one are compared; they are
    drawn as ``multi_dataset_batch_sampler`` says. In several processes, the last rows of each data set that do not make
    a full batch are left out of an epoch. What a loss logs has the name of the data set before it, as in
    ``questions/positive``.

    One-dimensional parameters, which are biases and the scales of normalisations, have no weight decay.

    Args:
        args: As the parent has them.
        views: Makes two views of each image of a batch; the data then has one column, of pixels.
        lars: Train by LARS, with the arguments of ``optim="sgd"``; one-dimensional parameters by plain SGD.
        weights: Name of each of several data sets -> its share of the batches, relative to the others; default: they
            are drawn as ``multi_dataset_batch_sampler`` says, and streams, which have no size, in turn.
        callbacks: As the parent has them.
        kwargs: As the parent has them.

    Raises:
        ValueError: On resuming, if there is no checkpoint, if it has the model alone, or its losses other parts.
        NonFiniteError: At NaN or infinity, naming the step, the rows and the last good checkpoint.
        OSError: If a checkpoint cannot be written; those before it are left as they are.
        RunFailedError: If the checkpoint to resume from cannot be loaded, or its optimizer trained other parameters; at
            the end, if the best one is damaged.
        StreamError: If a stream cannot be read further.
    """

    train_dataset: Any
    eval_dataset: Any

    def __init__(
        self,
        *args: Any,
        views: AugmentedViews | None = None,
        lars: bool = False,
        weights: Mapping[str, float] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        **kwargs: Any,
    ) -> None:
        self.views, self._lars, self._loaders = views, lars, Loaders(self, weights)
        self._micro_batches = 0  # of the training step in progress
        self._waited = self._evaluated = self._trained = 0.0  # seconds for data, in evaluations, and in all
        self._resumed: Path | None = None  # the checkpoint resumed from
        self._steps_done = 0  # of that checkpoint
        self._best: tuple[int | None, float | None] = (None, None)  # step of the best checkpoint, and its score
        self._written: Path | None = None  # the checkpoint that is being written
        self._limit: int | None = None  # of the number of checkpoints
        self._epoch = 0
        self._sums = LogSums()
        self._first_steps: dict[str | None, FirstSteps] = {}
        self._source: str | None = None  # the data set of the batch in progress, if there are several
        self._finite = FiniteChecks(self)
        self._terms: dict[str, Tensor] = {}  # of the newest loss
        super().__init__(*args, callbacks=[_Events(self), *(callbacks or [])], **kwargs)
        self.args.logging_nan_inf_filter = False  # it would ask the device at each step, and training stops at NaN

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Have the card describe what the encoder reads, as the parent does: it could not read a group of None."""
        whole = self.train_dataset, self.eval_dataset
        self.train_dataset, self.eval_dataset = map(_without_groups, whole)
        try:
            super().add_model_card_callback(default_args_dict)
        finally:
            self.train_dataset, self.eval_dataset = whole

    # Resuming -------------------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train as the parent does, from a checkpoint if one is given, or from the newest sealed one if ``True``."""
        self._resumed = self._checkpoint_to_resume(resume_from_checkpoint)
        self._steps_done, self._best, self._written = 0, (None, None), None
        self._first_steps = {}
        if self._resumed is not None:
            state = TrainerState.load_from_json(str(self._resumed / _STATE_FILE))
            self._steps_done = state.global_step
            self._best = checkpoints.best_of(self._resumed), state.best_metric
        # The parent would count checkpoints before they are sealed.
        self._limit, self.args.save_total_limit = self.args.save_total_limit, None
        begun = time.perf_counter()
        try:
            output = super().train(None if self._resumed is None else str(self._resumed), *args, **kwargs)
        except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError) as error:
            explained = self._explained(error)
            if explained is error:  # which has a cause of its own
                raise
            raise explained from error
        finally:
            self.args.save_total_limit = self._limit
            self._trained = time.perf_counter() - begun
        return TrainOutput(output.global_step, output.metrics["train_loss"], output.metrics)

    def _checkpoint_to_resume(self, asked: str | bool | None) -> Path | None:
        if asked is None or asked is False:
            return None
        checkpoint = checkpoints.newest_sealed(Path(self.args.output_dir)) if asked is True else Path(asked)
        if checkpoint is None:
            raise ValueError(f"there is no sealed checkpoint to resume from in {self.args.output_dir}")
        if checkpoint.is_dir() and not any(checkpoint.glob(_RANDOM_STATES)):
            raise ValueError(
                f"{checkpoint} has the model alone, as save_only_model asked: the training cannot be resumed from it"
            )
        return checkpoint

    def _explained(self, error: Exception) -> Exception:
        """Return the error to raise instead, which says what could not be written or read; the same if it says it."""
        if isinstance(error, pickle.UnpicklingError | EOFError):
            return self._unreadable(error)
        written, self._written = self._written, None
        if written is not None and (not isinstance(error, RuntimeError) or _is_writing(error)):
            if self.args.should_save:
                checkpoints.delete(written)  # makes room
            return cannot_write(f"the checkpoint of step {checkpoints.step_of(written)}", written.parent, error)
        if isinstance(error, SafetensorError) or "PytorchStreamReader" in str(error):
            return self._unreadable(error)
        return error

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        """Put the weights of a checkpoint into the encoder, as the parent does, but never read an adapter's base again.

        The base is in memory, and where a checkpoint says that it lies may be another machine's path.
        """
        if has_adapter(self.model):
            load_adapter(self.model, Path(checkpoint_path))
        else:
            super()._load_from_checkpoint(checkpoint_path)

    def _unreadable(self, error: Exception) -> Exception:
        if self._resumed is None:
            return error
        why = " ".join(str(error).split(". ")[0].split())
        return RunFailedError(f"the checkpoint {self._resumed} cannot be loaded: {why}")

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Return the names of the parameters that decay: those of the parent with two dimensions or more."""
        matrices = {name for name, parameter in model.named_parameters() if parameter.ndim > 1}
        return [name for name in super().get_decay_parameter_names(model) if name in matrices]

    def get_optimizer_cls_and_kwargs(self, args: Any, model: Any = None) -> tuple[Any, Any]:
        """Return class and settings of the optimizer as the parent does; for LARS those of SGD, with its class.

        Raises:
            ImportError: If LARS is asked for, and its package is not installed.
        """
        optimizer, settings = super().get_optimizer_cls_and_kwargs(args, model)
        if not self._lars:
            return optimizer, settings
        try:
            from pytorch_optimizer import LARS
        except ImportError:
            raise ImportError(f"optim: lars needs pytorch_optimizer: {EXTRA}") from None
        return LARS, settings

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Make the optimizer as the parent does, over losses that are restored by then."""
        if self._resumed is not None:
            load_losses(contrastive_losses(self.loss), self._resumed, self.args.process_index)
        return super().create_optimizer(*args, **kwargs)

    def check_optimizer(self) -> None:
        """Refuse the optimizer of a checkpoint whose parameters had another order, as in version 0.1.0 with a head.

        Raises:
            RunFailedError: If its state does not fit.
        """
        if self._resumed is not None and (wrong := foreign_state(self.optimizer)):
            raise RunFailedError(
                f"the checkpoint {self._resumed} cannot be resumed: the state of its optimizer is of other parameters, "
                f"or in another order ({wrong}). Finish the run with the version that began it, or start it anew"
            )

    def restore_sums(self) -> None:
        """Begin the sums of the log at zero, or at those of the checkpoint."""
        self._epoch = int(self.state.epoch or 0)
        file = self._resumed and self._resumed / SUMS_FILE.format(self.args.process_index)
        step = self.state.global_step
        self._sums = LogSums.load(file, self.args.device) if file and file.is_file() else LogSums(step)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        """Return the batches of a step as the parent does; none if all steps were done when the run was stopped."""
        if self.state.global_step >= self.state.max_steps:
            return [], None
        begun = time.perf_counter()
        samples = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._waited += time.perf_counter() - begun
        return samples

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate as the parent does."""
        begun = time.perf_counter()
        metrics = super().evaluate(*args, **kwargs)
        self._evaluated += time.perf_counter() - begun
        return metrics

    def shares_of_time(self) -> dict[str, float]:
        """Return the shares of the training's time that went to waiting for data, and to evaluations."""
        trained = self._trained or 1.0
        return {"waited_for_data": self._waited / trained, "evaluated": self._evaluated / trained}

    def was_finished(self) -> bool:
        """Return whether all steps were done when the run was resumed."""
        return self._resumed is not None and self._steps_done >= self.state.max_steps

    # Checkpoints ----------------------------------------------------------------------------------------------------

    def save_model(self, output_dir: str | None = None, *args: Any, **kwargs: Any) -> None:
        """Save the encoder as the parent does, and beside it what the losses own."""
        folder = Path(output_dir or self.args.output_dir)
        if self.is_in_train and folder == checkpoints.place(Path(self.args.output_dir), self.state.global_step):
            self._written = folder
            if self.args.should_save and folder.exists():
                checkpoints.delete(folder)
            self.accelerator.wait_for_everyone()
        super().save_model(output_dir, *args, **kwargs)
        if self.args.should_save:
            save_losses(contrastive_losses(self.loss), folder)

    def complete_checkpoint(self) -> None:
        """Add to the checkpoint what the parent does not know of, seal it, and only then delete older ones."""
        folder, process = Path(self.args.output_dir), self.args.process_index
        checkpoint = checkpoints.place(folder, self.state.global_step)
        self._sums.save(checkpoint / SUMS_FILE.format(process))
        save_queues(contrastive_losses(self.loss), checkpoint, process)
        best = self._best_step(folder)
        self._best = best, self.state.best_metric
        self.state.best_model_checkpoint = None  # a path of this machine; the seal has the step
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.state.save_to_json(str(checkpoint / _STATE_FILE))
            checkpoints.seal(checkpoint, best)
        self.delete_spare_checkpoints()
        self._written = None
        self.accelerator.wait_for_everyone()

    def delete_spare_checkpoints(self) -> None:
        """Delete the oldest checkpoints above the limit, when one is sealed and when training is over.

        A run that was stopped between the two, after its last step, writes no further checkpoint.
        """
        if self.args.should_save:
            checkpoints.rotate(Path(self.args.output_dir), self._limit, self._best[0])

    def _best_step(self, folder: Path) -> int | None:
        """Return the step of the best checkpoint; the best score may be of a step that was not saved."""
        step, score = self._best
        newest = self.state.best_global_step
        if newest is None and self.state.best_metric != score:  # transformers 5.0 with save_strategy="best"
            newest = self.state.global_step
        return newest if newest and checkpoints.place(folder, newest).is_dir() else step

    def load_best(self) -> None:
        """Put the weights of the best checkpoint into the encoder, if that is asked for and there is one."""
        folder, (best, _) = Path(self.args.output_dir), self._best
        if best is None:
            return
        checkpoint = checkpoints.place(folder, best)
        self.state.best_model_checkpoint = str(checkpoint)
        if self.args.load_best_model_at_end:
            if wrong := checkpoints.damage(checkpoint):
                raise RunFailedError(f"the best checkpoint, {checkpoint}, {wrong}: no model can be made of it")
            load_weights(self, checkpoint)
            self.model.model_card_data.set_best_model_step(best)
        if self.args.should_save and self._limit == 1:  # as the parent: if only one may stay, it is the best
            for other in checkpoints.in_order(folder):
                if other != checkpoint:
                    checkpoints.delete(other)

    # Batches --------------------------------------------------------------------------------------------------------

    def preprocess_dataset(self, dataset: Any = None, dataset_name: str | None = None) -> Any:
        """Check columns as the parent does, and leave the rows as they are: the loader names their data set."""
        if dataset_name != "train" or not isinstance(dataset, DatasetDict):
            return super().preprocess_dataset(dataset, dataset_name)
        self.validate_column_names(dataset, dataset_name)
        return dataset

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the batches of training, with the numbers of their rows; those of a stream last for all steps."""
        if not isinstance(self.train_dataset, Dataset | DatasetDict | IterableDataset):
            return super().get_train_dataloader()
        return self._loaders.of_training(self.train_dataset, self._steps_done)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Return the batches of an evaluation, with the numbers of their rows."""
        chosen = self.eval_dataset if eval_dataset is None else eval_dataset
        chosen = self.eval_dataset[chosen] if isinstance(chosen, str) else chosen
        if not isinstance(chosen, Dataset):
            return super().get_eval_dataloader(eval_dataset)
        return self._loaders.of_evaluation(chosen)

    def begin_epoch(self, loader: DataLoader[Any]) -> None:
        """Tell the samplers of the loader which epoch begins."""
        set_epoch(loader, self._epoch)
        self._epoch += 1

    # Loss, gradient and log -----------------------------------------------------------------------------------------

    @read_together()  # what the host asks the device in a step, it asks once
    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Make the forward and backward pass as the parent does, and stop at NaN or infinity in a step's gradient.

        Raises:
            NonFiniteError: If embeddings, loss or gradient are not finite.
        """
        on_cpu = self.args.device.type == "cpu" and not self.args.torch_compile
        with CheapDropout() if on_cpu and may_be_cheap(self.model, self.loss) else nullcontext():
            loss = super().training_step(model, inputs, *args, **kwargs)
        self._sums.add_loss(loss)
        self._micro_batches += 1
        if self.accelerator.sync_gradients:  # all micro-batches of the step are in; no optimizer has stepped yet
            self._micro_batches = 0
            self._finite.of_gradient(self._source)
        return loss

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Compute the loss as the parent does, and stop at NaN or infinity.

        Raises:
            NonFiniteError: If the embeddings or the loss are not finite.
        """
        rows = [inputs.pop(ROWS)] if ROWS in inputs else []  # (B,)
        step, self._source = self.state.global_step, inputs.get(SOURCE)
        if self.views is not None:
            inputs = self.views(inputs, self.args.seed, step, self._micro_batches, self.args.process_index)
        for loss in contrastive_losses(self.loss).values():
            loss.progress = min(step / self.state.max_steps, 1.0) if self.state.max_steps > 0 else None
            if loss.queue is not None and (autocast := _AUTOCAST.get(self.accelerator.mixed_precision)):
                loss.queue.precision = autocast  # accelerate's is that of the encoder that trains alone
        with self._finite.of_batch(rows, inputs, self._source) as check:
            computed = super().compute_loss(model, inputs, *args, **kwargs)
            check({"loss is": (computed[0] if isinstance(computed, tuple) else computed).detach(), **self._terms})
        return computed

    def track_loss_components(self, loss: dict[str, Tensor]) -> None:
        """Add the terms of a loss to the sums of the log, in training, with what it took from the batch.

        Those of an evaluation are the parent's.
        """
        self._terms = {name: term.detach() for name, term in loss.items()}
        if self.model.training:
            source = self._source
            figures = loss | of_last_batch(self.loss[source] if isinstance(self.loss, dict) else self.loss)
            self._sums.add_terms({name if source is None else f"{source}/{name}": v for name, v in figures.items()})
            if self._resumed is None:
                self._first_steps.setdefault(source, FirstSteps(source)).see(figures)
        else:
            super().track_loss_components(loss)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log as the parent does, with averages that do not depend on whether the training was resumed."""
        if "loss" in logs:
            logs = logs | self._sums.take(self.state.global_step)
            if isinstance(self.loss, ContrastiveLoss) and self.loss.objective.is_bound:
                logs["information_bound"] = -logs["loss"]
        elif "train_loss" in logs:  # in place: the trainer returns this dictionary
            logs["train_loss"] = self._sums.final_average(self.state.global_step)
            logs["train_runtime"] = round(self._sums.elapsed(), 4)
        super().log(logs, *args, **kwargs)


class _Events(TrainerCallback):
    """Calls the trainer at events of the library."""

    def __init__(self, trainer: ContrastiveTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Check and restore what the parent does not, now that it has its state."""
        self._trainer.check_optimizer()
        self._trainer.restore_sums()

    def on_epoch_begin(self, *args: Any, train_dataloader: DataLoader[Any], **kwargs: Any) -> None:
        """Set the epoch of the samplers."""
        self._trainer.begin_epoch(train_dataloader)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Log, evaluate and save nothing again if all steps were done before the run was resumed."""
        if self._trainer.was_finished():
            control.should_log = control.should_evaluate = control.should_save = False
        return control

    def on_save(self, *args: Any, **kwargs: Any) -> None:
        """Complete and seal the checkpoint that the parent wrote."""
        self._trainer.complete_checkpoint()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Delete checkpoints above the limit, and load the best one."""
        self._trainer.delete_spare_checkpoints()
        self._trainer.load_best()


def _is_writing(error: RuntimeError) -> bool:
    """Tell what ``torch.save`` raises on a full disk from other errors."""
    return any(sign in str(error) for sign in ("PytorchStreamWriter", "iostream error", "inline_container"))
