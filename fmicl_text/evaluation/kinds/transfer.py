"""SentEval's transfer tasks."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from fmicl_text.evaluation.kind import Evaluation, Given, Loaded


class Transfer(Evaluation):
    """Logistic regression on frozen embeddings, on SentEval's seven classification tasks."""

    kind: ClassVar = "transfer"
    names: ClassVar = "transfer: SentEval's seven classification tasks"

    tasks: list[str] | None = None
    """Some of MR, CR, SUBJ, MPQA, SST2, TREC and MRPC; default all, which have an average."""
    data: str | None = None
    """Folder with transfer/mr.parquet and so on; default evaluate.data."""

    @classmethod
    def claims(cls, name: str) -> bool:
        """Whether it is ``transfer``."""
        return name == "transfer"

    def load(self, given: Given) -> Loaded:
        """Load the texts of the tasks."""
        from fmicl_text.evaluation.metrics import ACCURACY
        from fmicl_text.evaluation.transfer import measure_transfer
        from fmicl_text.evaluation.transfer_tasks import TASKS, choose_tasks, load_tasks, tested_texts

        data = self.data or given.data
        loaded, missing = load_tasks(choose_tasks(self.tasks or list(TASKS)), data)
        names = ["average", *loaded] if loaded.keys() == TASKS.keys() else list(loaded)
        measure = partial(measure_transfer, tasks=loaded, missing=missing, source=data or "Hub")
        return Loaded(
            measure,
            {ACCURACY.key(name): ACCURACY for name in names},
            missing,
            lambda: {
                f"{task} {name}": part.fingerprint for task, parts in loaded.items() for name, part in parts.items()
            },
            partial(tested_texts, loaded),
        )
