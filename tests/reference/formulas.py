"""Every objective as loops over pairs, and the table of f-divergences, in float64 and in terms of ``u``.

Nothing here shares a formula with the package: conjugates are evaluated as ``f*(t)`` at ``t = f'(u)``, kernels
from ``||a - b||^2``, sums by loops, ratios of sums as they are printed.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, TypeVar

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import wrightomega

Scalar = Callable[[float], float]
Ratio = Callable[[np.ndarray, np.ndarray], float]
Value = TypeVar("Value", float, dict[str, float])


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        f: The generator.
        slope: ``f'(u)``.
        conjugate: ``f*(t)``, the supremum of ``t u - f(u)`` over u.
        curvature: ``u^2 f''(u)``, the push of a negative pair; the pull of a positive pair is this over u.
        domain: Range of ``f'``. Above it the conjugate is infinite, below it the monotone conjugate is constant.
        at_half: ``f'(u)`` and ``f*(f'(u))`` at u = 0.5, computed by hand from the paper's table; None if not listed.
        ruled_out: Whether the paper's theory excludes it.
    """

    f: Scalar
    slope: Scalar
    conjugate: Scalar
    curvature: Scalar
    domain: tuple[float, float] = (-math.inf, math.inf)
    at_half: tuple[float, float] | None = None
    ruled_out: bool = False

    def penalty(self, u: float) -> float:
        return self.conjugate(self.slope(u))


def tsallis(a: float) -> Row:
    return Row(
        f=lambda u: (u**a - 1) / (a - 1),
        slope=lambda u: a / (a - 1) * u ** (a - 1),
        conjugate=lambda t: ((a - 1) * t / a) ** (a / (a - 1)) + 1 / (a - 1),
        curvature=lambda u: a * u**a,
        domain=(0, math.inf),
    )


def _jeffreys_conjugate(t: float) -> float:
    w = float(wrightomega(1 - t))  # Lambert's W of e^{1-t}, without forming e^{1-t}
    return w + 1 / w + t - 2


TABLE = {
    "kl": Row(
        lambda u: u * math.log(u),
        lambda u: math.log(u) + 1,
        lambda t: math.exp(t - 1),
        lambda u: u,
        at_half=(0.306853, 0.5),
    ),
    "js": Row(
        lambda u: u * math.log(u) - (u + 1) * math.log((u + 1) / 2),
        lambda u: math.log(2) + math.log(u / (1 + u)),
        lambda t: -math.log(2 - math.exp(t)),
        lambda u: u / (1 + u),
        domain=(-math.inf, math.log(2)),
        at_half=(-0.405465, -0.287682),
    ),
    "pearson": Row(
        lambda u: (u - 1) ** 2,
        lambda u: 2 * (u - 1),
        lambda t: t**2 / 4 + t,
        lambda u: 2 * u**2,
        domain=(-2, math.inf),
        at_half=(-1.0, -0.75),
    ),
    "sh": Row(
        lambda u: (math.sqrt(u) - 1) ** 2,
        lambda u: 1 - u**-0.5,
        lambda t: t / (1 - t),
        lambda u: math.sqrt(u) / 2,
        domain=(-math.inf, 1),
        at_half=(-0.414214, -0.292893),
    ),
    "tsallis": tsallis(2.0),
    "vlc": Row(
        lambda u: (u - 1) ** 2 / (u + 1),
        lambda u: 1 - 4 / (u + 1) ** 2,
        lambda t: 4 - t - 4 * math.sqrt(1 - t),
        lambda u: 8 * u**2 / (1 + u) ** 3,
        domain=(-3, 1),
        at_half=(-0.777778, -0.555556),
    ),
    "rkl": Row(
        lambda u: -math.log(u),
        lambda u: -1 / u,
        lambda t: -1 - math.log(-t),
        lambda u: 1.0,
        domain=(-math.inf, 0),
        at_half=(-2.0, -1.693147),
        ruled_out=True,
    ),
    "neyman": Row(
        lambda u: (1 - u) ** 2 / u,
        lambda u: 1 - u**-2,
        lambda t: 2 - 2 * math.sqrt(1 - t),
        lambda u: 2 / u,
        domain=(-math.inf, 1),
        at_half=(-3.0, -2.0),
        ruled_out=True,
    ),
    "jeffreys": Row(
        lambda u: (u - 1) * math.log(u),
        lambda u: 1 - 1 / u + math.log(u),
        _jeffreys_conjugate,
        lambda u: 1 + u,
        at_half=(-1.693147, -1.193147),
        ruled_out=True,
    ),
}
"""All that the tests know of each divergence."""
RECOMMENDED = tuple(name for name, row in TABLE.items() if not row.ruled_out)
RULED_OUT = tuple(name for name, row in TABLE.items() if row.ruled_out)


