"""f-MICL: f-mutual information in contrastive learning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveFloat

from fmicl_text.core import DIVERGENCES, KERNELS
from fmicl_text.losses.objective import Objective, Of, Paper, Variant
from fmicl_text.section import Conflict, OneOf

if TYPE_CHECKING:
    from torch import Tensor, nn

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
            "shift: dv",
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
    shift: Literal["dv"] | None = None
    """In place of alpha: the shift of Donsker and Varadhan, which balances each batch anew."""
    negatives: Literal["within", "cross", "both"] = "cross"
    """Which pairs are negatives: among anchors (the paper's), anchors with other rows' positives, or both."""

    @property
    def is_mean(self) -> bool:
        """Unless the batch decides the balance."""
        return self.shift is None and self.alpha != "auto"

    def conflicts(self) -> Iterator[Conflict]:
        """There is one balance of the two terms, and a cosine critic has no width to learn."""
        yield from super().conflicts()
        if self.alpha is not None and self.balance_cosine is not None:
            yield ("balance_cosine",), "is another way to give alpha; give one of the two"
        if self.shift is not None and (self.alpha is not None or self.balance_cosine is not None):
            yield ("shift",), "takes the place of alpha and balance_cosine; give one of the three"
        if self.learn_kernel and self.kernel == "cosine-critic":
            yield ("learn_kernel",), "does not go with kernel: cosine-critic, whose temperature is fixed"

    def defaults(self) -> dict[str, Any]:
        """Balance push and pull of a pair at cosine 0.1, which means the same for every divergence and width."""
        balanced = self.alpha is None and self.shift is None
        return super().defaults() | ({"balance_cosine": 0.1} if balanced else {})

    def parts(self) -> dict[str, nn.Module]:
        """Return the kernel, and the weight of the negative term unless the shift takes its place."""
        from fmicl_text.core import Alpha, divergence_named, kernel_named
        from fmicl_text.core.objectives.fmicl import check_float32_range

        divergence = divergence_named(self.divergence, self.order)
        widths: dict[str, Any] = {"sigma": self.sigma, "mu": self.mu, "temperature": self.temperature}
        kernel = kernel_named(self.kernel, **widths, learn=self.learn_kernel, divergence=divergence)
        check_float32_range(divergence, kernel)
        weight = {} if self.shift else {"alpha": Alpha(self.alpha, self.balance_cosine)}
        return {"kernel": kernel, **weight}

    def terms(self, x: Tensor, y: Tensor, **parts_and_batch: Any) -> dict[str, Tensor]:
        """Return the terms of :func:`fmicl_text.core.fmicl` or of its shifted form."""
        from fmicl_text.core import divergence_named, fmicl, fmicl_dv

        equation = fmicl_dv if self.shift else fmicl
        divergence = divergence_named(self.divergence, self.order)
        return equation(x, y, divergence=divergence, negatives=self.negatives, **parts_and_batch)
