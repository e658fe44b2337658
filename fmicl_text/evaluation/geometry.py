"""How an encoder lays sentences or images out on the sphere, from pairs that mean the same, without other labels.

All of it is about unit vectors, whether or not the encoder normalises; ``s`` is the cosine of a pair and
``d2 = ||a - b||^2 = 2 - 2 s``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, field_validator

from fmicl_text.encoders.images import normalised, require_texts
from fmicl_text.errors import InputError
from fmicl_text.evaluation.density_ratio import EDGES, DensityRatio, divergence_bounds, fit_density_ratio
from fmicl_text.evaluation.image_batches import eval_mode, image_batches
from fmicl_text.evaluation.items import Measured
from fmicl_text.evaluation.kind import Effort, NoScoreError
from fmicl_text.evaluation.metrics import DENSITY_RATIO, GEOMETRY, Metric, mutual_information
from fmicl_text.evaluation.pair_sets import PairSet
from fmicl_text.evaluation.results import Result, Score
from fmicl_text.evaluation.scored_model import ScoredModel, scored_model
from fmicl_text.evaluation.statistics import mean_interval, percentile_interval, resampled_pair_means

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer

    from fmicl_text.data.section import AugmentSection

_HUB_NEIGHBOURS = 10
_T = 2.0
_PROBES, _SHOWN_NEIGHBOURS = 6, 3
_SEED_OF_VIEWS, _IMAGES_AT_ONCE = 0, 128  # views follow from both, so that they are the same for every encoder


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% bootstrap interval."""

    value: float
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Histograms:
    """Cosines counted between ``edges`` ``(K + 1,)``: ``(K,)`` for each kind of pair.

    Attributes:
        edges: From -1 to 1.
        positive: Pairs that mean the same.
        random: All other pairs of different sentences.
        hard: Each sentence with the nearest that is not its positive.
    """

    edges: list[float]
    positive: list[int]
    random: list[int]
    hard: list[int]


@dataclass(frozen=True)
class Geometry:
    """The result of :func:`geometry`.

    Attributes:
        sentences: ``N``.
        positives: ``P``.
        dimensions: ``D``.
        alignment: Mean ``d2`` of positive pairs, intervals over the pairs (Wang & Isola 2020); 0 is best.
        uniformity: ``log mean exp(-2 d2)`` of all pairs of different sentences, intervals over the sentences (Wang &
            Isola 2020); between about -4, evenly spread, and 0, all in one point.
        wasserstein_uniformity: Wasserstein-1 distance between the cosines of all pairs and those of points spread
            evenly on the sphere in ``D`` dimensions (Koromilas et al. 2024); 0 is evenly spread, 1 all in one point.
        effective_rank: ``exp`` of the entropy of the singular values of the ``(N, D)`` matrix (Roy & Vetterli 2007),
            from 1 to ``D``.
        anisotropy: Mean cosine of all pairs, intervals over the sentences (Ethayarajh 2019).
        hubness: Skewness of how often a sentence is among the 10 nearest of another (Radovanovic et al. 2010); None
            with fewer than 12 sentences, or if all are equally far from each other.
        density_ratio: The Gaussian that fits the density ratio of positive to random pairs, f-MICL's assumption;
            None if none does.
        mutual_information: Divergence -> lower bound of the f-mutual information, with the fitted Gaussian as
            critic; empty if there is none.
        histograms: Cosines of positive, random and hard pairs.
    """

    sentences: int
    positives: int
    dimensions: int
    alignment: Estimate
    uniformity: Estimate
    wasserstein_uniformity: float
    effective_rank: float
    anisotropy: Estimate
    hubness: float | None
    density_ratio: DensityRatio | None
    mutual_information: dict[str, Estimate]
    histograms: Histograms


@dataclass(frozen=True)
class Neighbours:
    """A sentence, and the nearest others with their cosine, nearest first."""

    sentence: str
    nearest: dict[str, float]