def squared(a: np.ndarray, b: np.ndarray) -> float:
    return float((a - b) @ (a - b))


def gaussian(sigma: float, mu: float = 1.0) -> Ratio:
    return lambda a, b: mu * math.exp(-squared(a, b) / (2 * sigma**2))


def exponential_of_cosine(temperature: float) -> Ratio:
    return lambda a, b: math.exp(float(a @ b) / temperature)


def exponential_of_distance(gamma: float, temperature: float) -> Ratio:
    return lambda a, b: math.exp(-(math.sqrt(squared(a, b)) ** gamma) / temperature)


def of_halves(first: Ratio, second: Ratio) -> Ratio:
    """Sum of a kernel of the first half of the dimensions and one of the second, each half normalised."""

    def ratio(a: np.ndarray, b: np.ndarray) -> float:
        (a_first, a_second), (b_first, b_second) = (unit(np.split(v, 2)) for v in (a, b))
        return first(a_first, b_first) + second(a_second, b_second)

    return ratio


def unit(vectors: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    return np.array([v / math.sqrt(float(v @ v)) for v in vectors])


class Item(NamedTuple):
    """A unit vector and the texts it stands for, whatever identifies them."""

    vector: np.ndarray
    texts: set


class Pairs:
    """A batch; vectors need not be unit, they are normalised first.

    Args:
        x: Anchors ``(B, D)``.
        y: Positives ``(B, D)``.
        extra: Explicit negatives ``(M, D)``.
        texts: ``texts[i]`` are the texts of (x_i, y_i); default all differ.
        extra_texts: The text of each explicit negative; default all differ.
        region: Shares ``(outer, inner)`` of a row's candidates.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        extra: np.ndarray | None = None,
        texts: Sequence[set] | None = None,
        extra_texts: Sequence[object] | None = None,
        region: tuple[float, float] | None = None,
    ) -> None:
        extra = np.empty((0, x.shape[1])) if extra is None else extra
        texts = texts or [{i} for i in range(len(x))]
        extra_texts = extra_texts or [("extra", k) for k in range(len(extra))]
        self.x = [Item(*item) for item in zip(unit(x), texts, strict=True)]
        self.y = [Item(*item) for item in zip(unit(y), texts, strict=True)]
        self.extra = [Item(v, {text}) for v, text in zip(unit(extra), extra_texts, strict=True)]
        self.region = region

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The positive pairs."""
        return ((a.vector, b.vector) for a, b in zip(self.x, self.y, strict=True))

    def __len__(self) -> int:
        return len(self.x)

    def negatives(self, row: Item, *columns: Sequence[Item]) -> list[np.ndarray]:
        """Vectors that share no text with the row; of each set of columns those in the region."""
        found = []
        for column in columns:
            candidates = [item.vector for item in column if not item.texts & row.texts]
            if self.region and candidates:
                candidates = in_region(row.vector, candidates, *self.region)
            found += candidates
        return found

    def swapped(self) -> Pairs:
        other = copy.copy(self)
        other.x, other.y, other.extra = self.y, self.x, []
        return other


def in_region(vector: np.ndarray, candidates: Sequence[np.ndarray], outer: float, inner: float) -> list[np.ndarray]:
    """Candidates from the most similar down: of the first ``outer``, without the first ``inner`` of those."""
    ordered = sorted(candidates, key=lambda candidate: -float(vector @ candidate))
    ball = max(1, math.floor(Fraction(str(outer)) * len(ordered)))
    return ordered[math.floor(Fraction(str(inner)) * ball) : ball]


def of_arrays(equation: Callable[..., Value]) -> Callable[..., Value]:
    """Make an equation on :class:`Pairs` callable with the arguments of :class:`Pairs`, then its own by name."""

    @functools.wraps(equation)
    def on_arrays(
        *arrays: np.ndarray,
        texts: Sequence[set] | None = None,
        extra_texts: Sequence[object] | None = None,
        region: tuple[float, float] | None = None,
        **settings: object,
    ) -> Value:
        return equation(Pairs(*arrays, texts=texts, extra_texts=extra_texts, region=region), **settings)

    return on_arrays


def mean(values: Iterable[float]) -> float:
    """Mean, 0 of nothing."""
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def log_sum(values: Iterable[float]) -> float:
    """Log of a sum, 0 of nothing."""
    values = list(values)
    return math.log(sum(values)) if values else 0.0


def fmicl_pairs(pairs: Pairs, negatives: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ordered pairs (x_i, x_j), (x_i, y_j), both of these, or all of the 2B rows; and (x_i, n_k)."""
    return [(a.vector, b) for a, _, candidates in fmicl_rows(pairs, negatives) for b in candidates]


def fmicl_rows(pairs: Pairs, negatives: str) -> list[tuple[Item, Item, list[np.ndarray]]]:
    """The same by row: the row, its positive, and its negatives."""
    columns = {
        "within": [pairs.x],
        "cross": [pairs.y],
        "anchor": [pairs.x, pairs.y],
        "both": [pairs.x + pairs.y],
    }[negatives]
    found = [(a, b, pairs.negatives(a, *columns, pairs.extra)) for a, b in zip(pairs.x, pairs.y, strict=True)]
    if negatives == "both":
        found += [(b, a, pairs.negatives(b, *columns)) for a, b in zip(pairs.x, pairs.y, strict=True)]
    return found


@of_arrays
def fmicl(pairs: Pairs, *, row: Row, ratio: Ratio, alpha: float = 1.0, negatives: str = "within") -> dict[str, float]:
    """``-1/N sum_i f'(u(x_i, y_i))`` and ``alpha`` times the mean of ``f*(f'(u))`` over negative pairs."""
    penalty = mean(row.penalty(ratio(a, b)) for a, b in fmicl_pairs(pairs, negatives))
    return {"positive": -mean(row.slope(ratio(a, b)) for a, b in pairs), "negative": alpha * penalty}


@of_arrays
def fmicl_dv(pairs: Pairs, *, row: Row, ratio: Ratio, negatives: str = "within") -> float:
    """The least over v of ``-mean (f'(u) - v)`` over positives ``+ mean f*(f'(u) - v)`` over negatives."""
    positive = mean(row.slope(ratio(a, b)) for a, b in pairs)
    critics = [row.slope(ratio(a, b)) for a, b in fmicl_pairs(pairs, negatives)]
    low, high = row.domain

    def loss(v: float) -> float:
        return -positive + v + mean(row.conjugate(max(critic - v, low)) for critic in critics)

    # At the ends all critics are at least, or at most, that of the ratio 1; none may leave the domain.
    ends = max(min(critics) - row.slope(1.0), max(critics) - high), max(critics) - row.slope(1.0)
    if ends[0] >= ends[1]:
        return loss(ends[1])
    return float(minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-13}).fun)


def f_softargmax(row: Row, critics: Sequence[float], total: float = 1.0) -> tuple[float, list[float]]:
    """The shift v at which ``w(t_j - v)``, ``w = (f')^{-1}``, sum to ``total``, and those weights.

    By nested bisections on ``f'`` alone, with no inverse and no bracket derived from the divergence.
    """

    def weight(t: float) -> float:
        low, high = -700.0, 700.0  # of log w; f' increases
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if _slope(row, middle) < t else (low, middle)
        return math.exp(low) if low > -699 else 0.0

    at_one = row.slope(1.0)
    low, high = min(critics) - 1e3, max(critics) - at_one + 1e4
    ends = [max(critics) - row.domain[1]] if math.isfinite(row.domain[1]) else []
    low = max([low, *ends])
    for _ in range(120):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(weight(t - middle) for t in critics) > total else (low, middle)
    return high, [weight(t - high) for t in critics]


def _slope(row: Row, log_ratio: float) -> float:
    """``f'(u)`` by ``log u``, its limits where u or f' is too large or too small for a float."""
    try:
        return row.slope(math.exp(log_ratio))
    except (OverflowError, ZeroDivisionError, ValueError):
        return row.domain[0] if log_ratio < 0 else row.domain[1]


def overlap(pairs: Pairs, negatives: str) -> float:
    """Twice the share of negative pairs as similar as their anchor's positive, ties half, at most 1; of all regions."""
    everywhere = copy.copy(pairs)
    everywhere.region = None
    nearer = [
        (a.vector @ b > a.vector @ positive.vector) + 0.5 * (a.vector @ b == a.vector @ positive.vector)
        for a, positive, candidates in fmicl_rows(everywhere, negatives)
        for b in candidates
    ]
    return min(1.0, 2 * mean(nearer))


@of_arrays
def fmicl_row(
    pairs: Pairs,
    *,
    row: Row,
    ratio: Ratio | None,
    negatives: str = "within",
    critic: str = "ratio",
    alpha: float | None = None,
) -> float:
    """Mean over rows of the least over v of ``v - T_own + alpha mean f*(T - v) + alpha f(1/alpha)``.

    The candidates of a row are its positive and its negatives; alpha is their number unless given. Without a ratio it
    is that of the cosine at the temperature that the batch's overlap gives.
    """
    ratio = ratio or exponential_of_cosine(0.05 * (1 + 3 * overlap(pairs, negatives)))

    def score(a: np.ndarray, b: np.ndarray) -> float:
        return math.log(ratio(a, b)) if critic == "ratio" else row.slope(ratio(a, b))

    losses = []
    for a, positive, candidates in fmicl_rows(pairs, negatives):
        critics = [score(a.vector, positive.vector), *(score(a.vector, b) for b in candidates)]
        weight = len(critics) if alpha is None else alpha

        def loss(v: float, critics: list[float] = critics, weight: float = weight) -> float:
            return v + weight * mean(row.conjugate(max(t - v, row.domain[0])) for t in critics)

        # At the ends the largest critic has, or all together have, what the ratios n/alpha and 1/alpha have.
        ends = max(critics) - row.slope(len(critics) / weight), max(critics) - row.slope(1 / weight)
        least = float(minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-13}).fun)
        losses.append(min(least, loss(ends[1])) - critics[0] + weight * row.f(1 / weight))
    return mean(losses)


