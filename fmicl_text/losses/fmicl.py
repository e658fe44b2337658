"""f-MICL as a sentence-transformers loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Unpack

from torch import Tensor

from fmicl_text.core import NEGATIVES, Alpha, divergence_named, fmicl, fmicl_dv, kernel_named
from fmicl_text.core.objectives.fmicl import check_float32_range
from fmicl_text.losses.base import Common, ContrastiveLoss, width_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class FMICLLoss(ContrastiveLoss):
    r"""f-MICL: a mean over positive pairs plus a mean over negative pairs, with no softmax normaliser.

        loss = -mean f'(u) over positive pairs + alpha * mean (f* o f')(u) over negative pairs

    See :func:`fmicl_text.core.fmicl` for the equation and :class:`ContrastiveLoss` for the inputs. Being a sum
    of means, the expected loss does not depend on the batch size, and gradient accumulation keeps it.

    Args:
        model: The encoder.
        divergence: ``kl``, ``js``, ``pearson``, ``sh``, ``tsallis``, ``vlc``; for study ``rkl``, ``neyman``,
            ``jeffreys``, which the paper rules out. Default ``kl``, the paper's best on text.
        order: Order of ``tsallis``; default 2.
        kernel: ``gaussian`` (the paper's), ``cosine`` (``u = exp(s/tau)``), or ``cosine-critic`` (the cosine is the
            critic; clamped to the divergence's domain, for study).
        sigma: Width of the Gaussian kernel, default 0.25; ``sigma^2`` is the temperature.
        mu: Density ratio of coincident pairs under the Gaussian kernel, in (0, 2]; default 1.
        temperature: ``tau`` of the cosine kernels; default 0.05 of ``cosine``, 1 of ``cosine-critic``.
        learn_kernel: Whether the width is learned; it starts at the value given.
        alpha: Weight of the negative term: a number or ``"auto"``, see :class:`fmicl_text.core.Alpha`.
        balance_cosine: The cosine at which push and pull balance, ``alpha = 1 / u(balance_cosine)``; the
            default way to set alpha, at cosine 0.1, since it means the same for every divergence and width.
        negatives: ``cross`` (default), ``within`` (the paper's) or ``both``, see
            :data:`fmicl_text.core.pairs.NEGATIVES`. For dropout views ``cross`` and ``within`` have the same
            expectation, since the two views of a text are equal in law; for a question and its answer ``cross``
            compares what will be compared in use.
        shift: ``"dv"`` sets the balance anew in each batch, in place of alpha, by the shift of Donsker and Varadhan,
            see :func:`fmicl_text.core.fmicl_dv`; default none.
        common: ``head``, ``mini_batch_size``, ``gather_across_devices``, ``queue``, ``momentum``, ``region``, as in
            :class:`ContrastiveLoss`.

    Raises:
        ValueError: If an argument is out of range, belongs to another kernel or divergence, or if the
            divergence overflows float32 under the kernel.

    Example::

        loss = FMICLLoss(model)  # in place of MultipleNegativesRankingLoss(model)
        trainer = SentenceTransformerTrainer(model=model, train_dataset=pairs, loss=loss)
    """

    def __init__(
        self,
        model: SentenceTransformer,
        divergence: str = "kl",
        *,
        order: float | None = None,
        kernel: Literal["gaussian", "cosine", "cosine-critic"] = "gaussian",
        sigma: float | None = None,
        mu: float | None = None,
        temperature: float | None = None,
        learn_kernel: bool = False,
        alpha: float | Literal["auto"] | None = None,
        balance_cosine: float | None = None,
        negatives: Literal["within", "cross", "both"] = "cross",
        shift: Literal["dv"] | None = None,
        **common: Unpack[Common],
    ) -> None:
        if negatives not in NEGATIVES:
            raise ValueError(f"negatives must be one of {', '.join(NEGATIVES)}, got {negatives!r}")
        if shift not in (None, "dv"):
            raise ValueError(f"shift must be 'dv' or None, got {shift!r}")
        if shift is not None and (alpha is not None or balance_cosine is not None):
            raise ValueError("shift takes the place of alpha and balance_cosine; give one of the three")
        if shift is None and alpha is None and balance_cosine is None:
            balance_cosine = 0.1
        if divergence == "tsallis" and order is None:
            order = 2.0
        named = divergence_named(divergence, order)
        width = kernel_named(kernel, sigma=sigma, mu=mu, temperature=temperature, learn=learn_kernel, divergence=named)
        check_float32_range(named, width)
        settings = {
            "divergence": divergence,
            "order": order,
            "kernel": kernel,
            **width_of(width),
            "learn_kernel": learn_kernel,
            "alpha": alpha,
            "balance_cosine": balance_cosine,
            "negatives": negatives,
            "shift": shift,
        }
        super().__init__(model, settings, **common)
        self.divergence = named
        self.kernel = width
        self.alpha = None if shift else Alpha(alpha, balance_cosine)
        self.negatives = negatives
        self.is_mean = shift is None and alpha != "auto"

    def terms(self, x: Tensor, y: Tensor, **batch: Any) -> dict[str, Tensor]:
        """Return the ``positive`` and the ``negative`` term of :func:`fmicl_text.core.fmicl` or its shifted form."""
        chosen: dict[str, Any] = {"divergence": self.divergence, "kernel": self.kernel, "negatives": self.negatives}
        if self.alpha is None:
            return fmicl_dv(x, y, **chosen, **batch)
        return fmicl(x, y, alpha=self.alpha, **chosen, **batch)

    citation = """
@article{lu2023fmicl,
    title = {f-{MICL}: Understanding and Generalizing {InfoNCE}-based Contrastive Learning},
    author = {Yiwei Lu and Guojun Zhang and Sun Sun and Hongyu Guo and Yaoliang Yu},
    journal = {Transactions on Machine Learning Research},
    year = {2023},
    url = {https://openreview.net/forum?id=ZD03VUZmRx},
}
"""
