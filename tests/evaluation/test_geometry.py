"""Geometry against closed forms, and the density ratio against a joint density that is the Gaussian itself."""

import numpy as np
import pytest
from reference.formulas import RECOMMENDED
from scipy.integrate import quad
from scipy.special import gammaln, hyp0f1, ive
from scipy.stats import beta, skew, vonmises_fisher
from sklearn.neighbors import NearestNeighbors

from fmicl_text.core import DIVERGENCES, KL
from fmicl_text.data.section import Columns
from fmicl_text.errors import InputError
from fmicl_text.evaluation.density_ratio import DensityRatio, binned_log_ratio, divergence_bounds, fit_density_ratio
from fmicl_text.evaluation.geometry import Layout, geometry, measure_geometry
from fmicl_text.evaluation.pair_sets import own_pair_set, stsb_pair_set

FIRST = np.array([[0, 1], [2, 3]])


def simplex(points):
    """The corners of a regular simplex around the origin, in one dimension more than it needs."""
    return np.eye(points) - 1 / points


def sphere(points, dimensions, seed=0):
    return np.random.default_rng(seed).normal(size=(points, dimensions))


@pytest.mark.parametrize("points", [3, 8, 50])
def test_a_simplex(points):
    found = geometry(simplex(points), np.array([[0, 1]]))
    cosine, distance = -1 / (points - 1), 2 * points / (points - 1)
    assert found.alignment.value == pytest.approx(distance)
    assert found.uniformity.value == pytest.approx(-2 * distance)
    assert found.uniformity.ci95 == pytest.approx((-2 * distance, -2 * distance)), "all pairs are alike"
    assert found.anisotropy.value == pytest.approx(cosine)
    assert found.effective_rank == pytest.approx(points - 1)
    assert found.hubness is None, "everybody is equally near"
    law = beta((points - 1) / 2, (points - 1) / 2, loc=-1, scale=2)
    expected = quad(lambda s: abs(s - cosine) * law.pdf(s), -1, 1, points=[cosine])[0]
    assert found.wasserstein_uniformity == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("dimensions", [2, 384, 768])
def test_a_uniform_sphere(dimensions):
    found = geometry(sphere(1000, dimensions), FIRST)
    assert found.dimensions == dimensions
    # For a uniform point, E exp(k <a, b>) = 0F1(; D/2; k^2/4), and exp(-2 d2) = exp(-4) exp(4 <a, b>).
    assert found.uniformity.value == pytest.approx(np.log(hyp0f1(dimensions / 2, 4)) - 4, abs=0.02)
    assert found.uniformity.ci95[0] < found.uniformity.value < found.uniformity.ci95[1] + 0.02
    assert found.anisotropy.value == pytest.approx(0, abs=0.01)
    assert found.wasserstein_uniformity < 0.02 / np.sqrt(dimensions)
    assert 0.7 * dimensions < found.effective_rank <= dimensions


def test_a_collapsed_set_is_as_far_from_uniform_as_can_be():
    for dimensions in (2, 384, 768):
        found = geometry(np.tile(sphere(1, dimensions), (20, 1)), FIRST)
        assert found.alignment.value == pytest.approx(0, abs=1e-12)
        assert found.uniformity.value == pytest.approx(0, abs=1e-12)
        assert found.wasserstein_uniformity == pytest.approx(1, abs=1e-3), "E |1 - s| with E s = 0"
        assert found.effective_rank == pytest.approx(1, abs=1e-6)
        assert found.anisotropy.value == pytest.approx(1)
        assert (found.hubness, found.density_ratio, found.mutual_information) == (None, None, {})


def test_length_does_not_matter():
    embeddings = sphere(60, 8)
    longer = embeddings * np.random.default_rng(1).uniform(0.1, 9, size=(60, 1))
    one, other = geometry(embeddings, FIRST), geometry(longer, FIRST)
    assert one.uniformity.value == pytest.approx(other.uniformity.value)
    assert one.effective_rank == pytest.approx(other.effective_rank)


