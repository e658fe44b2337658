"""The cache of evaluations with mteb: its own results, and beside them what each item scored.

mteb's result of a task is ``results/MODEL/REVISION/TASK.json`` in its cache; the items are in ``items/``, in a file of
the same name. mteb's files are never changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mteb
from mteb.abstasks import AbsTask
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.models import ModelMeta
from mteb.results import TaskResult

from fmicl_text.evaluation.items import Items, Parts
from fmicl_text.evaluation.mteb.items import NoItemsError, Part, items_of, parts_of, require_items, require_score
from fmicl_text.files import read_json, write_json, write_text

_OF_MODEL = "mteb_model_meta"
"""What mteb's predictions have beside those of subsets."""

_NO_NUMBERS = "the model's predictions are not numbers"


@dataclass(frozen=True)
class Kept:
    """The cache of one model.

    Attributes:
        meta: What mteb calls the model.
        cache: mteb's results.
    """

    meta: ModelMeta
    cache: mteb.ResultCache

    def result(self, task: AbsTask) -> TaskResult | None:
        """Return the cached result of this task on the same data, perhaps of other parts of it; None if there is none.

        mteb keeps one file per task, with the splits and subsets of every selection that has been evaluated.
        """
        result = self.cache.load_task_result(task.metadata.name, self.meta)
        return result if result is not None and result.dataset_revision == task.metadata.revision else None

    def selected(self, task: AbsTask) -> TaskResult:
        """Return the cached result of the splits and subsets of this task alone.

        The time that they took is known only if the file has no others.

        Raises:
            FileNotFoundError: There is no result.
        """
        name = task.metadata.name
        whole: TaskResult = self.cache.load_task_result(name, self.meta, raise_if_not_found=True)
        chosen = whole.validate_and_filter_scores(task)
        if chosen.scores == whole.scores:
            return whole
        versions = {score.get("mteb_version") for scores in chosen.scores.values() for score in scores}
        version = versions.pop() if len(versions) == 1 else whole.mteb_version
        return chosen.model_copy(update={"evaluation_time": None, "mteb_version": version})

    def is_finished(self, task: AbsTask) -> bool:
        """Whether all splits and subsets have a result, and their predictions have been read."""
        result = self.result(task)
        missing = result is None or result.get_missing_evaluations(task)
        return not missing and not _among(self._predicted(task), task)

    def predictions(self, task: AbsTask) -> Path:
        """Return where mteb writes what the model predicts, until it has been read; an interruption leaves it there."""
        return self._items_file(task).parent / task.prediction_file_name

    def drop_useless_predictions(self, task: AbsTask) -> None:
        """Remove predictions on other data, and those that an interruption cut off: mteb would fail on them."""
        file = self.predictions(task)
        if file.is_file() and (self.result(task) is None or not self._predicted(task)):
            file.unlink()

    def keep_items(self, task: AbsTask) -> None:
        """Read mteb's predictions, if any, for a task that has its data; keep what each item scored, and remove them.

        What is kept of other splits and subsets stays, and so do predictions for these.
        """
        predicted = self._predicted(task)
        parts = _among(predicted, task)
        if not parts:
            return
        kept = self._kept(task)
        for part in parts:
            split, subset = part
            try:
                kept_part = items_of(task, part, _numbers(predicted[subset].pop(split))).document()
            except NoItemsError as error:
                kept_part = {"why": str(error)}
            kept.setdefault(split, {})[subset] = kept_part
        write_json(self._items_file(task), {"dataset_revision": task.metadata.revision, "parts": kept}, indent=None)
        file = self.predictions(task)
        if any(predicted[subset] for subset in predicted.keys() - {_OF_MODEL}):
            write_text(file, json.dumps(predicted))  # with NaN, if mteb wrote any
        else:
            file.unlink()

    def is_collapsed(self, task: AbsTask) -> bool:
        """Whether predictions for any of the splits and subsets were NaN, which a search is scored by all the same."""
        kept = self._kept(task)
        parts = (kept.get(split, {}).get(subset, {}) for split, subset in parts_of(task))
        return any(part.get("why") == _NO_NUMBERS for part in parts)

    def items(self, task: AbsTask, result: TaskResult) -> Parts:
        """Return what each item of a task scored.

        Raises:
            NoItemsError: It is not known, or does not give mteb's main score.
        """
        if isinstance(task, AbsTaskAggregate):
            parts = tuple(part for leaf in task.metadata.tasks for part in self._items(leaf))
        else:
            parts = self._items(task)
        require_score(parts, float(result.get_score()))
        return parts

    def _items(self, task: AbsTask) -> Parts:
        require_items(task)
        kept = self._kept(task)
        found = []
        for split, subset in parts_of(task):
            scored = kept.get(split, {}).get(subset)
            if scored is None:
                file = self.cache.get_task_result_path(task.metadata.name, self.meta)
                raise NoItemsError(
                    f"mteb's result was there already, without what each item scored; delete {file} to score it again"
                )
            if "why" in scored:
                raise NoItemsError(scored["why"])
            found.append(Items.of(scored))
        return tuple(found)

    def _kept(self, task: AbsTask) -> dict[str, dict[str, Any]]:
        """Return split -> subset -> the document of its items, or why there are none, on the same data."""
        file = self._items_file(task)
        document = read_json(file) if file.is_file() else {}
        if document.get("dataset_revision") != task.metadata.revision:
            return {}
        if "parts" in document:
            return document["parts"]
        # Older files do not say which splits and subsets they are of: they are read where the task has but one.
        whole = [(split, subset) for split in task.metadata.eval_splits for subset in task.metadata.hf_subsets]
        if len(whole) > 1 or len(document.get("items", [None])) > 1:
            return {}
        split, subset = whole[0]
        return {split: {subset: document["items"][0] if "items" in document else {"why": document["why"]}}}

    def _predicted(self, task: AbsTask) -> dict[str, Any]:
        """Return mteb's predictions: subset -> split -> what they are; empty if there are none that can be read."""
        file = self.predictions(task)
        try:
            return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}  # mteb writes NaN
        except ValueError:
            return {}

    def _items_file(self, task: AbsTask) -> Path:
        result = self.cache.get_task_result_path(task.metadata.name, self.meta)
        return self.cache.cache_path / "items" / result.relative_to(self.cache.cache_path / "results")


def _among(predicted: Mapping[str, Any], task: AbsTask) -> list[Part]:
    """Return the splits and subsets of a task that mteb's predictions have."""
    return [(split, subset) for split, subset in parts_of(task) if split in predicted.get(subset, {})]


def _numbers(predicted: Any) -> Any:
    """Return predictions of a part as they are.

    Raises:
        NoItemsError: NaN or infinity is among them.
    """
    try:
        json.dumps(predicted, allow_nan=False)
    except ValueError:
        raise NoItemsError(_NO_NUMBERS) from None
    return predicted
