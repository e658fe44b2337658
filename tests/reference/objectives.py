"""Every objective of the package next to its reference, with the same settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fmicl_text import core
from fmicl_text.core import CosineKernel, ExponentialKernel, GaussianKernel, InverseMultiquadricKernel, RieszKernel
from fmicl_text.core.batch import Objective
from fmicl_text.core.reduce import identity
from reference import formulas
from reference.formulas import TABLE


class Published(NamedTuple):
    """An objective at its defaults: the fewest settings that it needs, and the reference's, as its paper has them."""

    settings: dict[str, Any]
    same: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One objective, or a variant of it.

    Attributes:
        objective: The package's function.
        settings: Its settings, given whether its kernels are learned.
        reference: The function of :mod:`formulas`.
        same: The reference's settings.
        shares: What anchors, positives and explicit negatives get of the gradient of the value.
        needs_extra: Whether it makes no sense without explicit negatives.
        region: Whether the reference has regions.
        published: The objective at its defaults; None for a further variant.
    """

    objective: Objective
    settings: Callable[[bool], dict[str, Any]]
    reference: Callable[..., Any]
    same: dict[str, Any] = field(default_factory=dict)
    shares: tuple[float, float, float] = (1.0, 1.0, 1.0)
    needs_extra: bool = False
    region: bool = True
    published: Published | None = None

    def learned(self, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
        """The settings with learned kernels, in a precision."""
        settings = self.settings(True)
        return {k: value.to(dtype) if isinstance(value, torch.nn.Module) else value for k, value in settings.items()}

    def expected(self, *arrays: Any, **texts: Any) -> float:
        value = self.reference(*arrays, **texts, **self.same)
        return sum(value.values()) if isinstance(value, dict) else value


def _fmicl(name: str, negatives: str, published: Published | None = None) -> Case:
    return Case(
        core.fmicl,
        lambda learn: {
            "divergence": core.DIVERGENCES[name],
            "kernel": GaussianKernel(0.5, mu=1.5, learn=learn),
            "alpha": 3.0,
            "negatives": negatives,
        },
        formulas.fmicl,
        {"row": TABLE[name], "ratio": formulas.gaussian(0.5, mu=1.5), "alpha": 3.0, "negatives": negatives},
        published=published,
    )


def _fmicl_dv(name: str, negatives: str, published: Published | None = None) -> Case:
    return Case(
        core.fmicl_dv,
        lambda learn: {
            "divergence": core.DIVERGENCES[name],
            "kernel": GaussianKernel(0.5, learn=learn),
            "negatives": negatives,
        },
        formulas.fmicl_dv,
        {"row": TABLE[name], "ratio": formulas.gaussian(0.5), "negatives": negatives},
        published=published,
    )


def _fmicl_row(name: str, negatives: str, published: Published | None = None, **settings: Any) -> Case:
    """With the paper's critic under its kernel, else with the cosine over the temperature."""
    paper = settings.get("critic") == "paper"
    kernel: type[core.Kernel] = GaussianKernel if paper else CosineKernel
    ratio = formulas.gaussian(0.5) if paper else formulas.exponential_of_cosine(0.5)
    return Case(
        core.fmicl,
        lambda learn: {
            "divergence": core.DIVERGENCES[name],
            "kernel": kernel(0.5, learn=learn),  # type: ignore[call-arg]
            "negatives": negatives,
            "shift": "row",
            **settings,
        },
        formulas.fmicl_row,
        {"row": TABLE[name], "ratio": ratio, "negatives": negatives, **settings},
        published=published,
    )


def _fmicl_adaptive(name: str, negatives: str) -> Case:
    """With the temperature that the batch's overlap gives."""
    settings = {"divergence": core.DIVERGENCES[name], "negatives": negatives, "shift": "row"}
    return Case(
        core.fmicl,
        lambda learn: settings | {"kernel": CosineKernel("adaptive")},
        formulas.fmicl_row,
        {"row": TABLE[name], "ratio": None, "negatives": negatives},
    )


TAU = 0.3
COSINE = {"ratio": formulas.exponential_of_cosine(TAU)}
LAPLACIAN, ROOT = formulas.exponential_of_distance(1, 0.4), formulas.exponential_of_distance(0.5, 0.6)
WIDE = formulas.exponential_of_distance(2, 0.7)
GAUSSIAN = formulas.gaussian(0.25)
LAPLACE, GAUSS = ExponentialKernel(1, 0.1), ExponentialKernel(2, 0.1)
OF_LAPLACE, OF_GAUSS = formulas.exponential_of_distance(1, 0.1), formulas.exponential_of_distance(2, 0.1)