@of_arrays
def infonce(pairs: Pairs, *, ratio: Ratio, symmetric: bool = False) -> float:
    """Mean of ``-log( u_ii / (u_ii + sum of u_ij and u_ik over negatives) )``."""
    losses = [
        -math.log(own / (own + sum(ratio(a.vector, b) for b in p.negatives(a, p.y, p.extra))))
        for p in ([pairs, pairs.swapped()] if symmetric else [pairs])
        for a, own in zip(p.x, (ratio(*pair) for pair in p), strict=True)
    ]
    return mean(losses)


@of_arrays
def ntxent(pairs: Pairs, *, ratio: Ratio) -> float:
    """The 2N rows ``z = (x, y)``: mean of ``-log( u(z_i, z_p(i)) / sum_{j != i} u(z_i, z_j) )``; Kernel-InfoNCE."""
    return _of_both_views(pairs, ratio)


@of_arrays
def kernel_infonce_mixed(pairs: Pairs, *, first: Ratio, second: Ratio, weight: float) -> float:
    return weight * _of_both_views(pairs, first) + (1 - weight) * _of_both_views(pairs, second)


def _of_both_views(pairs: Pairs, ratio: Ratio) -> float:
    both = pairs.x + pairs.y
    total = 0.0
    for row, other in zip(both, pairs.y + pairs.x, strict=True):
        own = ratio(row.vector, other.vector)
        total -= math.log(own / (own + sum(ratio(row.vector, b) for b in pairs.negatives(row, both, pairs.extra))))
    return total / len(both)


