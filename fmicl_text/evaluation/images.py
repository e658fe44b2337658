"""What an encoder of images is worth: how well its frozen embeddings tell classes apart.

Weighted k nearest neighbours as in Wu, Xiong, Yu, Lin, "Unsupervised Feature Learning via Non-Parametric Instance
Discrimination", CVPR 2018, arXiv 1805.01978; and a linear classifier. Raw pixels and an encoder with random weights go
the same ways, tuning included.

Shapes: ``N`` images with known classes, ``Q`` images to classify, ``D`` dimensions, ``C`` classes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from fmicl_text.encoders.images import as_features, image_size, random_twin
from fmicl_text.errors import InputError
from fmicl_text.evaluation.image_batches import eval_mode, image_batches
from fmicl_text.evaluation.image_pictures import pictures
from fmicl_text.evaluation.items import Items, Measured, Parts, digest, scores_of_items
from fmicl_text.evaluation.kind import Effort, NoScoreError
from fmicl_text.evaluation.metrics import ACCURACY, SD_OVER_DRAWS
from fmicl_text.evaluation.paired import paired_test
from fmicl_text.evaluation.results import Result, Score
from fmicl_text.evaluation.scored_model import ScoredModel

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

    from fmicl_text.evaluation.kinds.images import OfImages

PROTOCOL = (
    "Accuracy x 100 on test images, by frozen embeddings of the encoder without projector. kNN: the k nearest of the "
    "labelled images by cosine vote with exp(cosine / temperature) (Wu et al. 2018); copies of the image itself do not "
    "vote. linear: L2-regularised logistic regression on standardised embeddings, its C from 10^-3 to 10 by 3-fold "
    "cross-validation on the labelled images, from 5,000 images on by a fifth of them held out (if that can have each "
    "class)"
)
_GRID = tuple(10.0**power for power in range(-3, 2))
_FOLDS, _MANY, _HELD_OUT = 3, 5000, 0.2
_AT_ONCE = 1024  # images classified at a time
_RANDOM_SEED = 0
_SHOWN = 5  # classes that are named


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with known classes, and images to classify.

    Attributes:
        bank: Columns ``image``, pixels, and ``label``: ``N`` rows.
        test: The same: ``Q`` rows.
        size: Width and height.
    """

    bank: Dataset
    test: Dataset
    size: int

    @cached_property
    def classes(self) -> list[str]:
        """The names of the classes."""
        return sorted(set(self.bank["label"]) | set(self.test["label"]))

    def labels(self, rows: Dataset) -> np.ndarray:
        """Return the number of the class of each row: ``(n,)``."""
        number = {name: place for place, name in enumerate(self.classes)}
        return np.array([number[name] for name in rows["label"]])


def check_classes(labels: Sequence[str], options: OfImages, source: str) -> None:
    """Refuse labels by which nothing can be classified as it is asked for, before an image is encoded.

    Args:
        labels: Of the images to classify by.
        options: What is asked for.
        source: Where those images come from.

    Raises:
        InputError: There is one class only, or a class has fewer images than are to be drawn of it, or than the linear
            classifier needs.
    """
    counts = Counter(labels)
    smallest, fewest = min(counts.items(), key=itemgetter(1))
    if len(counts) == 1:
        raise InputError(f'{source}: all {fewest:,} images are of the class "{smallest}"; two are needed')
    has = f'{source}: the class "{smallest}" has {fewest:,} image{"" if fewest == 1 else "s"}'
    wanted = options.labels_per_class
    if wanted is not None and fewest < wanted:
        raise InputError(f"{has}, and labels_per_class asks for {wanted:,} of each")
    if "linear" in options.methods and (known := wanted or fewest) < _FOLDS:
        drawn = "" if wanted is None else f", of which labels_per_class takes {known}"
        raise InputError(
            f"{has}{drawn}; a linear classifier needs {_FOLDS} of each. Nearest neighbours alone do not: --method knn, "
            "or the name knn in a recipe"
        )


def check_known(asked: Sequence[str], known: Sequence[str], test: str, train: str) -> None:
    """Refuse images to classify that have a class which no labelled image has: none could be right.

    Args:
        asked: Classes of the images to classify.
        known: Classes of the labelled images.
        test: Where the images to classify come from.
        train: Where the labelled ones come from.

    Raises:
        InputError: There are such images; it names their classes, the most frequent first.
    """
    there = set(known)
    if unknown := Counter(label for label in asked if label not in there):
        named = ", ".join(f'"{label}" ({count:,})' for label, count in unknown.most_common(_SHOWN))
        more = f", and {len(unknown) - _SHOWN:,} more" if len(unknown) > _SHOWN else ""
        raise InputError(f"{test}: has classes of which {train} has no image to classify by: {named}{more}")


