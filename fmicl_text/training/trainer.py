"""The sentence-transformers trainer, which keeps what the loss owns in checkpoints and stops at NaN and infinity."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import IterableDataset
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformerTrainer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import TrainerCallback
from transformers.trainer_utils import rotate_checkpoints

from fmicl_text.data.stream_batches import StreamBatches, stream_loader
from fmicl_text.errors import RunFailedError
from fmicl_text.losses import ContrastiveLoss, NonFiniteEmbeddings
from fmicl_text.training import checkpoints
from fmicl_text.training.non_finite import NonFiniteError, last_good_checkpoint, texts_of
from fmicl_text.training.numbered_rows import ROWS, numbered

logger = logging.getLogger(__name__)

LOSS_FILE = "loss.safetensors"
QUEUE_FILE = "queue-{}.safetensors"
"""The rows of one process's momentum queue, by the number of the process."""
SUMS_FILE = "sums-{}.safetensors"
"""What one process has added up since the last log, by the number of the process."""
_STATE_FILE = "trainer_state.json"


class _AtTheStart(TrainerCallback):
    """Calls a function when the trainer has set its sums to zero."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Call it."""
        self.function()


class ContrastiveTrainer(SentenceTransformerTrainer):
    """``SentenceTransformerTrainer`` for a :class:`ContrastiveLoss`.

    It saves and restores what the loss owns (head, kernel, alpha, queue), where the parent saves the encoder alone. A
    loss inside a wrapper such as ``MatryoshkaLoss`` is found there.

    A checkpoint appears in its place when it is whole (:mod:`fmicl_text.training.checkpoints`), and only then an older
    one goes. It has the sums that the next log is an average of, and no path, so that a training that was stopped,
    moved and resumed logs the same figures and keeps the same best checkpoint.

    And it stops where NaN or infinity comes up in embeddings, in a term of the loss or in the gradient, before a weight
    is changed by it; the parent replaces such a loss in its log by the average of others, and goes on.

    A stream (``datasets.IterableDataset``) has no end: it begins again, in another order, until ``max_steps``. Rows and
    their order are the same for any number of processes and workers, and a training that resumes goes on with the very
    next row (:mod:`fmicl_text.data.stream_batches`).

    Raises:
        ValueError: On resuming, if the checkpoint's loss has other parts than this one.
        NonFiniteError: At NaN or infinity, naming the step, the rows and the last good checkpoint.
        OSError: If a checkpoint cannot be written; those before it are left as they are.
        RunFailedError: At the end, if the best checkpoint is damaged.
        StreamError: If a stream cannot be read further.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._unfinished: Path | None = None  # where a checkpoint is being written
        self._resumed: Path | None = None  # the checkpoint gone on from
        self._stream: StreamBatches | None = None  # what training reads, if that is a stream
        self._started = self._seconds_before = 0.0
        self._batch_rows: list[Tensor] = []  # of the training step in progress
        self._terms: dict[str, Tensor] = {}  # of the newest loss
        super().__init__(*args, **kwargs)
        self.add_callback(_AtTheStart(self._restore_sums))

    def _contrastive_loss(self) -> ContrastiveLoss | None:
        modules = self.loss.modules() if isinstance(self.loss, nn.Module) else ()
        return next((module for module in modules if isinstance(module, ContrastiveLoss)), None)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        loss = self._contrastive_loss()
        if loss is not None and (state := loss.own_state()):
            # Cloned, since weights that are tied in the encoder are also tied in its moving average.
            state = {key: value.clone(memory_format=torch.contiguous_format) for key, value in state.items()}
            save_file(state, Path(output_dir or self.args.output_dir) / LOSS_FILE)

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._unfinished is None else str(self._unfinished)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save as the parent does, but beside the checkpoint's place, and move it there when it is whole."""
        output, step = Path(self._get_output_dir(trial)), self.state.global_step
        self._unfinished = output / checkpoints.UNFINISHED
        try:
            if self.args.should_save:
                shutil.rmtree(self._unfinished, ignore_errors=True)
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            best = _step_of(self.state.best_model_checkpoint)
            if self.args.should_save:
                written = checkpoints.place(self._unfinished, step)
                self.state.best_model_checkpoint = None  # a path of this machine; the seal has the step
                self.state.save_to_json(str(written / _STATE_FILE))
                checkpoints.seal(written, best)
                checkpoints.settle(written, checkpoints.place(output, step))
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(self._unfinished, ignore_errors=True)
            if isinstance(error, RuntimeError) and not _is_writing(error):
                raise
            raise OSError(f"the checkpoint of step {step} cannot be written to {output}: {error}") from error
        finally:
            self._unfinished = None
        self._point_at_best(output, best)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            limit, best_place = self.args.save_total_limit, self.state.best_model_checkpoint
            rotate_checkpoints(str(output), limit, best_place, use_mtime=False)  # times do not survive being moved

    def _point_at_best(self, folder: Path, step: int | None) -> None:
        self.state.best_model_checkpoint = None if step is None else str(checkpoints.place(folder, step))

    def _init_training_state(
        self, max_steps: int, steps_of_epoch: int, epochs: int, resume_from_checkpoint: str | None, trial: Any
    ) -> Any:
        self._resumed = None if resume_from_checkpoint is None else Path(resume_from_checkpoint)
        done = super()._init_training_state(max_steps, steps_of_epoch, epochs, resume_from_checkpoint, trial)
        if self._resumed is not None:
            self._point_at_best(self._resumed.parent, checkpoints.best_of(self._resumed))
        return done

    def _run_epoch(self, *, epoch: int, train_dataloader: Any, **kwargs: Any) -> None:
        if self.state.global_step < self.state.max_steps:
            if self._stream is not None:  # the parent asks for these batches again, and leaves them out
                self._stream.skipped = kwargs["steps_trained_in_current_epoch"]
            _set_epoch(train_dataloader, epoch)
            super()._run_epoch(epoch=epoch, train_dataloader=train_dataloader, **kwargs)
        else:  # all steps were done when the run was stopped; the parent would do one more
            self.control.should_training_stop = True

    def _load_best_model(self) -> None:
        best = Path(self.state.best_model_checkpoint)
        if wrong := checkpoints.damage(best):  # the parent would log it, and end with the last weights
            raise RunFailedError(f"the best checkpoint, {best}, {wrong}: no model can be made of it")
        super()._load_best_model()

    def _finalize_training(self, trial: Any, num_train_samples: int, start_time: float) -> Any:
        self._initial_global_step = 0  # the averages are of the whole training, and so is the time
        return super()._finalize_training(trial, num_train_samples, start_time - self._seconds_before)

    def _save_sums(self, output_dir: str) -> None:
        sums = {
            "loss": self._tr_loss,
            "all losses": torch.tensor(self._total_loss_scalar, dtype=torch.float64),
            "logged step": torch.tensor(self._globalstep_last_logged),
            "seconds": torch.tensor(time.time() - self._started + self._seconds_before, dtype=torch.float64),
            **{f"term {name}": term for name, term in self.accum_loss_components["train"].items()},
        }
        sums = {name: value.detach().clone() for name, value in sums.items()}
        save_file(sums, Path(output_dir) / SUMS_FILE.format(self.args.process_index))

    def _restore_sums(self) -> None:
        self._started, self._seconds_before = time.time(), 0.0
        self.accum_loss_components["train"] = {}
        file = self._resumed and self._resumed / SUMS_FILE.format(self.args.process_index)
        if file is None or not file.is_file():
            return
        # Not by load_file, which knows no "cpu:0", the device of a process among several on a CPU.
        sums = {name: value.to(self.args.device) for name, value in load_file(file).items()}
        self._tr_loss = sums["loss"]
        self._total_loss_scalar = sums["all losses"].item()
        self._globalstep_last_logged = int(sums["logged step"])
        self._seconds_before = sums["seconds"].item()
        terms = {name.removeprefix("term "): value for name, value in sums.items() if name.startswith("term ")}
        self.accum_loss_components["train"] = terms

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)  # like the random states, sums and rows of a queue differ between processes
        self._save_sums(output_dir)
        loss = self._contrastive_loss()
        if loss is not None and loss.queue is not None:
            save_file(loss.queue.waiting(), Path(output_dir) / QUEUE_FILE.format(self.args.process_index))

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:
        super()._load_from_checkpoint(checkpoint_path)
        loss = self._contrastive_loss()
        if loss is None:
            return
        folder = Path(checkpoint_path)
        file = folder / LOSS_FILE
        loss.load_own_state(load_file(file) if file.is_file() else {})
        if loss.queue is not None:
            file = folder / QUEUE_FILE.format(self.args.process_index)
            if file.is_file():
                loss.queue.load_waiting(load_file(file))
            else:
                logger.warning("%s is missing: the queue of this process begins empty", file)

    def _build_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        return numbered(super()._build_dataloader(*args, **kwargs))

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the training batches as the parent does; that of a stream has no end."""
        if not isinstance(self.train_dataset, IterableDataset):
            return super().get_train_dataloader()
        size, args = self.args.train_batch_size, self.args
        self._stream = StreamBatches(self.train_dataset, size, args.process_index, args.world_size)
        loader = self._build_dataloader(self.train_dataset, size, dataset_kind="train")
        return stream_loader(loader, self._stream, self.accelerator.device)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Compute the loss as the parent does, and stop at NaN or infinity.

        Raises:
            NonFiniteError: If the embeddings or the loss are not finite.
        """
        rows = [inputs.pop(ROWS)] if ROWS in inputs else []  # (B,)
        if model.training:
            self._batch_rows += rows
        try:
            computed = super().compute_loss(model, inputs, *args, **kwargs)
        except NonFiniteEmbeddings as error:
            raise self._stop(str(error), rows, inputs, error.rows) from error
        loss = computed[0] if isinstance(computed, tuple) else computed
        if not loss.isfinite():
            terms = "".join(f", {name} {term.item():g}" for name, term in self._terms.items())
            raise self._stop(f"the loss is {loss.item():g}{terms}", rows, inputs)
        return computed

    def track_loss_components(self, loss: dict[str, Tensor]) -> None:
        """Log the terms of the loss as the parent does, and remember them, should they not be finite."""
        self._terms = {name: term.detach() for name, term in loss.items()}
        super().track_loss_components(loss)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        rows, self._batch_rows = self._batch_rows, []
        loss = self._contrastive_loss()
        own = [p.grad for p in loss.own_parameters() if p.grad is not None] if loss is not None else []
        total = math.hypot(norm, *(gradient.norm() for gradient in own))
        # A float16 gradient overflows now and then: its scaler leaves the step out and goes on with a smaller scale.
        if self.accelerator.scaler is None and not math.isfinite(total):
            raise self._stop(f"the gradient has a norm of {total:g}", rows)
        return norm

    def _stop(
        self,
        reason: str,
        rows: list[Tensor],
        inputs: dict[str, Any] | None = None,
        places: list[int] | None = None,
    ) -> NonFiniteError:
        """Return the error that says why training stops, and where.

        Args:
            reason: What was not finite.
            rows: Row numbers of the batches ``(B,)`` of this step; none for a stream.
            inputs: The batch, whose texts are to be shown.
            places: Which of its rows are to blame; default all, which are shown where they have no number.
        """
        numbers = [int(number) for batch in rows for number in batch]
        if not self.model.training:
            reason = f"in evaluation, {reason}"
        texts = texts_of(self.collect_features(inputs)[0], self.model.tokenizer) if inputs is not None else []
        if places is None:
            places = [] if numbers else list(range(len(texts)))
        names = [f"row {numbers[place]}" if numbers else f"text {place + 1} of the batch" for place in places]
        shown = {name: texts[place] if texts else [] for name, place in zip(names, places, strict=True)}
        good = last_good_checkpoint(Path(self.args.output_dir))
        return NonFiniteError(reason, self.state.global_step + 1, numbers, shown, good)


def _step_of(checkpoint: str | None) -> int | None:
    return None if checkpoint is None else int(Path(checkpoint).name.removeprefix(checkpoints.PREFIX))


def _set_epoch(loader: Any, epoch: int) -> None:
    """Tell every sampler of a loader the epoch, which decides the order of its rows.

    Of several processes that resume, accelerate would leave the innermost in the order of the first epoch.
    """
    sampler = loader.batch_sampler
    while sampler is not None:
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        sampler = getattr(sampler, "batch_sampler", getattr(sampler, "sampler", None))


def _is_writing(error: RuntimeError) -> bool:
    """Tell what ``torch.save`` raises on a full disk from other errors."""
    return "PytorchStreamWriter" in str(error) or "iostream error" in str(error)
