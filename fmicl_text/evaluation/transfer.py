"""Transfer: how much of a sentence's class can a linear classifier read off its frozen embedding?

SentEval (Conneau & Kiela, LREC 2018) with its scikit-learn classifier and the 10 folds of SimCSE (Gao et al., EMNLP
2021). Which of its three procedures scores a task follows from the parts the task has:

- ``all``: nested cross-validation, every row is tested once;
- ``train``, ``test``: cross-validation on train chooses the regularisation;
- ``train``, ``dev``, ``test``: dev chooses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from fmicl_text.evaluation.embeddings import embed
from fmicl_text.evaluation.items import Items, Measured, Parts, digest, scores_of_items
from fmicl_text.evaluation.kind import Effort, NoScoreError
from fmicl_text.evaluation.metrics import ACCURACY, F1_OF_CLASS_1
from fmicl_text.evaluation.results import Result, Score
from fmicl_text.evaluation.scored_model import ScoredModel, scored_model
from fmicl_text.evaluation.statistics import percentile_interval, resampled_means
from fmicl_text.evaluation.transfer_tasks import TASKS, Labelled, TransferTask, load_tasks, tested

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold

PROTOCOL = (
    "SentEval with its scikit-learn classifier, 10 folds as in SimCSE: accuracy x 100 of L2-regularised logistic "
    "regression on frozen embeddings. MR, CR, SUBJ, MPQA: 10-fold cross-validation, C of 2^-2 to 2^3 by 10 inner "
    "folds; SST2, trained with phrases: the same C by dev; TREC, MRPC: C of 2^-1 to 2^5 by 10 folds of train; MRPC on "
    "|u - v| and u * v. SimCSE's published figures are of SentEval's other classifier (PyTorch, Adam, early stopping)"
)
_FOLDS = 10
_SEED = 1111  # SentEval's
_GRID = tuple(2.0**power for power in range(-2, 4))  # SentEval's C, the inverse of the strength of regularisation
_GRID_OF_TRAIN_AND_TEST = tuple(2.0**power for power in range(-1, 6))
# At scikit-learn's own tolerance, 1e-4, a fit that starts from its neighbour's on the grid stops where it started.
_SETTINGS: dict[str, Any] = {"tol": 1e-5, "max_iter": 1000}


def transfer(
    model: SentenceTransformer | str,
    tasks: Sequence[TransferTask] = tuple(TASKS.values()),
    data: str | None = None,
    batch_size: int = 128,
    show_progress: bool = False,
    name: str | None = None,
) -> Measured:
    """Score a sentence encoder on SentEval's transfer tasks.

    Every distinct text of all tasks is encoded once. Cross-validation uses all cores.

    Args:
        model: A loaded model, or what :func:`fmicl_text.encoders.text.load_model` takes.
        tasks: What to score; default all seven.
        data: None for the Hugging Face Hub, or a folder with ``transfer/*.parquet``.
        batch_size: Texts encoded at a time.
        show_progress: Draw progress bars on standard error.
        name: Name of the model in the result; by default ``model`` itself, if it is a string.

    Returns:
        Accuracy x 100 of each task with its 95% interval over the test rows, which holds the classifiers fixed, and
        for MRPC F1 x 100 of class 1. The average is first if all seven tasks were scored; of fewer it could not be
        compared with any published one. ``details`` has the C that was chosen, in each fold if there are several.

    Raises:
        InputError: Unknown model; data that is wrong or altogether missing; a model that gives embeddings
            that are not finite.
    """
    loaded, missing = load_tasks(tasks, data)
    return measure_transfer(
        scored_model(model, name), Effort(batch_size, show_progress), loaded, missing, data or "Hub"
    )


def measure_transfer(
    scored: ScoredModel,
    effort: Effort,
    tasks: Mapping[str, Mapping[str, Labelled]],
    missing: Mapping[str, str],
    source: str,
) -> Measured:
    """Score an encoder on tasks that were loaded, task -> part -> rows; see :func:`transfer`."""
    from rich.console import Console
    from rich.progress import track

    columns = (column for parts in tasks.values() for part in parts.values() for column in part.texts)
    embedded = embed(scored.encoder, chain.from_iterable(columns), effort.batch_size, effort.show_progress)
    if not np.isfinite(embedded.rows).all():
        raise NoScoreError(f"{scored.name} gives embeddings that are not finite numbers: nothing can be fitted")
    items: dict[str, Parts] = {}
    chosen: dict[str, list[float]] = {}
    f1: dict[str, Score] = {}
    console = Console(stderr=True)
    for task, parts in track(tasks.items(), "Classifying", console=console, disable=not effort.show_progress):
        x = {part: _features([embedded.of(column) for column in rows.texts]) for part, rows in parts.items()}
        y = {part: rows.labels for part, rows in parts.items()}
        predicted, chosen[task] = classify(x, y)
        rows = tested(parts)
        items[task] = (Items("mean", 1.0 * (predicted == rows.labels), source=digest(*rows.texts)),)
        if task == "MRPC":
            f1[task] = _f1(task, rows.labels, predicted, effort)
    scores = []
    for score in scores_of_items(ACCURACY, items, effort, average=tasks.keys() == TASKS.keys()):
        scores += [score, f1[score.name]] if score.name in f1 else [score]
    result = Result(
        kind="transfer",
        name="transfer",
        protocol=PROTOCOL,
        data=source,
        scores=scores,
        missing=dict(missing),
        details={"C": chosen},
        **scored.described(),
    )
    return Measured(result, {ACCURACY.key(task): parts for task, parts in items.items()})


def classify(x: Mapping[str, np.ndarray], y: Mapping[str, np.ndarray]) -> tuple[np.ndarray, list[float]]:
    """Fit logistic regression by SentEval's procedure for these parts, and classify the test rows.

    Args:
        x: Part -> features ``(n, D)``; the parts say which procedure it is, see the module.
        y: Part -> classes ``(n,)``.

    Returns:
        Predicted classes of the rows of ``all`` or ``test``, ``(n,)``, and the C chosen, one for each fold.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_validate

    if "all" in x:
        folds = cross_validate(
            _cross_validated(_GRID),
            x["all"],
            y["all"],
            cv=_folds(),
            n_jobs=-1,
            return_estimator=True,
            return_indices=True,
        )
        predicted = np.empty_like(y["all"])
        for classifier, test in zip(folds["estimator"], folds["indices"]["test"], strict=True):
            predicted[test] = classifier.predict(x["all"][test])
        return predicted, [float(classifier.C_) for classifier in folds["estimator"]]
    if "dev" in x:
        fitted = (LogisticRegression(C=c, **_SETTINGS).fit(x["train"], y["train"]) for c in _GRID)
        best = max(fitted, key=lambda classifier: classifier.score(x["dev"], y["dev"]))  # the first of equals
        return best.predict(x["test"]), [best.C]
    classifier = _cross_validated(_GRID_OF_TRAIN_AND_TEST, n_jobs=-1).fit(x["train"], y["train"])
    return classifier.predict(x["test"]), [float(classifier.C_)]


def _cross_validated(grid: Sequence[float], n_jobs: int | None = None) -> LogisticRegressionCV:
    """Logistic regression with the C of best mean accuracy over the folds, the smallest of equals."""
    from sklearn.linear_model import LogisticRegressionCV

    return LogisticRegressionCV(
        Cs=grid,
        l1_ratios=(0,),
        cv=_folds(),
        scoring="accuracy",
        n_jobs=n_jobs,
        use_legacy_attributes=False,
        **_SETTINGS,
    )


def _folds() -> StratifiedKFold:
    from sklearn.model_selection import StratifiedKFold

    return StratifiedKFold(_FOLDS, shuffle=True, random_state=_SEED)


def _features(embeddings: Sequence[np.ndarray]) -> np.ndarray:
    """Return what is classified, in float64: the embeddings ``(n, D)``, or of a pair ``|u - v|, u * v`` ``(n, 2D)``."""
    first, *second = (rows.astype(np.float64) for rows in embeddings)
    return np.hstack([np.abs(first - second[0]), first * second[0]]) if second else first


def _f1(task: str, gold: np.ndarray, predicted: np.ndarray, effort: Effort) -> Score:
    """F1 x 100 of class 1 with its interval. The same seed draws the same rows for both sums."""
    hits, sizes = 200.0 * (gold * predicted), gold + predicted  # F1 is 2 TP / (positives + predicted positives)
    ci95 = percentile_interval(resampled_means(hits) / resampled_means(sizes)) if effort.intervals else None
    return F1_OF_CLASS_1.score(task, float(hits.sum() / sizes.sum()), len(gold), ci95)
