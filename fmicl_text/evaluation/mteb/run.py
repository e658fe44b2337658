"""Have mteb run tasks and benchmarks, its own and a user's, and keep the results.

Results are in mteb's own cache (``MTEB_CACHE``, by default ``~/.cache/mteb``) in its own format, one file per task, so
that an evaluation that was stopped continues where it was. The same weights are not scored on the same data again; to
do so, point ``MTEB_CACHE`` elsewhere. Intervals come from what each item scored, which is kept beside the results; a
result that mteb itself put there has no interval, and the output says so.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import mteb
import numpy as np
from mteb.abstasks import AbsTask
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.models import ModelMeta, SentenceTransformerEncoderWrapper
from mteb.results import TaskResult
from mteb.types import PromptType

from fmicl_text.encoders.tokens import longest_text
from fmicl_text.evaluation.items import Measured, Parts
from fmicl_text.evaluation.kind import Effort, NoScoreError
from fmicl_text.evaluation.mteb.cache import Kept
from fmicl_text.evaluation.mteb.items import NoItemsError, require_items
from fmicl_text.evaluation.mteb.model import IN_TRAINING, wrapped
from fmicl_text.evaluation.mteb.result import MtebResult
from fmicl_text.evaluation.mteb.selection import Selection
from fmicl_text.evaluation.scored_model import ScoredModel


def measure_selection(scored: ScoredModel, effort: Effort, selection: Selection) -> Measured:
    """Have mteb score an encoder; see :func:`evaluate`.

    Raises:
        NoScoreError: No task has a result.
    """
    result = evaluate(
        wrapped(scored), selection, effort.batch_size, effort.show_progress, scored.name, effort.intervals
    )
    if not result.results:
        raise NoScoreError([f"{selection.name}: {task} is missing: {why}" for task, why in result.missing.items()])
    return result.measured()


def evaluate(
    model: SentenceTransformerEncoderWrapper,
    selection: Selection,
    batch_size: int = 128,
    show_progress: bool = False,
    name: str | None = None,
    intervals: bool = True,
) -> MtebResult:
    """Have mteb score a model; a task whose data is missing, or that fails, is reported, and the others are still run.

    Args:
        model: What :func:`fmicl_text.evaluation.mteb.model.wrapped` returned.
        selection: The tasks.
        batch_size: Texts encoded at a time.
        show_progress: Draw progress bars on standard error.
        name: What to call the model in the result; by default as mteb does.
        intervals: Whether to keep what each item scored, from which intervals follow.
    """
    with result_cache(model.mteb_model_meta) as cache:
        return _evaluate(model, selection, batch_size, show_progress, name, intervals, cache)


@contextmanager
def result_cache(meta: ModelMeta) -> Iterator[mteb.ResultCache]:
    """Yield mteb's cache; a temporary one for a model in training, whose later states must not reuse the results."""
    if meta.revision != IN_TRAINING:
        yield mteb.ResultCache()
        return
    with tempfile.TemporaryDirectory() as folder:
        yield mteb.ResultCache(folder)


def _evaluate(
    model: SentenceTransformerEncoderWrapper,
    selection: Selection,
    batch_size: int,
    show_progress: bool,
    name: str | None,
    intervals: bool,
    cache: mteb.ResultCache,
) -> MtebResult:
    kept = Kept(model.mteb_model_meta, cache)
    run = _Run(model, kept, batch_size, show_progress)
    results: dict[str, TaskResult] = {}
    missing: dict[str, str] = {}
    items: dict[str, Parts] = {}
    no_interval: dict[str, str] = {}
    for task in selection.tasks:
        task_name = task.metadata.name
        if task_name in selection.absent:
            missing[task_name] = selection.absent[task_name]
            continue
        try:
            result = run.result(task)
        except _NoResultError as error:
            missing[task_name] = str(error)
            continue
        if not np.isfinite(result.get_score()):
            missing[task_name] = "failed: its main score is not a number; has the model collapsed?"
            continue
        results[task_name] = result
        if not intervals:
            continue
        try:
            items[task_name] = kept.items(task, result)
        except NoItemsError as error:
            no_interval[task_name] = str(error)
    return MtebResult(
        scored=ScoredModel(
            model.model,
            name or model.mteb_model_meta.name,
            None if model.mteb_model_meta.revision == IN_TRAINING else model.mteb_model_meta.revision,
        ),
        meta=model.mteb_model_meta,
        selection=selection,
        results=results,
        prompts={task.metadata.name: _prompts(model, task) for task in selection.tasks},
        missing=missing,
        items=items,
        no_interval=no_interval,
        max_seq_length=longest_text(model.model),
        precision=str(model.model.dtype).removeprefix("torch."),
        batch_size=batch_size,
    )


class _NoResultError(Exception):
    """Says why a task has no result."""


@dataclass(frozen=True)
class _Run:
    """One model over many tasks."""

    model: SentenceTransformerEncoderWrapper
    kept: Kept
    batch_size: int
    show_progress: bool

    def result(self, task: AbsTask) -> TaskResult:
        """Return the result of a task, from mteb's cache if it is there.

        Raises:
            _NoResultError: If its data is not there, or it fails.
        """
        cache, meta = self.kept.cache, self.kept.meta
        if isinstance(task, AbsTaskAggregate):
            combined = task.combine_task_results([self._part(part) for part in task.metadata.tasks])
            cache.save_to_cache(combined, meta)
            return combined
        task = copy.deepcopy(task)  # for its random state, and the data that is loaded into it
        # mteb would take a complete result from its cache even if it is of other data; here that is another result.
        fresh = self.kept.result(task) is not None
        predictions = self.kept.predictions(task)
        self.kept.drop_useless_predictions(task)
        if not (task.data_loaded or self.kept.is_finished(task)):
            try:
                task.load_data()
            except Exception as error:  # each of the many ways a data set can be missing, broken or locked
                raise _NoResultError(f"no data: {_explained(error)}") from error
        encode_kwargs = {"batch_size": self.batch_size, "show_progress_bar": self.show_progress}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # mteb logs what it warns of
                mteb.evaluate(
                    self.model,
                    task,
                    cache=cache,
                    overwrite_strategy="only-missing" if fresh else "always",
                    encode_kwargs=encode_kwargs,
                    prediction_folder=predictions.parent if _has_items(task) else None,
                    co2_tracker=False,
                    show_progress_bar=self.show_progress,
                )
        except Exception as error:  # of mteb, the task or the model: the other tasks may still succeed
            raise _NoResultError(f"failed: {_explained(error)}") from error
        self.kept.keep_items(task)
        if self.kept.is_collapsed(task):
            raise _NoResultError("failed: what the model gives is not a number; has it collapsed?")
        return self.kept.selected(task)  # rounded, as a later run reads it

    def _part(self, task: AbsTask) -> TaskResult:
        try:
            return self.result(task)
        except _NoResultError as error:
            raise _NoResultError(f"{task.metadata.name}, a part of it, has no result: {error}") from error


def _has_items(task: AbsTask) -> bool:
    try:
        require_items(task)
    except NoItemsError:
        return False
    return True


def _prompts(model: SentenceTransformerEncoderWrapper, task: AbsTask) -> dict[str, str | None]:
    """Return what is put before a query, a document and any other text of a task."""
    prompts = model.model.prompts  # mteb's copy lacks those whose names it does not know, such as that of a default
    found: dict[str, str | None] = {}
    for kind in (PromptType.query, PromptType.document, None):
        name = model.get_prompt_name(task.metadata, kind) or model.model.default_prompt_name
        found[kind.value if kind else "text"] = prompts.get(name) if name else None
    return found


def _explained(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
