"""Transfer: how much of a sentence's class can a linear classifier read off its frozen embedding?

SentEval (Conneau & Kiela, LREC 2018) with its scikit-learn classifier and the 10 folds of SimCSE (Gao et al., EMNLP
2021). Which of its three procedures scores a task follows from the parts the task has:

- ``all``: nested cross-validation, every row is tested once;
- ``train``, ``test``: cross-validation on train chooses the regularisation;
- ``train``, ``dev``, ``test``: dev chooses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from fmicl_text.errors import InputError
from fmicl_text.evaluation.embeddings import embed
from fmicl_text.evaluation.items import Items, Parts, average_interval, digest, interval, score
from fmicl_text.evaluation.scored_model import scored_model
from fmicl_text.evaluation.statistics import percentile_interval, resampled_means
from fmicl_text.evaluation.transfer_tasks import TASKS, TransferTask, load_tasks
from fmicl_text.versions import versions

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


@dataclass(frozen=True)
class TaskAccuracy:
    """Accuracy x 100 of one task over ``n`` test rows, with its 95% bootstrap interval over them.

    Attributes:
        accuracy: Share of the test rows classified right.
        n: Number of test rows.
        ci95: Interval of ``accuracy``. It holds the classifiers fixed: another training set is not part of it.
        chosen: The C that was chosen, in each fold if there are.
        f1: F1 x 100 of class 1; MRPC only.
        f1_ci95: Interval of ``f1``.
    """

    accuracy: float
    n: int
    ci95: tuple[float, float]
    chosen: list[float]
    f1: float | None = None
    f1_ci95: tuple[float, float] | None = None

    def document(self) -> dict[str, Any]:
        """Return the score as plain values, ready for JSON."""
        document = {"accuracy": self.accuracy, "n": self.n, "ci95": list(self.ci95), "C": self.chosen}
        if self.f1_ci95 is not None:
            document |= {"f1": self.f1, "f1_ci95": list(self.f1_ci95)}
        return document


@dataclass(frozen=True, eq=False)
class TransferResult:
    """What :func:`transfer` found.

    Attributes:
        model: Name of the model.
        revision: The Hub's commit or a digest of the folder, of a model that was given by name; None of a loaded one.
        data: Where the texts came from: ``Hub`` or a folder.
        max_seq_length: Tokens after which the model cuts a text; None if it never does.
        tasks: Task -> score.
        missing: Task -> why it could not be scored.
        items: Task -> its test rows, 1 where classified right, for paired tests; not in the document.
    """

    model: str
    revision: str | None
    data: str
    max_seq_length: int | None
    tasks: dict[str, TaskAccuracy]
    missing: dict[str, str]
    items: dict[str, Parts]

    @property
    def average(self) -> float | None:
        """Mean accuracy of the seven tasks; None unless all were scored, since the rest has no published equal."""
        return (
            float(np.mean([task.accuracy for task in self.tasks.values()]))
            if self.tasks.keys() == TASKS.keys()
            else None
        )

    @cached_property
    def average_ci95(self) -> tuple[float, float] | None:
        """95% bootstrap interval of the average, over the items of each task; None where there is no average."""
        return None if self.average is None else average_interval(self.items.values())

    def document(self) -> dict[str, Any]:
        """Return the result as plain values, ready for JSON."""
        return {
            "model": self.model,
            "revision": self.revision,
            "suite": "transfer",
            "protocol": PROTOCOL,
            "tasks": {name: task.document() for name, task in self.tasks.items()},
            "average": self.average,
            "average_ci95": self.average_ci95,
            "missing": list(self.missing),
            "missing_reasons": self.missing,
            "data": self.data,
            "max_seq_length": self.max_seq_length,
            "versions": versions(),
        }


def transfer(
    model: SentenceTransformer | str,
    tasks: Sequence[TransferTask] = tuple(TASKS.values()),
    data: str | None = None,
    batch_size: int = 128,
    show_progress: bool = False,
    name: str | None = None,
) -> TransferResult:
    """Score a sentence encoder on SentEval's transfer tasks.

    Every distinct text of all tasks is encoded once. Cross-validation uses all cores.

    Args:
        model: A loaded model, or what :func:`fmicl_text.encoders.text.load_model` takes.
        tasks: What to score; default all seven.
        data: None for the Hugging Face Hub, or a folder with ``transfer/*.parquet``.
        batch_size: Texts encoded at a time.
        show_progress: Draw progress bars on standard error.
        name: What to call the model in the result; by default what ``model`` says, if it is a string.

    Raises:
        InputError: Unknown model; data that is wrong or altogether missing; a model that gives embeddings
            that are no numbers.
    """
    from rich.console import Console
    from rich.progress import track

    loaded, missing = load_tasks(tasks, data)
    encoder, name, revision = scored_model(model, name)
    columns = (column for parts in loaded.values() for part in parts.values() for column in part.texts)
    embedded = embed(encoder, chain.from_iterable(columns), batch_size, show_progress)
    if not np.isfinite(embedded.rows).all():
        raise InputError(f"{name} gives embeddings that are not finite numbers: nothing can be fitted")
    scores: dict[str, TaskAccuracy] = {}
    items: dict[str, Parts] = {}
    console = Console(stderr=True)
    for task, parts in track(loaded.items(), "Classifying", console=console, disable=not show_progress):
        x = {part: _features([embedded.of(column) for column in rows.texts]) for part, rows in parts.items()}
        y = {part: rows.labels for part, rows in parts.items()}
        predicted, regularisation = classify(x, y)
        tested = parts["all" if "all" in parts else "test"]
        gold = tested.labels
        items[task] = (Items("mean", 1.0 * (predicted == gold), source=digest(*tested.texts)),)
        scores[task] = TaskAccuracy(
            accuracy=score(items[task]),
            n=len(gold),
            ci95=interval(items[task]),
            chosen=regularisation,
            **(_f1(gold, predicted) if task == "MRPC" else {}),
        )
    return TransferResult(
        model=name,
        revision=revision,
        data=data or "Hub",
        max_seq_length=encoder.max_seq_length,
        tasks=scores,
        missing=missing,
        items=items,
    )


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


def _f1(gold: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """F1 x 100 of class 1 with its interval. The same seed draws the same rows for both sums."""
    hits, sizes = 200.0 * (gold * predicted), gold + predicted  # F1 is 2 TP / (positives + predicted positives)
    resampled = resampled_means(hits) / resampled_means(sizes)
    return {"f1": float(hits.sum() / sizes.sum()), "f1_ci95": percentile_interval(resampled)}