@of_arrays
def alignment_uniformity(
    pairs: Pairs, *, power: float = 2.0, t: float = 2.0, align_weight: float = 1.0, uniform_weight: float = 1.0
) -> float:
    """``w_a mean ||x - y||^power + w_u (U(x) + U(y)) / 2``, ``U(x) = log mean exp(-t ||x_i - x_j||^2)``."""

    def uniformity(rows: Sequence[Item], extra: Sequence[Item]) -> float:
        distances = [squared(a.vector, b) for a in rows for b in pairs.negatives(a, rows, extra)]
        return math.log(mean(math.exp(-t * d) for d in distances)) if distances else 0.0

    alignment = mean(math.sqrt(squared(a, b)) ** power for a, b in pairs)
    uniform = (uniformity(pairs.x, pairs.extra) + uniformity(pairs.y, [])) / 2
    return align_weight * alignment + uniform_weight * uniform


@of_arrays
def spectral(pairs: Pairs, *, mu: float = 1.0) -> float:
    """``(-2 mean z_i.z'_i + mean (z_i.z'_j)^2) / mu`` of features ``z`` of norm ``sqrt(mu)``."""
    positive = mean(mu * float(a @ b) for a, b in pairs)
    squares = [(mu * float(a @ b)) ** 2 for a, b in fmicl_pairs(pairs, "cross")]
    return (-2 * positive + mean(squares)) / mu


