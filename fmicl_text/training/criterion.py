"""The score that chooses the checkpoint: which one it is, and its evaluation on the model in training."""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator

from fmicl_text.errors import InputError
from fmicl_text.evaluation.kind import Effort, Evaluation, Given, Loaded, NoScoreError, choose_score
from fmicl_text.evaluation.metrics import Metric
from fmicl_text.evaluation.registry import evaluation
from fmicl_text.evaluation.results import Result, Score
from fmicl_text.evaluation.scored_model import ScoredModel
from fmicl_text.evaluation.section import EvaluateSection

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Criterion:
    """One score of an evaluation, measured during training.

    Attributes:
        name: Name of the evaluation, as in its results.
        loaded: The evaluation with its data.
        key: :attr:`Score.key` of the score.
    """

    name: str
    loaded: Loaded
    key: str

    @property
    def metric(self) -> Metric:
        """What the score measures."""
        return self.loaded.offers[self.key]

    @property
    def logged(self) -> str:
        """What the trainer calls the score, such as ``stsb-dev_spearman_cosine``."""
        return self.logged_name(self.key, self.metric.name, self.metric.type)

    def logged_name(self, key: str, metric: str, metric_type: str) -> str:
        """Return what the trainer calls a score: with its task, unless it is the first with this metric."""
        first = next((known for known, offered in self.loaded.offers.items() if offered.type == metric_type), key)
        task = "" if key == first else key.removesuffix(metric)
        return f"{self.name}_{task}{metric_type}".replace(" ", "_")

    def shown(self, value: float) -> float:
        """Return a value that the trainer logged in the metric's unit."""
        return 100 * value if self.metric.unit == "%" else value


@dataclass(frozen=True)
class Choice:
    """What chooses the checkpoint, None for nothing, and the reason in words."""

    criterion: Criterion | None
    why: str


def choose(section: EvaluateSection, given: Given) -> Choice:
    """Load what ``evaluate.during`` names. If it is not given: held-out pairs, else STS-B dev where it is at hand.

    Raises:
        InputError: What it names has no data or no such metric, or a metric of which neither high nor low values are
            better.
    """
    if section.during is None:
        return Choice(None, "evaluate.during is none")
    if isinstance(section.during, Evaluation):
        return Choice(_criterion(section.during, given), "evaluate.during")
    if given.heldout:
        return Choice(_criterion(evaluation("heldout"), given), "there are held-out pairs")
    if given.image_size is not None:
        return Choice(None, "of images nothing chooses it unless evaluate.during does, by knn or linear")
    if section.data is not None:
        try:
            return Choice(_criterion(evaluation("stsb-dev"), given), f"{section.data} has it")
        except InputError as error:
            reason = f"evaluate.data has no STS-B dev: {error.problems[0]}"
            return Choice(None, f"no held-out pairs, and {reason}")
    return Choice(None, "no held-out pairs (data.heldout) and no STS-B at hand (evaluate.data)")


def _criterion(asked: Evaluation, given: Given) -> Criterion:
    loaded = asked.load(given)
    if loaded.missing:
        raise InputError(
            [f"evaluate.during: {asked.name}: {task} is missing: {why}" for task, why in loaded.missing.items()]
        )
    key = choose_score(asked, loaded)
    if loaded.offers[key].higher_is_better is None:
        good = [name for name, metric in loaded.offers.items() if metric.higher_is_better is not None]
        raise InputError(
            f"evaluate.during: {asked.name}: neither a high nor a low {loaded.offers[key].name} is better; "
            f"set metric to one of {', '.join(good)}"
        )
    return Criterion(asked.result_name, loaded, key)


class EvaluationInTraining(SentenceEvaluator):
    """Runs an evaluation on the model in training, and gives its scores to sentence-transformers' trainer.

    Percentages are logged as sentence-transformers logs them, from 0 to 1. The state of all random generators is
    restored, so that training does not depend on what is measured during it.

    Args:
        criterion: The evaluation, and the score that chooses the checkpoint.
    """

    def __init__(self, criterion: Criterion) -> None:
        super().__init__()
        self.criterion = criterion
        self.primary_metric = criterion.logged
        self.greater_is_better = bool(criterion.metric.higher_is_better)

    def __call__(
        self, model: SentenceTransformer, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Return the scores by name; for a model that cannot be scored, the worst possible value."""
        criterion = self.criterion
        scored = ScoredModel(model, "the model in training", None)
        try:
            with _random_states_kept():
                result = criterion.loaded.measure(scored, Effort(intervals=False)).result
            figures = _figures(criterion, result)
        except NoScoreError as error:
            logger.warning("%s: %s", criterion.name, error)
            figures = {criterion.logged: -1.0 if self.greater_is_better else sys.float_info.max}
        self.store_metrics_in_model_card_data(model, figures, epoch, steps)
        return figures


def _figures(criterion: Criterion, result: Result) -> dict[str, float]:
    if criterion.key not in {score.key for score in result.scores}:
        raise NoScoreError([f"{task} is missing: {why}" for task, why in result.missing.items()])
    return {
        criterion.logged_name(score.key, score.metric, score.metric_type): _logged(score) for score in result.scores
    }


def _logged(score: Score) -> float:
    return score.value / 100 if score.unit == "%" else score.value


@contextmanager
def _random_states_kept() -> Iterator[None]:
    python, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)
