"""f-MICL: f-mutual information in contrastive learning."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from fmicl_text.core import DIVERGENCES, KERNELS
from fmicl_text.losses.objective import Objective, Of, Paper, Variant
from fmicl_text.section import Conflict, OneOf

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fmicl_text.core import Divergence, Kernel

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


Measured = Literal["measured"]
OfData = Literal["measured", "adaptive"]


def _as_batch(shift: Any) -> Any:
    return "batch" if shift == "dv" else shift


def _temperature(objective: FMICL) -> float | OfData:
    """Return the default temperature of a kernel: where possible adaptive by row, measured without a shift."""
    if objective.shift == "row":
        return 0.07 if objective.learn_kernel or objective.critic == "paper" else "adaptive"
    if objective.shift == "batch" or objective.learn_kernel:
        return 0.0625
    return "measured"


def _sigma(objective: FMICL) -> float | OfData:
    temperature = _temperature(objective)
    return temperature if isinstance(temperature, str) else round(math.sqrt(temperature), 4)


class FMICL(Objective):
    """A bound of f-mutual information: positive pairs are pulled together, negative pairs pushed apart.

    With a shift for each anchor, the default, pull and push of an anchor are equal whatever the encoder's cosines are,
    and the temperature of a batch follows how far its negatives overlap with its positives; for KL it is InfoNCE at
    that temperature. Without a shift it is the paper's, with a weight of the negative term that is measured or
    given:

        loss = -mean f'(u) over positive pairs + alpha * mean (f* o f')(u) over negative pairs

    Being a sum of means, its expectation does not depend on the batch size, and gradient accumulation keeps it.
    """

    loss_name = "FMICLLoss"
    paper = PAPER
    positional = ("divergence",)
    formula = "`mean_i min_{v_i} v_i - T_ii + α/n Σ_j f*(T_ij - v_i)` over all n candidates j; KL: InfoNCE less `log n`"
    reduction = "row log-sum-exp, or a root of its kind"
    when = (
        "the default: neither `α` nor temperature to tune, pull and push of each row are equal; InfoNCE's counterpart "
        "by divergence"
    )
    variants = (
        Variant(
            "shift: none",
            "`-mean f'(u_ii) + α mean (f*∘f')(u_ij)`",
            "mean",
            "the paper's: the same objective for any batch size and accumulation; `α` measured from the encoder",
            "the same",
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
    divergence: Annotated[str, OneOf(lambda: DIVERGENCES)] = "js"
    """The f-divergence; the paper rules out rkl, neyman and jeffreys, which are for study."""
    order: Annotated[Annotated[float, Field(gt=1)] | None, Of("divergence", {"tsallis": 2.0})] = None
    """Order of the Tsallis divergence."""
    kernel: Annotated[str, OneOf(lambda: KERNELS)] = "gaussian"
    """Density ratio of a pair: the paper's gaussian, cosine (u = exp(s / tau)); cosine-critic is for study."""
    sigma: Annotated[PositiveFloat | OfData | None, Of("kernel", {"gaussian": _sigma}, registered=True)] = None
    """Width of the Gaussian kernel; default by shift: row adaptive (0.2646 if learned), batch 0.25, none measured."""
    mu: Annotated[Annotated[float, Field(gt=0, le=2)] | None, Of("kernel", {"gaussian": 1.0}, registered=True)] = None
    """Density ratio of a coincident pair under the Gaussian kernel."""
    temperature: Annotated[
        PositiveFloat | OfData | None,
        Of("kernel", {"cosine": _temperature, "cosine-critic": 1.0}, registered=True),
    ] = None
    """``tau`` of the cosine kernels; default by shift: row adaptive (0.07 if learned), batch 0.0625, none measured."""
    learn_kernel: bool = False
    """Whether the width is learned; it starts at the value given."""
    alpha: Annotated[float, Field(ge=0)] | Literal["auto"] | None = None
    """Weight of the negative term; auto keeps it at 1 / mean density ratio of the negative pairs."""
    balance_cosine: Annotated[float, Field(ge=-1, le=1)] | Measured | None = None
    """The cosine at which push and pull of a pair balance, alpha = 1 / u(balance_cosine); without alpha measured."""
    shift: Annotated[Literal["none", "batch", "row"], BeforeValidator(_as_batch)] = "row"
    """What is subtracted from the critic: one number an anchor, or a batch (dv); default none with a balance given."""
    critic: Annotated[Literal["paper", "ratio"] | None, Of("shift", {"batch": "paper", "row": "ratio"})] = None
    """With a shift, the critic of a pair: the paper's f'(u), or the log density ratio itself."""
    negatives: Literal["within", "cross", "both", "anchor"] = "cross"
    """Pairs of anchors (within, the paper's), anchors with others' positives (cross), those two (anchor), or all."""

    @property
    def is_mean(self) -> bool:
        """Unless the batch decides the balance."""
        return self.shift == "none" and self.alpha != "auto"

    @property
    def is_bound(self) -> bool:
        """With the tightest shift, unless the loss is scaled."""
        return self.shift != "none" and self.factor in (None, 1.0)

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
        for name in ("sigma", "temperature"):
            of_data = getattr(self, name) in ("measured", "adaptive")
            if of_data and self.learn_kernel:
                yield (name,), "must be a number where the width is learned"
            elif of_data and self.kernel == "cosine-critic":
                yield (name,), "must be a number for kernel: cosine-critic"
            elif getattr(self, name) == "adaptive" and (self.shift != "row" or self.critic == "paper"):
                why = "" if self.alpha is self.balance_cosine is None else " (alpha or balance_cosine alone mean none)"
                remedy = f"leave {name} out, or take a number or measured"
                yield (name,), f"adaptive needs shift: row{why} and critic: ratio; {remedy}"

    @model_validator(mode="before")
    @classmethod
    def _choose_shift(cls, settings: Any) -> Any:
        given = settings if isinstance(settings, Mapping) else {}
        weighed = any(given.get(name) is not None for name in ("alpha", "balance_cosine"))
        return {**given, "shift": "none"} if weighed and given.get("shift") is None else settings

    def defaults(self) -> dict[str, Any]:
        """Measure the balance of a loss that needs one."""
        weighed = self.alpha is None and self.shift == "none"
        return super().defaults() | ({"balance_cosine": "measured"} if weighed else {})

    def measured(self, **parts: Any) -> dict[str, float]:
        """Return width and balance, if they were left to the data and are measured."""
        kernel: Kernel = parts["kernel"]
        names = [name for name in ("sigma", "temperature") if getattr(self, name) == "measured"]
        widths = {name: getattr(kernel, name) for name in names if kernel.has_width}
        return widths | (parts["alpha"].measured(kernel) if "alpha" in parts else {})

    def of_last_batch(self, **parts: Any) -> dict[str, Tensor]:
        """Return the temperature of an adaptive width."""
        latest = parts["kernel"].latest_temperature
        return {} if latest is None else {"temperature": latest}

    def parts(self) -> dict[str, nn.Module]:
        """Return the kernel, and the weight of the negative term unless the shift takes its place."""
        from fmicl_text.core import Alpha, kernel_named
        from fmicl_text.core.objectives.fmicl import check_float32_range

        widths: dict[str, Any] = {"sigma": self.sigma, "mu": self.mu, "temperature": self.temperature}
        kernel = kernel_named(self.kernel, **widths, learn=self.learn_kernel, divergence=self._divergence)
        weight = Alpha(self.alpha, self.balance_cosine) if self.shift == "none" else None
        if self.critic != "ratio" and kernel.has_width:  # a shift keeps a ratio in range
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
