"""The cache of evaluations with mteb: its own results, and beside them what each item scored.

mteb's result of a task is ``results/MODEL/REVISION/TASK.json`` in its cache; the items are in ``items/``, in a file of
the same name. mteb's files are never changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mteb
from mteb.abstasks import AbsTask
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.models import ModelMeta
from mteb.results import TaskResult

from fmicl_text.evaluation.items import Items, Parts
from fmicl_text.evaluation.mteb.items import NoItemsError, items_of, require_items, require_score
from fmicl_text.files import read_json, write_json


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
        """Return the cached result of this task on the same data, perhaps of some splits; None if there is none."""
        result = self.cache.load_task_result(task.metadata.name, self.meta)
        return result if result is not None and result.dataset_revision == task.metadata.revision else None

    def is_finished(self, task: AbsTask) -> bool:
        """Whether all splits have a result, and their predictions have been read."""
        result = self.result(task)
        return result is not None and not result.get_missing_evaluations(task) and not self.predictions(task).is_file()

    def predictions(self, task: AbsTask) -> Path:
        """Return where mteb writes what the model predicts, until it has been read; an interruption leaves it there."""
        return self._items_file(task).parent / task.prediction_file_name

    def drop_useless_predictions(self, task: AbsTask) -> None:
        """Remove predictions on other data, and those that an interruption cut off: mteb would fail on them."""
        file = self.predictions(task)
        if file.is_file() and (self.result(task) is None or not _is_json(file)):
            file.unlink()

    def keep_items(self, task: AbsTask) -> None:
        """Read mteb's predictions for a task that has its data, keep what each item scored, and remove them."""
        predictions, file = self.predictions(task), self._items_file(task)
        document: dict[str, object] = {"dataset_revision": task.metadata.revision}
        try:
            parts = items_of(task, read_json(predictions))
            document["items"] = [part.document() for part in parts]
        except NoItemsError as error:
            document["why"] = str(error)
        write_json(file, document, indent=None)
        predictions.unlink()

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
        file = self._items_file(task)
        document = read_json(file) if file.is_file() else {}
        if document.get("dataset_revision") != task.metadata.revision:
            result = self.cache.get_task_result_path(task.metadata.name, self.meta)
            raise NoItemsError(
                f"mteb's result was there already, without what each item scored; delete {result} to score it again"
            )
        if "why" in document:
            raise NoItemsError(document["why"])
        return tuple(Items.of(part) for part in document["items"])

    def _items_file(self, task: AbsTask) -> Path:
        result = self.cache.get_task_result_path(task.metadata.name, self.meta)
        return self.cache.cache_path / "items" / result.relative_to(self.cache.cache_path / "results")


def _is_json(file: Path) -> bool:
    try:
        read_json(file)
    except ValueError:
        return False
    return True
