"""f-MICL: f-mutual information in contrastive learning."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat

from fmicl_text.core import DIVERGENCES, KERNELS
from fmicl_text.losses.objective import Objective, Of, Paper, Variant
from fmicl_text.section import Conflict, OneOf

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fmicl_text.core import Divergence

PAPER = Paper(
    source="Lu et al., TMLR 2023",
    arxiv="2402.10150",
    bibtex="""
@article{lu2023fmicl,
    title = {f-{MICL}: Understanding and Generalizing {InfoNCE}-based Contrastive Learning},
    author = {Yiwei Lu and Guojun Zhang and Sun Sun and Hongyu Guo and Yaoliang Yu},
    journal = {Transactions on Machine Learning Research},
    year = {2023},
    url = {https://openreview.net/forum?id=ZD03VUZmRx},
}
""",
)


def _as_batch(shift: Any) -> Any:
    return "batch" if shift == "dv" else shift


class FMICL(Objective):
    """A mean over positive pairs plus a mean over negative pairs, with no softmax normaliser.

        loss = -mean f'(u) over positive pairs + alpha * mean (f* o f')(u) over negative pairs

    Being a sum of means, its expectation does not depend on the batch size, and gradient accumulation keeps it.
    """

    loss_name = "FMICLLoss"
    paper = PAPER
    positional = ("divergence",)
    formula = "`-mean f'(u_ii) + α mean (f*∘f')(u_ij)`"
    reduction = "mean"
    when = "the default: any batch size, accumulation, many devices; try divergences"
    variants = (
        Variant(
            "shift: row",
            "`mean_i min_{v_i} v_i - T_ii + α/n Σ_j f*(T_ij - v_i)` over all n candidates j; KL: InfoNCE less `log n`",
            "row log-sum-exp, or a root of its kind",
            "no `α` to tune, pull and push of each row are equal; InfoNCE's counterpart for each divergence",
            "the same; Roulet et al., ICML 2025, [2501.18537](https://arxiv.org/abs/2501.18537)",
        ),
        Variant(
            "shift: batch",
            "`min_v -mean (f'(u_ii) - v) + mean f*(f'(u_ij) - v)`; KL: `-mean r_ii + log mean u_ij`",
            "mean, then a function of it",
            "no `α` to tune; an estimate of f-mutual information",
            "the same; Ruderman et al., ICML 2012, [1206.4664](https://arxiv.org/abs/1206.4664)",
        ),
    )

    objective: Literal["fmicl"] = "fmicl"
    """Which objective."""
    divergence: Annotated[str, OneOf(lambda: DIVERGENCES)] = "kl"
    """The f-divergence; the paper rules out rkl, neyman and jeffreys, which are for study."""
    order: Annotated[Annotated[float, Field(gt=1)] | None, Of("divergence", {"tsallis": 2.0})] = None
    """Order of the Tsallis divergence."""
    kernel: Annotated[str, OneOf(lambda: KERNELS)] = "gaussian"
    """Density ratio of a pair: the paper's gaussian, cosine (u = exp(s / tau)); cosine-critic is for study."""
    sigma: Annotated[PositiveFloat | None, Of("kernel", {"gaussian": 0.25}, registered=True)] = None
    """Width of the Gaussian kernel; sigma squared is the temperature, and the paper's c is 1 / (2 sigma squared)."""
    mu: Annotated[Annotated[float, Field(gt=0, le=2)] | None, Of("kernel", {"gaussian": 1.0}, registered=True)] = None
    """Density ratio of a coincident pair under the Gaussian kernel."""
    temperature: Annotated[
        PositiveFloat | None, Of("kernel", {"cosine": 0.05, "cosine-critic": 1.0}, registered=True)
    ] = None
    """``tau`` of the cosine kernels."""
    learn_kernel: bool = False
    """Whether the width is learned; it starts at the value given."""
    alpha: Annotated[float, Field(ge=0)] | Literal["auto"] | None = None
    """Weight of the negative term; auto keeps it at 1 / mean density ratio of the negative pairs."""
    balance_cosine: Annotated[float, Field(ge=-1, le=1)] | None = None
    """The cosine at which push and pull of a pair balance, alpha = 1 / u(balance_cosine); default 0.1 without alpha."""
    shift: Annotated[Literal["none", "batch", "row"], BeforeValidator(_as_batch)] = "none"
    """What is subtracted from the critic to make the bound tight: one number a batch (dv), or one a row."""
    critic: Annotated[Literal["paper", "ratio"] | None, Of("shift", {"batch": "paper", "row": "ratio"})] = None
    """With a shift, the critic of a pair: the paper's f'(u), or the log density ratio itself."""
    negatives: Literal["within", "cross", "both", "anchor"] = "cross"
    """Pairs of anchors (within, the paper's), anchors with others' positives (cross), those two (anchor), or all."""

    @property
    def is_mean(self) -> bool:
        """Unless the batch decides the balance."""
        return self.shift == "none" and self.alpha != "auto"

    def conflicts(self) -> Iterator[Conflict]:
        """There is one balance of the two terms, and a cosine critic has no width to learn."""
        yield from super().conflicts()
        if self.alpha is not None and self.balance_cosine is not None:
            yield ("balance_cosine",), "is another way to give alpha; give one of the two"
        if self.shift != "none" and (self.alpha == "auto" or self.balance_cosine is not None):
            yield ("shift",), "balances the terms by itself, in place of balance_cosine and alpha: auto"
        if self.shift != "none" and self.alpha == 0:
            yield ("alpha",), "must be above 0 with a shift, got 0"
        if self.learn_kernel and self.kernel == "cosine-critic":
            yield ("learn_kernel",), "does not go with kernel: cosine-critic, whose temperature is fixed"

    def defaults(self) -> dict[str, Any]:
        """Balance push and pull of a pair at cosine 0.1, which means the same for every divergence and width."""
        balanced = self.alpha is None and self.shift == "none"
        return super().defaults() | ({"balance_cosine": 0.1} if balanced else {})

    def parts(self) -> dict[str, nn.Module]:
        """Return the kernel, and the weight of the negative term unless the shift takes its place."""
        from fmicl_text.core import Alpha, kernel_named
        from fmicl_text.core.objectives.fmicl import check_float32_range

        widths: dict[str, Any] = {"sigma": self.sigma, "mu": self.mu, "temperature": self.temperature}
        kernel = kernel_named(self.kernel, **widths, learn=self.learn_kernel, divergence=self._divergence)
        weight = Alpha(self.alpha, self.balance_cosine) if self.shift == "none" else None
        if self.critic != "ratio":  # which a shift keeps in range
            check_float32_range(self._divergence, kernel, weight)
        return {"kernel": kernel} if weight is None else {"kernel": kernel, "alpha": weight}

    def terms(self, x: Tensor, y: Tensor, **parts_and_batch: Any) -> dict[str, Tensor]:
        """Return the terms of :func:`fmicl_text.core.fmicl`."""
        from fmicl_text.core import fmicl

        settings = {"negatives": self.negatives, "shift": self.shift, "critic": self.critic}
        return fmicl(x, y, divergence=self._divergence, **{"alpha": self.alpha} | settings | parts_and_batch)

    @functools.cached_property
    def _divergence(self) -> Divergence:
        from fmicl_text.core import divergence_named

        return divergence_named(self.divergence, self.order)
