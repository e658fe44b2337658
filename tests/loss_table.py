"""Everything the tests know of each loss, in one entry a loss: what it computes, shows, accepts and refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fmicl_text import core
from fmicl_text.core import CosineKernel, ExponentialKernel, GaussianKernel, Region

Settings = dict[str, Any]
LEARNED = {"learn_kernel": True}


@dataclass(frozen=True)
class Loss:
    """One loss.

    Attributes:
        expected: Arguments, first none: the published defaults, and the objective of ``core`` they are to give.
        trained: Variants that are trained in the tests of what all losses have in common, by name.
        shown: What the loss of defaults says of itself, beside what all losses say.
        every_setting: Each setting of its own at a value that is not its default, as in a recipe.
        refused: Arguments, and a pattern of what is said of them.
        paper: Words that its citation has.
        is_mean: Whether gradients of small batches average to the large batch's, without a shift or a running average.
        learns: Whether it has a width to learn.
        columns: Columns of the data that it needs.
    """

    expected: list[tuple[Settings, Callable[..., dict[str, Tensor]]]]
    trained: dict[str, Settings]
    shown: Settings
    every_setting: str
    paper: tuple[str, str]
    refused: list[tuple[Settings, str]] = field(default_factory=list)
    is_mean: bool = False
    learns: bool = True
    columns: int = 2


def offered(x: Tensor, extra: Tensor) -> Tensor:
    """Row i was offered the i-th text of each negative column."""
    return torch.eye(len(x), dtype=torch.bool).repeat(1, len(extra) // len(x))


LOSS_TABLE: dict[str, Loss] = {
    "fmicl": Loss(
        expected=[
            (
                {},
                lambda *b, **k: core.fmicl(
                    *b, divergence=core.JS, kernel=GaussianKernel("adaptive"), shift="row", negatives="cross", **k
                ),
            ),
            (
                {"shift": "none", "divergence": "kl"},
                lambda *b, **k: core.fmicl(
                    *b,
                    kernel=GaussianKernel("measured"),
                    alpha=core.Alpha(balance_cosine="measured"),
                    negatives="cross",
                    **k,
                ),
            ),
            *(
                (
                    given,
                    lambda *b, given=given, **k: core.fmicl(
                        *b,
                        divergence=core.JS,
                        kernel=GaussianKernel(0.2646),
                        shift="row",
                        critic=given.get("critic"),
                        negatives="cross",
                        **k,
                    ),
                )
                for given in ({"learn_kernel": True}, {"critic": "paper"})
            ),
            (
                {"divergence": "tsallis", "order": 1.5, "sigma": 0.7, "mu": 1.5, "alpha": 2, "negatives": "both"},
                lambda *b, **k: core.fmicl(
                    *b, divergence=core.tsallis(1.5), kernel=GaussianKernel(0.7, 1.5), alpha=2.0, negatives="both", **k
                ),
            ),
            (
                {"kernel": "cosine", "temperature": 0.5, "shift": "batch", "divergence": "js"},
                lambda *b, **k: core.fmicl_dv(*b, divergence=core.JS, kernel=CosineKernel(0.5), negatives="cross", **k),
            ),
            (
                {"shift": "row", "divergence": "tsallis", "sigma": 0.5, "negatives": "anchor", "alpha": 2.0},
                lambda *b, **k: core.fmicl(
                    *b,
                    divergence=core.tsallis(),
                    kernel=GaussianKernel(0.5),
                    negatives="anchor",
                    shift="row",
                    alpha=2.0,
                    **k,
                ),
            ),
        ],
        trained={
            "fmicl-row": {"divergence": "js", "kernel": "cosine", "temperature": 0.3, "shift": "row"} | LEARNED,
            "fmicl-adaptive": {"divergence": "js", "negatives": "both"},
            "fmicl-anchor": {"sigma": 0.6, "alpha": 3.0, "negatives": "anchor"},
            "fmicl": {"divergence": "kl", "sigma": 0.6, "alpha": 3.0} | LEARNED,
            "fmicl-measured": {"shift": "none"},
            "fmicl-within": {"divergence": "js", "sigma": 0.6, "alpha": 4.0, "negatives": "within"},
            "fmicl-both": {"divergence": "pearson", "sigma": 0.8, "alpha": 2.0, "negatives": "both"} | LEARNED,
            "fmicl-auto": {"sigma": 0.6, "alpha": "auto"} | LEARNED,
            "fmicl-dv": {"sigma": 0.6, "shift": "dv"},
        },
        shown={"divergence": "js", "kernel": "gaussian", "sigma": "adaptive", "mu": 1.0, "negatives": "cross"}
        | {"learn_kernel": False, "shift": "row", "critic": "ratio"},
        every_setting="divergence: tsallis, order: 1.5, kernel: gaussian, sigma: 0.5, mu: 2, learn_kernel: true, "
        "alpha: 2, negatives: both",
        paper=("Yiwei Lu", "f-{MICL}"),
        refused=[
            ({"divergence": "hellinger"}, 'divergence must be "jeffreys", "js", .* got "hellinger"'),
            ({"divergence": "pearsn"}, 'did you mean "pearson"'),
            ({"divergence": "kl", "order": 2.0}, "order belongs to divergence: tsallis, got divergence: kl"),
            ({"kernel": "laplace"}, 'kernel must be "gaussian", "cosine" or "cosine-critic", got "laplace"'),
            ({"temperature": 0.05}, "got kernel: gaussian; temperature=0.05 is sigma=0.2236 here"),
            ({"sigma": 0}, 'sigma must be greater than 0 or "measured" or "adaptive", got 0'),
            ({"sigma": float("inf")}, "sigma must be a finite number"),
            ({"mu": 2.5}, "mu must be less than or equal to 2, got 2.5"),
            ({"negatives": "all"}, 'negatives must be "within", .* got "all"'),
            ({"alpha": -1}, 'alpha must be greater than or equal to 0 or "auto", got -1'),
            ({"alpha": 1.0, "balance_cosine": 0.1}, "give one of the two"),
            ({"balance_cosine": 2}, 'balance_cosine must be less than or equal to 1 or "measured", got 2'),
            ({"divergence": "sh", "sigma": 0.1, "alpha": 1}, "critic of divergence 'sh' .* take a wider kernel"),
            (
                {"divergence": "pearson", "kernel": "cosine", "temperature": 0.01, "shift": "none"},
                "(critic|penalty) of divergence 'pearson' .* take a wider kernel",
            ),
            ({"shift": "dv", "balance_cosine": 0.2}, "shift balances the terms by itself"),
            ({"shift": "row", "alpha": "auto"}, "shift balances the terms by itself"),
            ({"shift": "row", "alpha": 0}, "alpha must be above 0 with a shift"),
            (
                {"sigma": 0.1, "balance_cosine": 0.1},
                r"alpha = 1\.2e\+39 \(of balance_cosine 0\.1, .* take a wider kernel than sigma = 0\.1",
            ),
            ({"sigma": 0.1, "alpha": 1e31}, r"alpha = 1\.0e\+31 makes the negative term"),
            (
                {"critic": "ratio", "shift": "none"},
                "critic belongs to shift: batch or row, got shift: none",
            ),
            ({"sigma": "measured", "learn_kernel": True}, "sigma must be a number where the width is learned"),
            ({"kernel": "cosine-critic", "temperature": "measured"}, "temperature must be a number"),
            ({"sigma": "adaptive", "learn_kernel": True}, "sigma must be a number where the width is learned"),
            ({"sigma": "adaptive", "shift": "batch"}, "sigma adaptive needs shift: row and critic: ratio"),
            ({"sigma": "adaptive", "alpha": 3}, r"shift: row \(alpha or balance_cosine alone mean none\) and critic"),
            ({"sigma": "adaptive", "balance_cosine": 0.1}, "or balance_cosine alone mean none"),
            (
                {"kernel": "cosine", "temperature": "adaptive", "critic": "paper"},
                "temperature adaptive needs shift: row and critic: ratio; leave temperature out, or take a number",
            ),
            ({"shift": "js"}, 'shift must be .* got "js"'),
            ({"kernel": "cosine-critic", "learn_kernel": True}, "learn_kernel does not go with"),
        ],
        is_mean=True,
    ),
    "infonce": Loss(
        expected=[
            ({}, lambda *b, **k: core.infonce(*b, kernel=CosineKernel(0.05), **k)),
            (
                {"kernel": "gaussian", "sigma": 0.6, "symmetric": True},
                lambda *b, **k: core.infonce(*b, kernel=GaussianKernel(0.6), symmetric=True, **k),
            ),
        ],
        trained={
            "infonce": {"temperature": 0.2} | LEARNED,
            "infonce-symmetric": {"kernel": "gaussian", "sigma": 0.5, "symmetric": True},
        },
        shown={"kernel": "cosine", "temperature": 0.05, "symmetric": False, "learn_kernel": False},
        every_setting="kernel: cosine, temperature: 0.2, learn_kernel: true, symmetric: true",
        paper=("Oord", "1807.03748"),
        refused=[
            ({"kernel": "cosine-critic"}, 'kernel must be "gaussian" or "cosine", got "cosine-critic"'),
            (
                {"sigma": 0.05},
                "sigma belongs to kernel: gaussian, got kernel: cosine; sigma=0.05 is temperature=0.0025 here",
            ),
            ({"temperature": 0}, "temperature must be greater than 0, got 0"),
        ],
    ),
    "ntxent": Loss(
        expected=[
            ({}, lambda *b, **k: core.ntxent(*b, kernel=CosineKernel(0.5), **k)),
            ({"temperature": 0.2}, lambda *b, **k: core.ntxent(*b, kernel=CosineKernel(0.2), **k)),
        ],
        trained={"ntxent": LEARNED},
        shown={"temperature": 0.5, "learn_kernel": False},
        every_setting="temperature: 0.2, learn_kernel: true",
        paper=("Ting Chen", "2002.05709"),
        refused=[
            ({"temperature": 0}, "temperature must be greater than 0, got 0"),
        ],
    ),
    "alignment-uniformity": Loss(
        expected=[
            (
                {},
                lambda *b, **k: core.alignment_uniformity(
                    *b, power=2.0, t=2.0, align_weight=1.0, uniform_weight=1.0, **k
                ),
            ),
            (
                {"power": 1.0, "t": 3.0, "align_weight": 2.0, "uniform_weight": 0.5},
                lambda *b, **k: core.alignment_uniformity(
                    *b, power=1.0, t=3.0, align_weight=2.0, uniform_weight=0.5, **k
                ),
            ),
        ],
        trained={"alignment-uniformity": {"power": 1.0}},
        shown={"power": 2.0, "t": 2.0, "align_weight": 1.0, "uniform_weight": 1.0},
        every_setting="power: 1, t: 3, align_weight: 2, uniform_weight: 0.5",
        paper=("Tongzhou Wang", "2005.10242"),
        refused=[
            ({"power": 3}, "power must be less than or equal to 2, got 3"),
            ({"t": 0}, "t must be greater than 0, got 0"),
            ({"uniform_weight": -1}, "uniform_weight must be greater than 0, got -1"),
        ],
        learns=False,
    ),
    "spectral": Loss(
        expected=[
            ({}, lambda *b, **k: core.spectral(*b, mu=1.0, **k)),
            ({"mu": 10.0}, lambda *b, **k: core.spectral(*b, mu=10.0, **k)),
        ],
        trained={"spectral": {}},
        shown={"mu": 1.0},
        every_setting="mu: 2",
        paper=("Jeff Z. HaoChen", "2106.04156"),
        refused=[
            ({"mu": 0}, "mu must be greater than 0, got 0"),
        ],
        is_mean=True,
        learns=False,
    ),
    "kernel-infonce": Loss(
        expected=[
            ({}, lambda *b, **k: core.kernel_infonce(*b, kernel=ExponentialKernel(1.0, 0.1), **k)),
            (
                {"kernel": "exponential", "temperature": 0.3},
                lambda *b, **k: core.kernel_infonce(*b, kernel=ExponentialKernel(0.5, 0.3), **k),
            ),
            (
                {"mix": "sum", "second_temperature": 0.2},
                lambda *b, **k: core.kernel_infonce(
                    *b, kernel=core.SumKernel(ExponentialKernel(1.0, 0.1), ExponentialKernel(2.0, 0.2)), **k
                ),
            ),
            (
                {"kernel": "gaussian", "mix": "losses", "second_temperature": 0.4, "weight": 0.2},
                lambda *b, **k: core.kernel_infonce_mixed(
                    *b, first=ExponentialKernel(2.0, 0.1), second=ExponentialKernel(2.0, 0.4), weight=0.2, **k
                ),
            ),
            (
                {"kernel": "exponential", "gamma": 0.7, "mix": "concatenation"},
                lambda *b, **k: core.kernel_infonce_concatenated(
                    *b, first=ExponentialKernel(0.7, 0.1), second=ExponentialKernel(2.0, 0.1), **k
                ),
            ),
        ],
        trained={
            "kernel-infonce": LEARNED,
            "kernel-infonce-sum": {"mix": "sum", "second_temperature": 0.3} | LEARNED,
            "kernel-infonce-losses": {"kernel": "exponential", "mix": "losses"} | LEARNED,
            "kernel-infonce-concatenation": {"mix": "concatenation"} | LEARNED,
        },
        shown={"kernel": "laplacian", "temperature": 0.1, "learn_kernel": False},
        every_setting="kernel: exponential, gamma: 0.7, temperature: 0.2, mix: losses, second_temperature: 0.3, "
        "weight: 0.2, learn_kernel: true",
        paper=("Zhiquan Tan", "2303.15103"),
        refused=[
            ({"kernel": "cauchy"}, 'kernel must be "gaussian", "laplacian" or "exponential", got "cauchy"'),
            ({"gamma": 1.5}, "gamma belongs to kernel: exponential, got kernel: laplacian"),
            ({"kernel": "exponential", "gamma": 3}, "gamma must be less than or equal to 2, got 3"),
            ({"mix": "product"}, 'mix must be "sum", "losses" or "concatenation", got "product"'),
            ({"second_temperature": 0.2}, "second_temperature belongs to mix"),
            ({"mix": "sum", "second_temperature": 0}, "second_temperature must be greater than 0, got 0"),
            ({"mix": "sum", "weight": 0.5}, "weight belongs to mix: losses, got mix: sum"),
            ({"mix": "losses", "weight": 2}, "weight must be less than or equal to 1, got 2"),
            ({"temperature": 0}, "temperature must be greater than 0, got 0"),
        ],
    ),
    "dhel": Loss(
        expected=[
            ({}, lambda *b, **k: core.dhel(*b, kernel=CosineKernel(0.3), both_views=True, **k)),
            (
                {"temperature": 0.2, "both_views": False},
                lambda *b, **k: core.dhel(*b, kernel=CosineKernel(0.2), both_views=False, **k),
            ),
        ],
        trained={"dhel": LEARNED},
        shown={"temperature": 0.3, "both_views": True, "learn_kernel": False},
        every_setting="temperature: 0.2, both_views: false, learn_kernel: true",
        paper=("Koromilas", "2405.18045"),
        refused=[
            ({"temperature": 0}, "temperature must be greater than 0, got 0"),
        ],
    ),
    "kcl": Loss(
        expected=[
            ({}, lambda *b, **k: core.kcl(*b, kernel=ExponentialKernel(2.0, 0.5), gamma=16.0, **k)),
            (
                {"gamma": 4.0, "t": 3.0},
                lambda *b, **k: core.kcl(*b, kernel=ExponentialKernel(2.0, 1 / 3), gamma=4.0, **k),
            ),
            (
                {"kernel": "imq", "c": 0.5},
                lambda *b, **k: core.kcl(*b, kernel=core.InverseMultiquadricKernel(0.5), **k),
            ),
            ({"kernel": "riesz", "s": 0.7}, lambda *b, **k: core.kcl(*b, kernel=core.RieszKernel(0.7), **k)),
            (  # K = -log(t d^2 + 1) for the positives, half of it for the negatives
                {"kernel": "log", "t": 3.0, "gamma": 4.0},
                lambda *b, **k: core.kcl(
                    *b, kernel=core.InverseMultiquadricKernel(3**-0.5, 1.0), gamma=2.0, score=lambda r: r, **k
                ),
            ),
        ],
        trained={"kcl": {}, "kcl-log": {"kernel": "log"}},
        shown={"kernel": "gaussian", "gamma": 16.0, "t": 2.0},
        every_setting="kernel: log, gamma: 4, t: 3",
        paper=("Koromilas", "2405.18045"),
        refused=[
            ({"kernel": "laplace"}, 'kernel must be "gaussian", "imq", "riesz" or "log", got "laplace"'),
            ({"kernel": "imq", "t": 1.0}, "t belongs to kernel: gaussian or log, got kernel: imq"),
            ({"gamma": -1}, "gamma must be greater than 0, got -1"),
            ({"t": 0}, "t must be greater than 0, got 0"),
        ],
        is_mean=True,
        learns=False,
    ),
    "dcl": Loss(
        expected=[
            ({}, lambda *b, **k: core.dcl(*b, kernel=CosineKernel(0.1), weight_sigma=None, symmetric=True, **k)),
            (
                {"temperature": 0.2, "weight_sigma": 0.5, "symmetric": False},
                lambda *b, **k: core.dcl(*b, kernel=CosineKernel(0.2), weight_sigma=0.5, symmetric=False, **k),
            ),
        ],
        trained={"dcl": LEARNED, "dclw": {"weight_sigma": 0.5} | LEARNED},
        shown={"temperature": 0.1, "symmetric": True, "learn_kernel": False},
        every_setting="temperature: 0.2, weight_sigma: 0.4, symmetric: false, learn_kernel: true",
        paper=("Chun-Hsiao Yeh", "2110.06848"),
        refused=[
            ({"weight_sigma": 0}, "weight_sigma must be greater than 0, got 0"),
            ({"temperature": 0}, "temperature must be greater than 0, got 0"),
        ],
    ),
    "focal-infonce": Loss(
        expected=[
            ({}, lambda *b, **k: core.focal_infonce(*b, temperature=0.05, margin=0.3, **k)),
            (
                {"temperature": 0.2, "margin": 0.1},
                lambda *b, **k: core.focal_infonce(*b, temperature=0.2, margin=0.1, **k),
            ),
        ],
        trained={"focal-infonce": {"temperature": 0.2}},
        shown={"temperature": 0.05, "margin": 0.3},
        every_setting="temperature: 0.2, margin: 0.1",
        paper=("Pengyue Hou", "2310.06918"),
        refused=[
            ({"margin": -0.1}, "margin must be greater than or equal to 0, got -0.1"),
            ({"temperature": 0}, "temperature must be greater than 0, got 0"),
        ],
        learns=False,
    ),
    "hcl": Loss(
        expected=[
            ({}, lambda *b, **k: core.hcl(*b, kernel=CosineKernel(0.5), tau_plus=0.1, beta=1.0, **k)),
            (
                {"temperature": 0.2, "tau_plus": 0.0, "beta": 0.5},
                lambda *b, **k: core.hcl(*b, kernel=CosineKernel(0.2), tau_plus=0.0, beta=0.5, **k),
            ),
        ],
        trained={"hcl": LEARNED},
        shown={"temperature": 0.5, "tau_plus": 0.1, "beta": 1.0, "learn_kernel": False},
        every_setting="temperature: 0.2, tau_plus: 0.2, beta: 0.5, learn_kernel: true",
        paper=("Joshua Robinson", "2010.04592"),
        refused=[
            ({"tau_plus": 1}, "tau_plus must be less than 1, got 1"),
            ({"beta": float("nan")}, "beta must be a finite number"),
            ({"temperature": 0}, "temperature must be greater than 0, got 0"),
        ],
    ),
    "asymmetric-infonce": Loss(
        expected=[
            ({}, lambda *b, **k: core.asymmetric_infonce(*b, kernel=CosineKernel(0.5), degree=0.2, **k)),
            (
                {"temperature": 0.2, "degree": 0.7},
                lambda *b, **k: core.asymmetric_infonce(*b, kernel=CosineKernel(0.2), degree=0.7, **k),
            ),
        ],
        trained={"asymmetric-infonce": LEARNED},
        shown={"temperature": 0.5, "degree": 0.2, "learn_kernel": False},
        every_setting="temperature: 0.2, degree: 0.4, learn_kernel: true",
        paper=("Qiying Yu", "2207.08374"),
        refused=[
            ({"degree": 1.5}, "degree must be less than or equal to 1, got 1.5"),
            ({"temperature": 0}, "temperature must be greater than 0, got 0"),
        ],
    ),
    "contextual-infonce": Loss(
        expected=[
            (
                {},
                lambda *b, **k: core.contextual_infonce(
                    *b, kernel=CosineKernel(0.05), offered=offered(b[0], b[2]), **k
                ),
            ),
            (
                {"temperature": 0.2},
                lambda *b, **k: core.contextual_infonce(*b, kernel=CosineKernel(0.2), offered=offered(b[0], b[2]), **k),
            ),
        ],
        trained={"contextual-infonce": LEARNED},
        shown={"temperature": 0.05, "learn_kernel": False},
        every_setting="temperature: 0.2, learn_kernel: true",
        paper=(r"F{\"u}rnkranz", "2407.05898"),
        refused=[
            ({"region": Region(0.5)}, "region does not go with contextual-infonce"),
            ({"queue": 4}, "queue does not go with contextual-infonce"),
            ({"temperature": 0}, "temperature must be greater than 0, got 0"),
        ],
        is_mean=True,
        columns=3,
    ),
}
"""By the name in recipes."""
PAIRWISE = [name for name, loss in LOSS_TABLE.items() if loss.columns == 2]
"""Losses that can do with pairs."""
