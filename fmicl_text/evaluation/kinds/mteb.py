"""Tasks that mteb scores: public ones, and the user's own."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from fmicl_text.errors import InputError
from fmicl_text.evaluation.kind import Evaluation, Given, Loaded
from fmicl_text.evaluation.suite_files import is_own_suite, is_suite_file
from fmicl_text.files import user_path
from fmicl_text.section import Conflict

if TYPE_CHECKING:
    from fmicl_text.evaluation.mteb.selection import Selection


class Mteb(Evaluation):
    """Public tasks or a benchmark of mteb."""

    kind: ClassVar = "mteb"
    names: ClassVar = "mteb, with tasks or benchmark: public tasks of mteb"

    tasks: list[str] | None = None
    """Public tasks by name, such as [STSBenchmark, SciFact]."""
    benchmark: str | None = None
    """A public benchmark, such as "MTEB(eng, v2)"."""
    data: str | None = None
    """Read the data set OWNER/NAME from the files in DATA/OWNER/NAME; default the Hub."""

    def conflicts(self) -> Iterator[Conflict]:
        """Refuse tasks and a benchmark together, or neither."""
        if (self.tasks is None) == (self.benchmark is None):
            yield (), "needs tasks, a list of names, or benchmark, and not both"

    @classmethod
    def claims(cls, name: str) -> bool:
        """Whether it is ``mteb``."""
        return name == "mteb"

    def load(self, given: Given) -> Loaded:
        """Select the tasks; mteb loads the data of each when it comes to it."""
        require_mteb()
        from fmicl_text.evaluation.mteb.selection import select_benchmark, select_tasks

        data = None if self.data is None else user_path(self.data)
        return _loaded(
            select_tasks(self.tasks or [], data) if self.benchmark is None else select_benchmark(self.benchmark, data)
        )


class OwnSuiteFile(Evaluation):
    """The user's own tasks over local files, described in YAML and scored as mteb scores public ones."""

    kind: ClassVar = "mteb"
    names: ClassVar = "the YAML file of a suite of your own tasks"

    @classmethod
    def claims(cls, name: str) -> bool:
        """Whether it is a YAML file whose tasks have types."""
        return is_suite_file(name) and is_own_suite(name)

    def load(self, given: Given) -> Loaded:
        """Read the suite and every file it names."""
        require_mteb()
        from fmicl_text.evaluation.mteb.selection import select_suite

        return _loaded(select_suite(user_path(self.name)))


def require_mteb() -> None:
    """Raise an InputError if mteb is not installed."""
    if importlib.util.find_spec("mteb") is None:
        raise InputError('mteb is not installed: pip install "fmicl-text[mteb]"')


def _loaded(selection: Selection) -> Loaded:
    from fmicl_text.evaluation.metrics import mteb_metric
    from fmicl_text.evaluation.mteb.run import measure_selection

    by_name = {task.metadata.name: mteb_metric(task.metadata.main_score) for task in selection.tasks}
    offers = {metric.key(name): metric for name, metric in by_name.items()}
    if len(by_name) > 1 and not selection.absent:
        average = mteb_metric(*{task.metadata.main_score for task in selection.tasks})
        offers = {average.key("average"): average} | offers
    return Loaded(
        partial(measure_selection, selection=selection),
        offers,
        selection.absent,
        lambda: {task.metadata.name: {"revision": task.metadata.revision} for task in selection.tasks},
        partial(_items, selection),
    )


def _items(selection: Selection) -> Iterator[tuple[str, ...]]:
    from fmicl_text.evaluation.mteb.own_tasks import items_of_own

    for task in selection.tasks:
        if task.data_loaded:
            yield from items_of_own(task)
        else:
            yield (task.metadata.name,)