class Layout(BaseModel):
    """What the result of a geometry keeps in its ``details``: every figure, the histograms and some neighbours."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    geometry: Geometry
    neighbours: list[Neighbours] = []

    @field_validator("geometry")
    @classmethod
    def _counted_between_edges(cls, geometry: Geometry) -> Geometry:
        histograms = geometry.histograms
        for counts in (histograms.positive, histograms.random, histograms.hard):
            if len(counts) + 1 != len(histograms.edges):
                raise ValueError("histograms must have one count between every two edges")
        if not any(histograms.positive):
            raise ValueError("histograms must count positive pairs")
        return geometry


PROTOCOL = "unit vectors of the sentences; positive pairs mean the same, random pairs are all others"
PROTOCOL_OF_IMAGES = (
    "unit vectors of views; positive pairs are two augmented views of one image, random pairs all others"
)
SENTENCES, IMAGES = "sentences", "images"
"""What the scores are of."""


def geometry_scores(geometry: Geometry, of: str = SENTENCES) -> list[Score]:
    """Return the figures as scores; one that could not be measured, such as the hubness of ten texts, is left out."""
    ratio = geometry.density_ratio
    figures: list[tuple[Metric, Estimate | float | None]] = [
        *((metric, getattr(geometry, name)) for name, metric in GEOMETRY.items()),
        *((metric, getattr(ratio, name)) for name, metric in DENSITY_RATIO.items() if ratio),
        *((mutual_information(name), bound) for name, bound in geometry.mutual_information.items()),
    ]
    scores = []
    for metric, figure in figures:
        n = geometry.positives if metric is GEOMETRY["alignment"] else geometry.sentences
        if isinstance(figure, Estimate):
            scores.append(metric.score(of, figure.value, n, figure.ci95))
        elif figure is not None:
            scores.append(metric.score(of, figure, n))
    return scores


def measure_geometry(
    model: SentenceTransformer | str,
    pairs: PairSet,
    batch_size: int = 128,
    show_progress: bool = False,
    name: str | None = None,
) -> Measured:
    """Embed the sentences of ``pairs`` and measure how they lie.

    Args:
        model: A loaded model, or what :func:`fmicl_text.encoders.text.load_model` takes.
        pairs: From :mod:`fmicl_text.evaluation.pair_sets`.
        batch_size: Sentences encoded at a time.
        show_progress: Draw a progress bar on standard error.
        name: Name of the model in the result; by default ``model`` itself, if it is a string.

    Raises:
        InputError: No such model, one of images, or as :func:`geometry`.
    """
    return measure_pair_set(scored_model(model, name), Effort(batch_size, show_progress), pairs)


def measure_pair_set(scored: ScoredModel, effort: Effort, pairs: PairSet) -> Measured:
    """Measure an encoder; see :func:`measure_geometry`. Intervals cost little here, and are always computed."""
    require_texts(scored.encoder)
    embeddings = scored.encoder.encode(
        pairs.sentences, batch_size=effort.batch_size, show_progress_bar=effort.show_progress
    )
    layout = Layout(
        geometry=geometry(embeddings, pairs.positives),
        neighbours=_neighbours(pairs.sentences, _cosines(_unit(embeddings))),
    )
    return _measured(scored, layout, PROTOCOL, pairs.source, SENTENCES)


def measure_views(
    scored: ScoredModel, effort: Effort, load: Callable[[int], Dataset], section: AugmentSection, source: str
) -> Measured:
    """Measure an encoder of images on two views of each image, which are the same for every encoder of one size.

    Args:
        scored: The encoder.
        effort: Whether to show progress.
        load: Loads a column ``image``, pixels, at a size.
        section: How views are made.
        source: Where the images come from.

    Raises:
        InputError: The encoder reads no images, kornia is not installed, or as :func:`geometry`.
    """
    import torch

    from fmicl_text.encoders.views import AugmentedViews

    views = AugmentedViews(section, scored.encoder)
    images = load(views.size)
    drawn: list[list[np.ndarray]] = []
    with eval_mode(scored.encoder), torch.no_grad():
        for number, pixels in enumerate(image_batches(images, views.size, _IMAGES_AT_ONCE, effort.show_progress)):
            both = views.draw(pixels.to(scored.encoder.device), _SEED_OF_VIEWS, number)  # 2 of (B, 3, S, S)
            features = [{"pixel_values": normalised(view, scored.encoder), "modality": "image"} for view in both]
            found = [scored.encoder(view)["sentence_embedding"] for view in features]  # (B, D) each
            drawn.append([view[:, : scored.encoder.truncate_dim].float().cpu().numpy() for view in found])
    embeddings = np.concatenate([np.concatenate(view) for view in zip(*drawn, strict=True)])  # (2 N, D)
    firsts = np.arange(len(images))
    layout = Layout(geometry=geometry(embeddings, np.stack([firsts, firsts + len(images)], axis=1)))
    return _measured(scored, layout, PROTOCOL_OF_IMAGES, source, IMAGES)


def _measured(scored: ScoredModel, layout: Layout, protocol: str, source: str, of: str) -> Measured:
    result = Result(
        kind="geometry",
        name="geometry",
        protocol=protocol,
        data=source,
        scores=geometry_scores(layout.geometry, of),
        details=layout.model_dump(mode="json"),
        **scored.described(),
    )
    return Measured(result, {})


def geometry(embeddings: np.ndarray, positives: np.ndarray) -> Geometry:
    """Measure how embeddings lie on the sphere.

    Args:
        embeddings: ``(N, D)``; scaled to unit length here.
        positives: Rows of ``embeddings`` that mean the same, ``(P, 2)``.

    Raises:
        InputError: Fewer than 3 sentences, 1 positive pair or 2 dimensions, or no other pair; an embedding of length
            0, or not finite.
    """
    if len(embeddings) < 3 or not len(positives) or embeddings.shape[1] < 2:
        raise InputError(
            "geometry needs 3 sentences, a positive pair and 2 dimensions or more, "
            f"found {len(embeddings)} sentences, {len(positives)} positive pairs and {embeddings.shape[1]} dimensions"
        )
    unit = _unit(embeddings)  # (N, D)
    cosine = _cosines(unit)  # (N, N)
    positive = cosine[tuple(positives.T)]  # (P,)
    different = ~np.eye(len(cosine), dtype=bool)  # (N, N)
    is_random = different.copy()
    is_random[tuple(positives.T)] = is_random[tuple(positives.T[::-1])] = False
    if not is_random.any():
        raise InputError("geometry needs a pair that is not positive, to compare the positive ones with, found none")
    pairs, random = cosine[np.triu(different)], cosine[np.triu(is_random)]  # (N (N - 1) / 2,), and fewer
    ratio = fit_density_ratio(positive, random)
    nearness = np.exp(-_T * (2 - 2 * cosine))  # (N, N)
    cosines_drawn, nearness_drawn = resampled_pair_means([cosine, nearness], different)
    return Geometry(
        sentences=len(unit),
        positives=len(positives),
        dimensions=unit.shape[1],
        alignment=Estimate(float(np.mean(2 - 2 * positive)), mean_interval(2 - 2 * positive)),
        uniformity=Estimate(float(np.log(nearness[different].mean())), percentile_interval(np.log(nearness_drawn))),
        wasserstein_uniformity=_wasserstein_uniformity(pairs, unit.shape[1]),
        effective_rank=_effective_rank(unit),
        anisotropy=Estimate(float(pairs.mean()), percentile_interval(cosines_drawn)),
        hubness=_hubness(cosine),
        density_ratio=ratio,
        mutual_information={
            name: Estimate(*bound) for name, bound in divergence_bounds(ratio, positive, cosine, is_random).items()
        }
        if ratio
        else {},
        histograms=Histograms(
            edges=EDGES.round(2).tolist(),
            positive=np.histogram(positive, EDGES)[0].tolist(),
            random=np.histogram(random, EDGES)[0].tolist(),
            hard=np.histogram(_hardest(cosine, positives), EDGES)[0].tolist(),
        ),
    )


def _unit(embeddings: np.ndarray) -> np.ndarray:
    embeddings = embeddings.astype(np.float64)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and lengths.all()):
        raise NoScoreError(
            "the model gives some sentences an embedding that is zero or not finite: it has no direction"
        )
    return embeddings / lengths


def _cosines(unit: np.ndarray) -> np.ndarray:
    return np.clip(unit @ unit.T, -1, 1)


def _wasserstein_uniformity(pairs: np.ndarray, dimensions: int) -> float:
    """Wasserstein-1 distance to the law of the cosine of two independent uniform points, by its quantiles.

    That law has density proportional to ``(1 - s^2)^((D - 3) / 2)``: ``(1 + s) / 2`` is Beta((D - 1)/2, (D - 1)/2).
    """
    from scipy.stats import beta

    levels = (np.arange(10_000) + 0.5) / 10_000
    shape = (dimensions - 1) / 2
    return float(np.mean(np.abs(np.quantile(pairs, levels) - (2 * beta.ppf(levels, shape, shape) - 1))))


def _effective_rank(unit: np.ndarray) -> float:
    from scipy.stats import entropy

    return float(np.exp(entropy(np.linalg.svd(unit, compute_uv=False))))


def _hubness(cosine: np.ndarray) -> float | None:
    from scipy.stats import skew

    n, k = len(cosine), _HUB_NEIGHBOURS
    others = cosine - 3 * np.eye(n)  # no sentence is its own neighbour
    if n < k + 2 or np.ptp(cosine[~np.eye(n, dtype=bool)]) < 1e-9:
        return None
    nearest = np.argpartition(-others, k, axis=1)[:, :k]  # (N, k)
    counts = np.bincount(nearest.ravel(), minlength=n)
    return float(skew(counts)) if np.ptp(counts) else 0.0


def _hardest(cosine: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Cosine of each sentence with the nearest that is neither itself nor its positive: ``(N,)``."""
    others = cosine - 3 * np.eye(len(cosine))
    first, second = positives.T
    others[first, second] = others[second, first] = -3
    hardest = others.max(axis=1)
    return hardest[hardest >= -1]


def _neighbours(sentences: list[str], cosine: np.ndarray) -> list[Neighbours]:
    """Look up the nearest of a few sentences, evenly spaced in the data: the same ones for every model."""
    probes = np.linspace(0, len(sentences) - 1, min(_PROBES, len(sentences))).astype(int)
    found = []
    for probe in probes:
        order = [other for other in np.argsort(-cosine[probe], kind="stable") if other != probe]
        nearest = {sentences[other]: float(cosine[probe, other]) for other in order[:_SHOWN_NEIGHBOURS]}
        found.append(Neighbours(sentences[probe], nearest))
    return found
