"""f-MICL and InfoNCE as loops over pairs, and the table of f-divergences, in float64 and in terms of ``u``.

Nothing here shares a formula with the package: conjugates are evaluated as ``f*(t)`` at ``t = f'(u)``, kernels
from ``||a - b||^2``, sums by loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import wrightomega

Scalar = Callable[[float], float]
Ratio = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        f: The generator.
        slope: ``f'(u)``.
        conjugate: ``f*(t)``, the supremum of ``t u - f(u)`` over u.
        curvature: ``u^2 f''(u)``, the push of a negative pair; the pull of a positive pair is this over u.
    """

    f: Scalar
    slope: Scalar
    conjugate: Scalar
    curvature: Scalar

    def penalty(self, u: float) -> float:
        return self.conjugate(self.slope(u))


def tsallis(a: float) -> Row:
    return Row(
        f=lambda u: (u**a - 1) / (a - 1),
        slope=lambda u: a / (a - 1) * u ** (a - 1),
        conjugate=lambda t: ((a - 1) * t / a) ** (a / (a - 1)) + 1 / (a - 1),
        curvature=lambda u: a * u**a,
    )


def _jeffreys_conjugate(t: float) -> float:
    w = float(wrightomega(1 - t))  # Lambert's W of e^{1-t}, without forming e^{1-t}
    return w + 1 / w + t - 2


TABLE = {
    "kl": Row(lambda u: u * math.log(u), lambda u: math.log(u) + 1, lambda t: math.exp(t - 1), lambda u: u),
    "js": Row(
        lambda u: u * math.log(u) - (u + 1) * math.log((u + 1) / 2),
        lambda u: math.log(2) + math.log(u / (1 + u)),
        lambda t: -math.log(2 - math.exp(t)),
        lambda u: u / (1 + u),
    ),
    "pearson": Row(lambda u: (u - 1) ** 2, lambda u: 2 * (u - 1), lambda t: t**2 / 4 + t, lambda u: 2 * u**2),
    "sh": Row(
        lambda u: (math.sqrt(u) - 1) ** 2,
        lambda u: 1 - u**-0.5,
        lambda t: t / (1 - t),
        lambda u: math.sqrt(u) / 2,
    ),
    "tsallis": tsallis(2.0),
    "vlc": Row(
        lambda u: (u - 1) ** 2 / (u + 1),
        lambda u: 1 - 4 / (u + 1) ** 2,
        lambda t: 4 - t - 4 * math.sqrt(1 - t),
        lambda u: 8 * u**2 / (1 + u) ** 3,
    ),
    "rkl": Row(lambda u: -math.log(u), lambda u: -1 / u, lambda t: -1 - math.log(-t), lambda u: 1.0),
    "neyman": Row(lambda u: (1 - u) ** 2 / u, lambda u: 1 - u**-2, lambda t: 2 - 2 * math.sqrt(1 - t), lambda u: 2 / u),
    "jeffreys": Row(
        lambda u: (u - 1) * math.log(u),
        lambda u: 1 - 1 / u + math.log(u),
        _jeffreys_conjugate,
        lambda u: 1 + u,
    ),
}
RECOMMENDED = ("kl", "js", "pearson", "sh", "tsallis", "vlc")
RULED_OUT = ("rkl", "neyman", "jeffreys")


def gaussian(sigma: float, mu: float = 1.0) -> Ratio:
    return lambda a, b: mu * math.exp(-float((a - b) @ (a - b)) / (2 * sigma**2))


def exponential_of_cosine(temperature: float) -> Ratio:
    return lambda a, b: math.exp(float(a @ b) / temperature)


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.array([v / math.sqrt(float(v @ v)) for v in vectors])


def negative_pairs(
    x: np.ndarray,
    y: np.ndarray,
    extra: np.ndarray,
    negatives: str,
    texts: Sequence[set],
    extra_texts: Sequence[object],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ordered pairs that are negatives; ``texts[i]`` are the texts of (x_i, y_i), whatever identifies them."""
    rows = {"within": [x], "cross": [x], "both": [x, y]}[negatives]
    columns = {"within": [x], "cross": [y], "both": [x, y]}[negatives]
    for a in rows:
        for b in columns:
            for i in range(len(a)):
                for j in range(len(b)):
                    if i != j and not texts[i] & texts[j]:
                        yield a[i], b[j]
    for i in range(len(x)):
        for k in range(len(extra)):
            if extra_texts[k] not in texts[i]:
                yield x[i], extra[k]


def fmicl(
    x: np.ndarray,
    y: np.ndarray,
    extra: np.ndarray | None = None,
    *,
    row: Row,
    ratio: Ratio,
    alpha: float = 1.0,
    negatives: str = "within",
    texts: Sequence[set] | None = None,
    extra_texts: Sequence[object] | None = None,
) -> dict[str, float]:
    """``-1/N sum_i f'(u(x_i, y_i))`` and ``alpha`` times the mean of ``f*(f'(u))`` over negative pairs.

    Vectors need not be unit; they are normalised first.
    """
    extra = np.empty((0, x.shape[1])) if extra is None else extra
    x, y, extra = unit(x), unit(y), unit(extra)
    texts = texts or [{i} for i in range(len(x))]
    extra_texts = extra_texts or [("extra", k) for k in range(len(extra))]
    positive = sum(row.slope(ratio(x[i], y[i])) for i in range(len(x))) / len(x)
    penalties = [row.penalty(ratio(a, b)) for a, b in negative_pairs(x, y, extra, negatives, texts, extra_texts)]
    return {"positive": -positive, "negative": alpha * sum(penalties) / len(penalties) if penalties else 0.0}


def infonce(
    x: np.ndarray,
    y: np.ndarray,
    extra: np.ndarray | None = None,
    *,
    temperature: float,
    texts: Sequence[set] | None = None,
    extra_texts: Sequence[object] | None = None,
) -> float:
    """Mean of ``-log( e_ii / (e_ii + sum of e_ij and e_ik over negatives) )`` with ``e = exp(cos / temperature)``."""
    extra = np.empty((0, x.shape[1])) if extra is None else extra
    x, y, extra = unit(x), unit(y), unit(extra)
    texts = texts or [{i} for i in range(len(x))]
    extra_texts = extra_texts or [("extra", k) for k in range(len(extra))]
    total = 0.0
    for i in range(len(x)):
        own = math.exp(float(x[i] @ y[i]) / temperature)
        denominator = own
        for j in range(len(y)):
            if j != i and not texts[i] & texts[j]:
                denominator += math.exp(float(x[i] @ y[j]) / temperature)
        for k in range(len(extra)):
            if extra_texts[k] not in texts[i]:
                denominator += math.exp(float(x[i] @ extra[k]) / temperature)
        total -= math.log(own / denominator)
    return total / len(x)


def gradient(function: Callable[..., float], *arrays: np.ndarray, step: float = 1e-5) -> list[np.ndarray]:
    """Central differences of ``function(*arrays)`` in every entry of every array."""
    gradients = []
    for array in arrays:
        slope = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            kept = array[index]
            array[index] = kept + step
            above = function(*arrays)
            array[index] = kept - step
            below = function(*arrays)
            array[index] = kept
            slope[index] = (above - below) / (2 * step)
        gradients.append(slope)
    return gradients