def measure_images(
    scored: ScoredModel,
    effort: Effort,
    load: Callable[[int], LabelledImages],
    at_hand: LabelledImages | None,
    options: OfImages,
    source: str,
) -> Measured:
    """Classify images by an encoder, and by what it is to be compared with.

    Args:
        scored: The encoder.
        effort: Without intervals, as in training, nothing is measured beside the encoder, and no picture is drawn.
        load: Loads the images at a size.
        at_hand: Images that are loaded already, at the size that is expected.
        options: What is asked for.
        source: Where the images come from.

    Raises:
        InputError: If the encoder reads no images.
        NoScoreError: If it gives numbers that are not finite.
    """
    size = image_size(scored.encoder)
    data = at_hand if at_hand is not None and at_hand.size == size else load(size)
    systems: dict[str, Callable[[Dataset], np.ndarray]] = {
        "": lambda rows: embed_images(scored.encoder, rows, size, effort)
    }
    if options.baselines and effort.baselines and effort.intervals:
        twin = random_twin(scored.encoder, _RANDOM_SEED)
        systems["raw pixels"] = lambda rows: raw_pixels(rows)
        systems["random encoder"] = lambda rows: embed_images(twin, rows, size, effort)
    classes, gold = data.labels(data.bank), data.labels(data.test)
    copies = _copies(data)
    chosen = list(_draws(classes, options))
    scores: list[Score] = []
    items: dict[str, Parts] = {}
    details: dict[str, Any] = {"classes": data.classes}
    drawn: dict[str, bytes] = {}
    for system, features in systems.items():
        bank, test = features(data.bank), features(data.test)
        if not (np.isfinite(bank).all() and np.isfinite(test).all()):
            raise NoScoreError(f"{scored.name} gives embeddings that are not finite numbers")
        if not system and effort.intervals:
            drawn = pictures(data, bank, test)
        for method in options.methods:
            name = f"{method}, {system}" if system else method
            right = np.empty((len(chosen), len(gold)))  # (draws, Q)
            tuned = []
            for number, rows in enumerate(chosen):
                if method == "kNN":
                    known = _positions(copies, rows)
                    predicted = nearest(bank[rows], classes[rows], test, known, options.k, options.temperature)
                else:
                    predicted, c = linear(bank[rows], classes[rows], test)
                    tuned.append(c)
                right[number] = predicted == gold
            parts = (Items("mean", right.mean(axis=0), source=digest(data.test["label"], image_names(data.test))),)
            found = scores_of_items(ACCURACY, {name: parts}, effort, average=False)
            items[ACCURACY.key(name)] = parts
            if len(chosen) > 1:
                sd = 100 * float(right.mean(axis=1).std(ddof=1))
                found.append(SD_OVER_DRAWS.score(name, sd, len(chosen)))
            scores += [score.model_copy(update={"baseline": bool(system)}) for score in found]
            if tuned:
                details.setdefault("C", {})[name] = tuned
            if system:
                own = items[ACCURACY.key(method)]
                test_ = paired_test({name: [own]}, {name: [parts]})
                details.setdefault("above", {})[name] = {
                    "difference": test_.difference,
                    "ci95": list(test_.ci95),
                    "p_value": test_.p_value,
                }
    described = scored.described()
    described["facts"] |= {
        "image_size": size,
        "k": min(options.k, len(chosen[0])) if "kNN" in options.methods else None,
        "temperature": options.temperature if "kNN" in options.methods else None,
        "labelled_images": len(data.bank),
        "labels_per_class": options.labels_per_class,
        "draws_of_labels": options.draws if options.draws > 1 else None,
    }
    result = Result(
        kind="images",
        name=options.result_name,
        protocol=PROTOCOL,
        data=source,
        scores=scores,
        details=details,
        **described,
    )
    return Measured(result, items, drawn)


def embed_images(model: SentenceTransformer, rows: Dataset, size: int, effort: Effort) -> np.ndarray:
    """Encode images in eval mode, and leave the encoder in the mode that it was in: ``(n, D)``.

    Args:
        model: The encoder.
        rows: A column ``image``, pixels.
        size: Width and height.
        effort: How many at a time.
    """
    import torch

    with eval_mode(model), torch.no_grad():
        found = [
            model(as_features(pixels, model))["sentence_embedding"][:, : model.truncate_dim].float()
            for pixels in image_batches(rows, size, effort.batch_size, effort.show_progress)
        ]
        return torch.cat(found).cpu().numpy()


