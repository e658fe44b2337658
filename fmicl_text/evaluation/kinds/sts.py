"""Suites of STS tasks."""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import ClassVar

from fmicl_text.evaluation.kind import Evaluation, Given, Loaded
from fmicl_text.evaluation.suite_files import is_own_suite, is_suite_file, shipped_suites


class Sts(Evaluation):
    """How well the cosine of two sentences ranks pairs as people do, on a suite of tasks."""

    kind: ClassVar = "sts"
    names: ClassVar = "the name of a shipped suite such as sts7, or the YAML file of one"

    data: str | None = None
    """Where the data comes from: a folder, or sample:stsb; default evaluate.data."""
    bf16: bool = False
    """Multiply in bfloat16."""

    @classmethod
    def claims(cls, name: str) -> bool:
        """Whether it is a shipped suite or the file of one."""
        return name in shipped_suites() or (is_suite_file(name) and not is_own_suite(name))

    def load(self, given: Given) -> Loaded:
        """Load the pairs of the suite's tasks."""
        from fmicl_text.evaluation.metrics import SPEARMAN
        from fmicl_text.evaluation.sts import measure_sts
        from fmicl_text.evaluation.suites import load_pairs, load_suite

        suite, data = load_suite(self.name), self.data or given.data
        pairs, missing = load_pairs(suite, data)
        names = ["average", *pairs] if len(suite.tasks) > 1 and not missing else list(pairs)
        measure = partial(measure_sts, suite=suite, pairs=pairs, missing=missing, source=data or "Hub", bf16=self.bf16)
        return Loaded(
            measure,
            {SPEARMAN.key(name): SPEARMAN for name in names},
            missing,
            lambda: {task: of_task.fingerprint for task, of_task in pairs.items()},
            partial(chain.from_iterable, pairs.values()),
        )
