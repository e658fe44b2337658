"""The outcome of a run: results of evaluations, their scores, mean and deviation over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from fmicl_text.evaluation.results import Result, Score
from fmicl_text.runs.folder import RunFolder

if TYPE_CHECKING:
    from fmicl_text.hub.remote import Published


@dataclass(frozen=True)
class SeedResult:
    """The outcome of one seed's run: its folder, and the results of its evaluations by name."""

    seed: int
    folder: RunFolder
    after: dict[str, Result]


@dataclass(frozen=True)
class TrainResult:
    """The outcome of a run: the results before training, each seed's result, and where it was published.

    ``of_images`` says that the encoder reads images, not texts.
    """

    folder: Path
    before: dict[str, Result]
    seeds: list[SeedResult]
    published: Published | None = None
    of_images: bool = False

    @property
    def model(self) -> Path:
        """The folder of the trained encoder; of several seeds, the first one's."""
        return self.seeds[0].folder.model

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return mean and standard deviation (n - 1) over the seeds, by score; the deviation of one seed is null.

        A score that not every seed has, such as the width of a density ratio that nothing fits, is left out.
        """
        by_seed = [scores(result.after) for result in self.seeds]
        summary = {}
        for name in by_seed[0]:
            if all(name in seed for seed in by_seed):
                values = [seed[name].value for seed in by_seed]
                deviation = stdev(values) if len(values) > 1 else None
                summary[name] = {"mean": mean(values), "sd": deviation, "values": values}
        return summary


def scores(results: Mapping[str, Result]) -> dict[str, Score]:
    """Return the scores of several results by the name of the result and the key of the score."""
    return {f"{name}: {score.key}": score for name, result in results.items() for score in result.scores}