@of_arrays
def dhel(pairs: Pairs, *, temperature: float, both_views: bool = True) -> float:
    """``-cos(x_i, y_i) / tau + log sum exp(cos(x_i, x_j) / tau) + log sum exp(cos(y_i, y_j) / tau)``."""
    ratio = exponential_of_cosine(temperature)
    total = -sum(float(a @ b) / temperature for a, b in pairs)
    total += sum(log_sum(ratio(a.vector, b) for b in pairs.negatives(a, pairs.x, pairs.extra)) for a in pairs.x)
    if both_views:
        total += sum(log_sum(ratio(a.vector, b) for b in pairs.negatives(a, pairs.y)) for a in pairs.y)
    return total / len(pairs)


@of_arrays
def kcl(pairs: Pairs, *, kernel: Ratio, gamma: float) -> float:
    """``-2 mean K(x_i, y_i) + gamma ( mean K(x_i, x_j) + mean K(y_i, y_j) )``."""
    of_x = mean(kernel(a.vector, b) for a in pairs.x for b in pairs.negatives(a, pairs.x, pairs.extra))
    of_y = mean(kernel(a.vector, b) for a in pairs.y for b in pairs.negatives(a, pairs.y))
    return -2 * mean(kernel(a, b) for a, b in pairs) + gamma * (of_x + of_y)


@of_arrays
def dcl(pairs: Pairs, *, temperature: float, weight_sigma: float | None = None, symmetric: bool = True) -> float:
    """``-w_i s_i / tau + log sum exp of {x_i.x_j, x_i.y_j} / tau``, ``w_i = 2 - N softmax_i(s / sigma)``."""
    ratio = exponential_of_cosine(temperature)
    cosines = [float(a @ b) for a, b in pairs]
    weights = [1.0] * len(pairs)
    if weight_sigma is not None:
        normaliser = sum(math.exp(s / weight_sigma) for s in cosines)
        weights = [2 - len(pairs) * math.exp(s / weight_sigma) / normaliser for s in cosines]
    losses = [
        -w * s / temperature + log_sum(ratio(a.vector, b) for b in p.negatives(a, p.x, p.y, p.extra))
        for p in ([pairs, pairs.swapped()] if symmetric else [pairs])
        for a, s, w in zip(p.x, cosines, weights, strict=True)
    ]
    return mean(losses)


@of_arrays
def focal_infonce(pairs: Pairs, *, temperature: float, margin: float) -> float:
    """``-log( exp(s_ii^2 / tau) / ( exp(s_ii^2 / tau) + sum exp(s_ij (s_ij + m) / tau) ) )``."""
    total = 0.0
    for a, b in zip(pairs.x, pairs.y, strict=True):
        own = math.exp(float(a.vector @ b.vector) ** 2 / temperature)
        cosines = [float(a.vector @ c) for c in pairs.negatives(a, pairs.y, pairs.extra)]
        total -= math.log(own / (own + sum(math.exp(s * (s + margin) / temperature) for s in cosines)))
    return total / len(pairs)


@of_arrays
def hcl(pairs: Pairs, *, temperature: float, tau_plus: float, beta: float) -> float:
    """``Ng = max( (-tau_plus M pos + sum (imp neg) / mean(imp)) / (1 - tau_plus), M e^{-1/tau} )``.

    ``imp = neg^beta``, and the loss is ``-log( pos / (pos + Ng) )``.
    """
    ratio = exponential_of_cosine(temperature)
    both = pairs.x + pairs.y
    total = 0.0
    for row, other in zip(both, pairs.y + pairs.x, strict=True):
        pos = ratio(row.vector, other.vector)
        neg = [ratio(row.vector, b) for b in pairs.negatives(row, both, pairs.extra)]
        if neg:
            imp = [u**beta for u in neg]
            reweighted = sum(i * u for i, u in zip(imp, neg, strict=True)) / mean(imp)
            corrected = (reweighted - tau_plus * len(neg) * pos) / (1 - tau_plus)
            total -= math.log(pos / (pos + max(corrected, len(neg) * math.exp(-1 / temperature))))
    return total / len(both)


@of_arrays
def contextual_infonce(pairs: Pairs, *, temperature: float, offered: Sequence[Sequence[bool]] | None = None) -> float:
    """``-log( exp(s_i / tau) / sum over the chosen and the offered items of exp(s_ik / tau) )``."""
    ratio = exponential_of_cosine(temperature)
    total = 0.0
    for i, (a, b) in enumerate(zip(pairs.x, pairs.y, strict=True)):
        items = [n for k, n in enumerate(pairs.extra) if offered is None or offered[i][k]]
        chosen = ratio(a.vector, b.vector)
        total -= math.log(chosen / (chosen + sum(ratio(a.vector, n.vector) for n in items if not n.texts & a.texts)))
    return total / len(pairs)


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