def raw_pixels(rows: Dataset) -> np.ndarray:
    """Return the pixels of images as vectors from 0 to 1: ``(n, 3 S^2)``."""
    return np.stack([np.frombuffer(image, np.uint8) for image in rows["image"]]).astype(np.float32) / 255


def nearest(
    bank: np.ndarray,
    classes: np.ndarray,
    test: np.ndarray,
    copies: list[list[int]],
    k: int = 200,
    temperature: float = 0.07,
) -> np.ndarray:
    """Classify by the weighted vote of the nearest neighbours (Wu et al. 2018, equation 6).

    Args:
        bank: ``(N, D)``.
        classes: Of the bank, ``(N,)``.
        test: ``(Q, D)``.
        copies: Of each test image, the rows of the bank that are the same image, and do not vote.
        k: How many vote; all if there are fewer.
        temperature: A neighbour at cosine ``s`` has the vote ``exp(s / temperature)``.

    Returns:
        Classes ``(Q,)``; of equal votes the class of the smaller number.
    """
    unit, asked = _unit(bank), _unit(test)
    count = classes.max() + 1  # C
    k = min(k, len(bank))
    predicted = []
    for start in range(0, len(asked), _AT_ONCE):
        cosines = asked[start : start + _AT_ONCE] @ unit.T  # (q, N)
        for row, same in enumerate(copies[start : start + _AT_ONCE]):
            cosines[row, same] = -np.inf
        places = np.argpartition(-cosines, k - 1, axis=1)[:, :k]  # (q, k)
        votes = np.exp((np.take_along_axis(cosines, places, axis=1) - 1) / temperature)  # (q, k); a copy has none
        cells = np.arange(len(places))[:, None] * count + classes[places]  # (q, k), of the sums (q, C) in one row
        sums = np.bincount(cells.ravel(), votes.ravel(), len(places) * count).reshape(-1, count)  # (q, C)
        predicted.append(sums.argmax(axis=1))
    return np.concatenate(predicted)


def linear(bank: np.ndarray, classes: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, float]:
    """Classify by logistic regression on standardised features, its strength chosen within the bank.

    Args:
        bank: ``(N, D)``.
        classes: Of the bank, ``(N,)``, two or more, of three images each or more.
        test: ``(Q, D)``.

    Returns:
        Classes ``(Q,)``, and the chosen C.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold, StratifiedShuffleSplit

    mean, sd = bank.mean(axis=0), bank.std(axis=0)
    scale = np.where(sd > 1e-6, sd, 1)
    x, asked = ((rows - mean).astype(np.float64) / scale for rows in (bank, test))
    if len(x) < x.shape[1]:  # a solution lies in the span of the rows: the same classifier, in fewer dimensions
        basis, _ = np.linalg.qr(x.T)  # (D, N)
        x, asked = x @ basis, asked @ basis
    few = len(x) < _MANY or len(np.unique(classes)) > _HELD_OUT * len(x)  # each class must be held out once
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    held_out = StratifiedShuffleSplit(1, test_size=_HELD_OUT, random_state=0)
    search = GridSearchCV(
        LogisticRegression(tol=1e-4, max_iter=500), {"C": _GRID}, cv=folds if few else held_out, scoring="accuracy"
    )
    search.fit(x, classes)
    return search.predict(asked), float(search.best_params_["C"])


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def image_names(rows: Dataset) -> list[str]:
    """Return what tells each image from all others."""
    return [hashlib.blake2b(image, digest_size=8).hexdigest() for image in rows["image"]]


def _copies(data: LabelledImages) -> list[list[int]]:
    """Return the rows of the bank that are copies of each test image."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(image_names(data.bank)):
        places.setdefault(name, []).append(place)
    return [places.get(name, []) for name in image_names(data.test)]


def _positions(copies: list[list[int]], rows: np.ndarray) -> list[list[int]]:
    """Return copies as places among some rows of the bank."""
    if not any(copies):
        return copies
    place = {int(row): number for number, row in enumerate(rows)}
    return [[place[row] for row in same if row in place] for same in copies]


def _draws(classes: np.ndarray, options: OfImages) -> Iterator[np.ndarray]:
    """Yield the rows whose labels are known: all, or so many of each class, draw after draw."""
    wanted = options.labels_per_class
    if wanted is None:
        yield np.arange(len(classes))
        return
    for draw in range(options.draws):
        rng = np.random.default_rng(draw)
        of_class = [np.flatnonzero(classes == number) for number in np.unique(classes)]
        yield np.sort(np.concatenate([rng.permutation(rows)[:wanted] for rows in of_class]))
