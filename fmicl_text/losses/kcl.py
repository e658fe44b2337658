"""KCL as a sentence-transformers loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Unpack

import torch
from torch import Tensor

from fmicl_text.core import ExponentialKernel, InverseMultiquadricKernel, RieszKernel, kcl
from fmicl_text.core.checks import require_positive
from fmicl_text.core.reduce import identity
from fmicl_text.losses.base import Common, ContrastiveLoss

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class KCLLoss(ContrastiveLoss):
    """Kernel contrastive learning: a mean of kernels over positives against means over each view.

    See :func:`fmicl_text.core.kcl` for the equation and :class:`ContrastiveLoss` for the inputs.

    Args:
        model: The encoder.
        kernel: ``gaussian``, ``exp(-t d^2)``; ``imq``, ``c / sqrt(c^2 + d^2)``; ``riesz``, ``d^(-s)``; ``log``,
            ``-log(t d^2 + 1)`` for the positives and half of that for the negatives, as the authors' code has it.
        gamma: Weight of the negative term; the paper's 16.
        t: Inverse width of ``gaussian`` and ``log``; default the paper's 2.
        c: Width of ``imq``; default 1.
        s: Exponent of ``riesz``; default 1.
        common: ``head``, ``mini_batch_size``, ``gather_across_devices``, ``queue``, ``momentum``, ``region``, as in
            :class:`ContrastiveLoss`.

    Raises:
        ValueError: If an argument is out of range.
    """

    is_mean = True

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        kernel: Literal["gaussian", "imq", "riesz", "log"] = "gaussian",
        gamma: float = 16.0,
        t: float | None = None,
        c: float | None = None,
        s: float | None = None,
        **common: Unpack[Common],
    ) -> None:
        defaults = {"gaussian": ("t", 2.0), "log": ("t", 2.0), "imq": ("c", 1.0), "riesz": ("s", 1.0)}
        if kernel not in defaults:
            raise ValueError(f"kernel must be one of {', '.join(defaults)}, got {kernel!r}")
        name, default = defaults[kernel]
        given = {key: value for key, value in (("t", t), ("c", c), ("s", s)) if value is not None}
        if strangers := [key for key in given if key != name]:
            raise ValueError(f"the {kernel} kernel takes {name}, not {' or '.join(strangers)}")
        width = given.get(name, default)
        require_positive(gamma=gamma, **{name: width})
        super().__init__(model, {"kernel": kernel, "gamma": gamma, name: width}, **common)
        self.kernel = {
            "gaussian": lambda: ExponentialKernel(gamma=2.0, temperature=1 / width),
            "imq": lambda: InverseMultiquadricKernel(c=width),
            "riesz": lambda: RieszKernel(s=width),
            "log": lambda: InverseMultiquadricKernel(c=width**-0.5, power=1.0),
        }[kernel]()
        self.score = identity if kernel == "log" else torch.exp
        self.gamma = gamma / 2 if kernel == "log" else gamma

    def terms(self, x: Tensor, y: Tensor, **batch: Any) -> dict[str, Tensor]:
        """Return the ``positive`` and the ``negative`` term of :func:`fmicl_text.core.kcl`."""
        return kcl(x, y, kernel=self.kernel, gamma=self.gamma, score=self.score, **batch)

    citation = """
@inproceedings{koromilas2024bridging,
    title = {Bridging Mini-Batch and Asymptotic Analysis in Contrastive Learning:
        From {InfoNCE} to Kernel-Based Losses},
    author = {Panagiotis Koromilas and Giorgos Bouritsas and Theodoros Giannakopoulos and Mihalis Nicolaou
        and Yannis Panagakis},
    year = {2024},
    booktitle = {International Conference on Machine Learning},
    eprint = {2405.18045},
    archivePrefix = {arXiv},
}
"""
