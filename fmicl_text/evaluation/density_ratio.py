r"""f-MICL's assumption, checked: is the density ratio of positive to random pairs a Gaussian of their distance?

f-MICL (Lu et al., TMLR 2023, arXiv 2402.10150, assumption 2) takes the ratio ``u`` of a pair's density among positive
pairs to that among random pairs to be ``u = mu exp(-d2 / (2 sigma^2))``, so ``log u`` to be linear in ``d2``. Then the
best classifier of positive against random pairs is a logistic regression on ``d2`` (Sugiyama, Suzuki & Kanamori,
"Density Ratio Estimation in Machine Learning", 2012, chapter 4): its slope is ``-1 / (2 sigma^2)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fmicl_text.evaluation.statistics import percentile_interval, resampled_means, resampled_pair_means

EDGES = np.linspace(-1, 1, 51)
"""Of histograms of cosines."""
_LARGEST = 1e300  # a sum of larger values overflows float64
_SAME = 1e-9  # cosines that differ by less do so by rounding
_ENOUGH = 5  # positive pairs in a bin whose ratio is compared with the fit


@dataclass(frozen=True)
class DensityRatio:
    """The Gaussian that fits best.

    Attributes:
        sigma: Its width.
        log_mu: Logarithm of the ratio of a coincident pair. The kernel of the loss has 0 here: a constant factor of
            ``u`` acts as another ``alpha``.
        misfit: How far ``log u``, counted in bins of the cosine, is from the fit: mean over the positive pairs, in
            nats; 0 if the assumption holds. None if no bin has five positive pairs and a random one.
    """

    sigma: float
    log_mu: float
    misfit: float | None

    def log_ratio(self, cosine: np.ndarray) -> np.ndarray:
        """Return ``log u`` of pairs, elementwise."""
        return gaussian_log_ratio(cosine, self.sigma, self.log_mu)


def gaussian_log_ratio(cosine: np.ndarray, sigma: float, log_mu: float) -> np.ndarray:
    """Return ``log mu - d2 / (2 sigma^2)``, elementwise."""
    return log_mu - (1 - cosine) / sigma**2


def binned_log_ratio(positive: np.ndarray, random: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``log u`` and its standard error in each bin, from counts of positive and random pairs ``(K,)``.

    Both are NaN in bins where either count is 0.
    """
    counts = np.where((positive > 0) & (random > 0), [positive, random], np.nan)  # (2, K)
    shares = counts / np.array([[np.sum(positive)], [np.sum(random)]])
    return np.log(shares[0] / shares[1]), np.sqrt((1 / counts).sum(axis=0))


def fit_density_ratio(positive: np.ndarray, random: np.ndarray) -> DensityRatio | None:
    """Fit the Gaussian to the cosines of positive pairs ``(P,)`` and random pairs ``(R,)``, each kind weighing half.

    Returns:
        The fit; None if there is none, because all positive pairs are nearer than all random ones, so that any small
        width fits, or because they are not nearer at all.
    """
    from sklearn.linear_model import LogisticRegression

    if positive.min() > random.max() - _SAME or positive.mean() <= random.mean():
        return None  # the likelihood has its maximum at infinity, or (its slope at 0 tells) on the other side
    distance = 2 - 2 * np.concatenate([positive, random])
    is_positive = np.repeat([1, 0], [len(positive), len(random)])
    # Newton's method: with so few positives among so many pairs, L-BFGS stops early.
    model = LogisticRegression(C=np.inf, class_weight="balanced", solver="newton-cholesky", tol=1e-8)
    model.fit(distance[:, None], is_positive)
    sigma, log_mu = float(-2 * model.coef_[0, 0]) ** -0.5, float(model.intercept_[0])
    counts, of_random = (np.histogram(cosine, EDGES)[0] for cosine in (positive, random))
    log_ratio, _ = binned_log_ratio(counts, of_random)
    residual = np.abs(log_ratio - gaussian_log_ratio((EDGES[:-1] + EDGES[1:]) / 2, sigma, log_mu))
    compared = (counts >= _ENOUGH) & (of_random > 0)
    misfit = float(np.average(residual[compared], weights=counts[compared])) if compared.any() else None
    return DensityRatio(sigma, log_mu, misfit)


def divergence_bounds(
    ratio: DensityRatio, positive: np.ndarray, cosine: np.ndarray, random: np.ndarray
) -> dict[str, tuple[float, tuple[float, float]]]:
    r"""Bound the f-mutual information of the two sides of a positive pair from below, for each divergence.

        I_f >= E_positive[f'(u)] - E_random[(f* o f')(u)]

    with the fitted ``u``; equal if the fit is the true ratio. Divergences that the paper rules out are left out, and
    those whose penalty overflows for some pair, as ``u^2`` does under a very narrow Gaussian.

    Args:
        ratio: The fit.
        positive: Cosines of positive pairs, ``(P,)``.
        cosine: Cosines of all pairs of sentences, ``(N, N)``.
        random: Which of them are random pairs, ``(N, N)``.

    Returns:
        Divergence -> the bound, and its 95% bootstrap interval over positive pairs and over sentences.
    """
    import torch

    from fmicl_text.core import DIVERGENCES

    of_positive, of_all = (torch.from_numpy(ratio.log_ratio(values)) for values in (positive, cosine))
    largest = of_all.max()  # coincident pairs are on the diagonal
    usable = {
        name: divergence
        for name, divergence in DIVERGENCES.items()
        if not divergence.ruled_out and divergence.penalty(largest) < _LARGEST
    }
    critics = [divergence.critic(of_positive).numpy() for divergence in usable.values()]
    penalties = [divergence.penalty(of_all).numpy() for divergence in usable.values()]
    resampled = resampled_pair_means(penalties, random)
    return {
        name: (
            float(critic.mean() - penalty[random].mean()),
            percentile_interval(resampled_means(critic) - resampled_penalty),
        )
        for name, critic, penalty, resampled_penalty in zip(usable, critics, penalties, resampled, strict=True)
    }
