"""What a run ended in: evaluation documents, their figures, mean and deviation over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from fmicl_text.evaluation.items import Document
from fmicl_text.runs.folder import RunFolder

if TYPE_CHECKING:
    from fmicl_text.hub.remote import Published


@dataclass(frozen=True)
class SeedResult:
    """What one seed's run ended in: its folder, and the documents of its evaluations by name."""

    seed: int
    folder: RunFolder
    after: dict[str, Document]


@dataclass(frozen=True)
class TrainResult:
    """What a run ended in: the documents measured before training, each seed's result, and where it was published."""

    folder: Path
    before: dict[str, Document]
    seeds: list[SeedResult]
    published: Published | None = None

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return mean and standard deviation (n - 1) over the seeds, by score; the deviation of one seed is null."""
        by_seed = [scores(result.after) for result in self.seeds]
        return {
            name: {
                "mean": mean(values := [seed[name] for seed in by_seed]),
                "sd": stdev(values) if len(values) > 1 else None,
                "values": values,
            }
            for name in by_seed[0]
        }


def scores(documents: dict[str, Document]) -> dict[str, float]:
    """Return the figures of evaluation documents by name, in percent, as tables show them; geometry has none."""
    figures: dict[str, float] = {}
    for name, document in documents.items():
        if "tasks" in document:
            figures |= {task: score["spearman"] for task, score in document["tasks"].items()}
            if len(document["tasks"]) > 1 and document["average"] is not None:
                figures[f"{name} average"] = document["average"]
        elif "geometry" not in document:
            figures |= {f"{name} {metric}": document[metric] for metric in ("accuracy@1", "mrr@10")}
    return figures