def test_hubness_is_the_skewness_of_scikit_learns_neighbours():
    unit = sphere(400, 50)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    nearest = NearestNeighbors(n_neighbors=10).fit(unit).kneighbors(return_distance=False)
    assert geometry(unit, FIRST).hubness == pytest.approx(skew(np.bincount(nearest.ravel(), minlength=400)))


def test_histograms_count_every_pair_once_and_hard_pairs_are_the_nearest_others():
    unit = sphere(40, 5)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    histograms = geometry(unit, FIRST).histograms
    assert sum(histograms.positive) == 2
    assert sum(histograms.random) == 40 * 39 / 2 - 2
    cosine = unit @ unit.T - 3 * np.eye(40)
    for a, b in FIRST:
        cosine[a, b] = cosine[b, a] = -3
    assert histograms.hard == np.histogram(cosine.max(axis=1), histograms.edges)[0].tolist()


def vmf_pairs(n, dimensions, concentration, seed=0):
    """Pairs whose joint density is the von Mises-Fisher copula of the paper: uniform x, and y around it."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dimensions))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    pole = np.eye(dimensions)[0]
    y = vonmises_fisher(pole, concentration).rvs(n, random_state=rng)
    axis = pole - x  # the Householder reflection that takes the pole to x
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    return x, y - 2 * (y * axis).sum(axis=1, keepdims=True) * axis


def log_normaliser(dimensions, concentration):
    """log of E exp(k s) over a uniform pair: u = exp(k s) / E exp(k s)."""
    half = dimensions / 2
    return gammaln(half) + np.log(ive(half - 1, concentration)) + concentration - (half - 1) * np.log(concentration / 2)


@pytest.mark.parametrize(("dimensions", "concentration"), [(3, 4.0), (16, 10.0), (64, 20.0)])
def test_the_fit_recovers_a_density_ratio_that_is_a_gaussian(dimensions, concentration):
    x, y = vmf_pairs(4000, dimensions, concentration)
    positive = (x * y).sum(axis=1)
    cosine = np.clip(x[:1000] @ x[:1000].T, -1, 1)
    off_diagonal = ~np.eye(len(cosine), dtype=bool)
    found = fit_density_ratio(positive, cosine[np.triu(off_diagonal)])
    # u = exp(k s - log Z) = mu exp(-d2 k / 2), so sigma^2 = 1/k and log mu = k - log Z.
    log_mu = concentration - log_normaliser(dimensions, concentration)
    assert found.sigma == pytest.approx(concentration**-0.5, rel=0.04)
    assert found.log_mu == pytest.approx(log_mu, rel=0.06)
    assert found.misfit < 0.15
    bounds = divergence_bounds(found, positive, cosine, off_diagonal)
    information = np.mean(log_mu - (1 - positive) * concentration)  # E log u, the mutual information
    value, (low, high) = bounds["kl"]
    assert value == pytest.approx(information, rel=0.06)
    assert low < value < high
    assert bounds.keys() == {name for name, divergence in DIVERGENCES.items() if not divergence.ruled_out}


def test_the_bound_of_kl_is_its_equation():
    x, y = vmf_pairs(300, 8, 5.0)
    positive, cosine = (x * y).sum(axis=1), np.clip(x @ x.T, -1, 1)
    random = ~np.eye(300, dtype=bool)
    found = fit_density_ratio(positive, cosine[np.triu(random)])
    expected = np.mean(1 + found.log_ratio(positive)) - np.mean(np.exp(found.log_ratio(cosine[random])))
    assert divergence_bounds(found, positive, cosine, random)[KL.name][0] == pytest.approx(expected)


def test_binned_log_ratio_by_hand():
    log_ratio, error = binned_log_ratio(np.array([1, 3, 0]), np.array([6, 2, 2]))
    assert log_ratio[:2] == pytest.approx(np.log([(1 / 4) / (6 / 10), (3 / 4) / (2 / 10)]))
    assert error[:2] == pytest.approx(np.sqrt([1 + 1 / 6, 1 / 3 + 1 / 2]))
    assert np.isnan(log_ratio[2]) and np.isnan(error[2])


def test_numbers_too_large_for_a_divergence_are_left_out():
    found = DensityRatio(sigma=0.03, log_mu=600.0, misfit=None)
    bounds = divergence_bounds(found, np.array([0.99]), np.eye(3), ~np.eye(3, dtype=bool))
    assert bounds.keys() == {*RECOMMENDED} - {"pearson", "tsallis"}, "the two have u^2"
    assert all(np.isfinite([value, *interval]).all() for value, interval in bounds.values())


def test_no_gaussian_fits_pairs_that_are_no_nearer_or_all_nearer():
    rng = np.random.default_rng(0)
    assert fit_density_ratio(rng.uniform(-1, 0, 50), rng.uniform(0, 0.5, 500)) is None
    assert fit_density_ratio(rng.uniform(0.8, 1, 50), rng.uniform(-0.5, 0.5, 500)) is None


@pytest.mark.parametrize(
    ("embeddings", "positives"),
    [(np.eye(2), [[0, 1]]), (np.eye(4), np.empty((0, 2), int)), (np.ones((4, 1)), [[0, 1]])],
)
def test_too_little_is_refused(embeddings, positives):
    with pytest.raises(InputError, match="3 sentences, a positive pair and 2 dimensions"):
        geometry(embeddings, np.array(positives))


def test_positive_pairs_alone_are_refused():
    with pytest.raises(InputError, match="a pair that is not positive"):
        geometry(sphere(3, 4), np.array([[0, 1], [1, 2], [2, 0]]))


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_an_embedding_without_direction_is_refused(value):
    embeddings = sphere(5, 4)
    embeddings[2] = value
    with pytest.raises(InputError, match="zero or not finite"):
        geometry(embeddings, FIRST)


def test_own_pairs_are_read_and_many_are_drawn_repeatably(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("a,b\n" + "".join(f"one {i % 7},other {i}\n" for i in range(10)))
    pairs = own_pair_set(str(path), Columns(anchor="a", positive="b"))
    assert len(pairs.sentences) == 17
    texts = [(pairs.sentences[a], pairs.sentences[b]) for a, b in pairs.positives]
    assert texts == [(f"one {i % 7}", f"other {i}") for i in range(10)]
    path.write_text("a,b\n" + "".join(f"one {i},other {i}\n" for i in range(3000)))
    first, again = (own_pair_set(str(path), Columns(anchor="a", positive="b")) for _ in range(2))
    assert len(first.positives) == 2000 and first.sentences == again.sentences
    assert "2,000 of 3,000 pairs" in first.source
    with pytest.raises(InputError, match="no column"):
        own_pair_set(str(path), Columns(anchor="a", positive="c"))


def test_stsb_positives_are_those_people_score_four_or_more(data_folder):
    pairs = stsb_pair_set(str(data_folder))
    assert (len(pairs.sentences), len(pairs.positives)) == (2910, 264)
    assert len(set(pairs.sentences)) == len(pairs.sentences)


def test_a_model_is_measured_and_its_neighbours_named(tiny_encoder, tmp_path):
    path = tmp_path / "pairs.jsonl"
    words = "dog cat horse man woman child park house river city".split()
    path.write_text("".join(f'{{"anchor": "a {w} sings", "positive": "the {w} sings"}}\n' for w in words))
    pairs = own_pair_set(str(path), Columns(anchor="anchor", positive="positive"))
    measured = measure_geometry(tiny_encoder, pairs, name="tiny")
    result = Layout.model_validate(measured.result.details)
    assert measured.result.score("sentences alignment").value == result.geometry.alignment.value
    embeddings = tiny_encoder.encode(pairs.sentences, normalize_embeddings=True)
    assert result.geometry.alignment.value == pytest.approx(
        np.mean(np.sum((embeddings[pairs.positives[:, 0]] - embeddings[pairs.positives[:, 1]]) ** 2, axis=1)), abs=1e-5
    )
    for found in result.neighbours:
        cosine = embeddings @ embeddings[pairs.sentences.index(found.sentence)]
        order = [pairs.sentences[i] for i in np.argsort(-cosine) if pairs.sentences[i] != found.sentence]
        assert list(found.nearest) == order[:3]
        assert list(found.nearest.values()) == sorted(found.nearest.values(), reverse=True)