def _of_cosine(temperature: float) -> Published:
    return Published({}, {"ratio": formulas.exponential_of_cosine(temperature)})


def _cosine(learn: bool) -> dict[str, Any]:
    return {"kernel": CosineKernel(TAU, learn=learn)}


def _two_kernels(learn: bool) -> dict[str, Any]:
    return {
        "first": ExponentialKernel(1, 0.4, learn=learn),
        "second": ExponentialKernel(2, 0.7, learn=learn),
    }


CASES = {
    "fmicl-kl": _fmicl("kl", "within", Published({}, {"row": TABLE["kl"], "ratio": GAUSSIAN})),
    "fmicl-js-cross": _fmicl("js", "cross"),
    "fmicl-pearson-both": _fmicl("pearson", "both"),
    "fmicl-vlc-anchor": _fmicl("vlc", "anchor"),
    "fmicl-row-kl-anchor": _fmicl_row("kl", "anchor"),
    "fmicl-row-js-cross": _fmicl_row(
        "js",
        "cross",
        Published({"shift": "row", "divergence": core.JS}, {"row": TABLE["js"], "ratio": GAUSSIAN}),
    ),
    "fmicl-row-pearson-both": _fmicl_row("pearson", "both"),
    "fmicl-row-sh-within-paper": _fmicl_row("sh", "within", critic="paper"),
    "fmicl-row-vlc-anchor-alpha": _fmicl_row("vlc", "anchor", alpha=1.5),
    "fmicl-adaptive-js-cross": _fmicl_adaptive("js", "cross"),
    "fmicl-adaptive-kl-both": _fmicl_adaptive("kl", "both"),
    "fmicl-dv-kl": _fmicl_dv("kl", "within", Published({}, {"row": TABLE["kl"], "ratio": GAUSSIAN})),
    "fmicl-dv-js-both": _fmicl_dv("js", "both"),
    "fmicl-dv-vlc-cross": _fmicl_dv("vlc", "cross"),
    "infonce": Case(core.infonce, _cosine, formulas.infonce, COSINE, published=_of_cosine(0.05)),
    "infonce-symmetric": Case(
        core.infonce, lambda learn: _cosine(learn) | {"symmetric": True}, formulas.infonce, COSINE | {"symmetric": True}
    ),
    "ntxent": Case(core.ntxent, _cosine, formulas.ntxent, COSINE, published=_of_cosine(0.5)),
    "alignment-uniformity": Case(
        core.alignment_uniformity,
        lambda learn: {"power": 1.5, "t": 3.0, "align_weight": 0.7, "uniform_weight": 1.3},
        formulas.alignment_uniformity,
        {"power": 1.5, "t": 3.0, "align_weight": 0.7, "uniform_weight": 1.3},
        published=Published({}, {}),
    ),
    "spectral": Case(
        core.spectral, lambda learn: {"mu": 3.0}, formulas.spectral, {"mu": 3.0}, published=Published({}, {})
    ),
    "kernel-infonce": Case(
        core.kernel_infonce,
        lambda learn: {"kernel": ExponentialKernel(0.5, 0.6, learn=learn)},
        formulas.ntxent,
        {"ratio": ROOT},
        published=Published({}, {"ratio": OF_LAPLACE}),
    ),
    "kernel-infonce-sum": Case(
        core.kernel_infonce,
        lambda learn: {"kernel": core.SumKernel(*_two_kernels(learn).values())},
        formulas.ntxent,
        {"ratio": lambda a, b: LAPLACIAN(a, b) + WIDE(a, b)},
    ),
    "kernel-infonce-mixed": Case(
        core.kernel_infonce_mixed,
        lambda learn: _two_kernels(learn) | {"weight": 0.3},
        formulas.kernel_infonce_mixed,
        {"first": LAPLACIAN, "second": WIDE, "weight": 0.3},
        published=Published(
            {"first": LAPLACE, "second": GAUSS}, {"first": OF_LAPLACE, "second": OF_GAUSS, "weight": 0.5}
        ),
    ),
    "kernel-infonce-concatenated": Case(
        core.kernel_infonce_concatenated,
        _two_kernels,
        formulas.ntxent,
        {"ratio": formulas.of_halves(LAPLACIAN, WIDE)},
        region=False,
        published=Published({"first": LAPLACE, "second": GAUSS}, {"ratio": formulas.of_halves(OF_LAPLACE, OF_GAUSS)}),
    ),
    "dhel": Case(
        core.dhel, _cosine, formulas.dhel, {"temperature": TAU}, published=Published({}, {"temperature": 0.3})
    ),
    "dhel-one-view": Case(
        core.dhel,
        lambda learn: _cosine(learn) | {"both_views": False},
        formulas.dhel,
        {"temperature": TAU, "both_views": False},
    ),
    "kcl": Case(
        core.kcl,
        lambda learn: {"kernel": GaussianKernel(0.5, learn=learn), "gamma": 5.0},
        formulas.kcl,
        {"kernel": formulas.gaussian(0.5), "gamma": 5.0},
        published=Published({}, {"kernel": lambda a, b: formulas.math.exp(-2 * formulas.squared(a, b)), "gamma": 16.0}),
    ),
    "kcl-imq": Case(
        core.kcl,
        lambda learn: {"kernel": InverseMultiquadricKernel(c=0.8), "gamma": 5.0},
        formulas.kcl,
        {"kernel": lambda a, b: 0.8 / (0.8**2 + formulas.squared(a, b)) ** 0.5, "gamma": 5.0},
    ),
    "kcl-riesz": Case(
        core.kcl,
        lambda learn: {"kernel": RieszKernel(s=1.5), "gamma": 5.0},
        formulas.kcl,
        {"kernel": lambda a, b: formulas.squared(a, b) ** (-1.5 / 2), "gamma": 5.0},
    ),
    "kcl-riesz-negative": Case(
        core.kcl,
        lambda learn: {"kernel": ExponentialKernel(1.5, 1.0, learn=learn), "score": identity},
        formulas.kcl,
        {"kernel": lambda a, b: -(formulas.squared(a, b) ** (1.5 / 2)), "gamma": 16.0},
    ),
    "kcl-log": Case(
        core.kcl,
        lambda learn: {"kernel": InverseMultiquadricKernel(c=2.5**-0.5, power=1), "score": identity},
        formulas.kcl,
        {"kernel": lambda a, b: -formulas.math.log(2.5 * formulas.squared(a, b) + 1), "gamma": 16.0},
    ),
    "dcl": Case(core.dcl, _cosine, formulas.dcl, {"temperature": TAU}, published=Published({}, {"temperature": 0.1})),
    "dclw-one-way": Case(
        core.dcl,
        lambda learn: _cosine(learn) | {"weight_sigma": 0.4, "symmetric": False},
        formulas.dcl,
        {"temperature": TAU, "weight_sigma": 0.4, "symmetric": False},
        published=Published({"weight_sigma": 0.5}, {"temperature": 0.1, "weight_sigma": 0.5}),
    ),
    "focal-infonce": Case(
        core.focal_infonce,
        lambda learn: {"temperature": 0.2, "margin": 0.4},
        formulas.focal_infonce,
        {"temperature": 0.2, "margin": 0.4},
        published=Published({}, {"temperature": 0.05, "margin": 0.3}),
    ),
    "hcl": Case(
        core.hcl,
        lambda learn: _cosine(learn) | {"tau_plus": 0.2, "beta": 0.7},
        formulas.hcl,
        {"temperature": TAU, "tau_plus": 0.2, "beta": 0.7},
        published=Published({}, {"temperature": 0.5, "tau_plus": 0.1, "beta": 1.0}),
    ),
    "asymmetric-infonce": Case(
        core.asymmetric_infonce,
        lambda learn: _cosine(learn) | {"degree": 0.2},
        formulas.infonce,
        COSINE,
        shares=(0.2, 0.8, 0.8),
        published=_of_cosine(0.5),
    ),
    "contextual-infonce": Case(
        core.contextual_infonce,
        _cosine,
        formulas.contextual_infonce,
        {"temperature": TAU},
        needs_extra=True,
        region=False,
        published=Published({}, {"temperature": 0.05}),
    ),
}


"""All that the tests know of each objective's equation; what they know of its loss class is in ``loss_table``."""
PUBLISHED = {name: (case.objective, *case.published) for name, case in CASES.items() if case.published}
"""Each objective at its defaults: function, settings, and the reference's settings."""


def parameters(settings: dict[str, Any]) -> list[Tensor]:
    """Parameters of the kernels among an objective's settings."""
    return [p for value in settings.values() if isinstance(value, torch.nn.Module) for p in value.parameters()]


def total(objective: Objective, vectors: list[Tensor], **settings: Any) -> Tensor:
    """The loss of vectors that need not be unit."""
    return sum(objective(*(normalize(v, dim=1) for v in vectors), **settings).values())  # type: ignore[return-value]
