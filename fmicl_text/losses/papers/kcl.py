"""KCL, kernel contrastive learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import PositiveFloat

from fmicl_text.losses.objective import Objective, Of
from fmicl_text.losses.papers.dhel import PAPER

if TYPE_CHECKING:
    from torch import Tensor, nn


class KCL(Objective):
    """A mean of kernels over positives against means over each view."""

    loss_name = "KCLLoss"
    paper = PAPER
    formula = "`-2 mean K_ii + γ (mean K(x_i, x_j) + mean K(y_i, y_j))`"
    reduction = "mean"
    when = "as f-MICL; distant positives pull less"

    objective: Literal["kcl"] = "kcl"
    """Which objective."""
    kernel: Literal["gaussian", "imq", "riesz", "log"] = "gaussian"
    """gaussian exp(-t d^2), imq c / sqrt(c^2 + d^2), riesz d^(-s), or log: -log(t d^2 + 1), halved for negatives."""
    gamma: PositiveFloat = 16.0
    """Weight of the negative term."""
    t: Annotated[PositiveFloat | None, Of("kernel", {"gaussian": 2.0, "log": 2.0})] = None
    """Inverse width of the gaussian and log kernels."""
    c: Annotated[PositiveFloat | None, Of("kernel", {"imq": 1.0})] = None
    """Width of the imq kernel."""
    s: Annotated[PositiveFloat | None, Of("kernel", {"riesz": 1.0})] = None
    """Exponent of the riesz kernel."""

    @property
    def is_mean(self) -> bool:
        """Always."""
        return True

    def parts(self) -> dict[str, nn.Module]:
        """Return the kernel."""
        from fmicl_text.core import ExponentialKernel, InverseMultiquadricKernel, RieszKernel

        if self.kernel == "imq":
            assert self.c is not None  # a default of the kernel, as the others
            return {"kernel": InverseMultiquadricKernel(c=self.c)}
        if self.kernel == "riesz":
            assert self.s is not None
            return {"kernel": RieszKernel(s=self.s)}
        assert self.t is not None
        if self.kernel == "log":
            return {"kernel": InverseMultiquadricKernel(c=self.t**-0.5, power=1.0)}
        return {"kernel": ExponentialKernel(gamma=2.0, temperature=1 / self.t)}

    def terms(self, x: Tensor, y: Tensor, **parts_and_batch: Any) -> dict[str, Tensor]:
        """Return the terms of :func:`fmicl_text.core.kcl`; the log kernel's score is its logarithm, as its authors'."""
        import torch

        from fmicl_text.core import kcl
        from fmicl_text.core.reduce import identity

        if self.kernel == "log":
            return kcl(x, y, gamma=self.gamma / 2, score=identity, **parts_and_batch)
        return kcl(x, y, gamma=self.gamma, score=torch.exp, **parts_and_batch)
