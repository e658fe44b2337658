"""Kernel-InfoNCE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveFloat

from fmicl_text.losses.objective import ANY, Objective, Of, Paper, Share

if TYPE_CHECKING:
    from torch import Tensor, nn

PAPER = Paper(
    source="Tan et al., ICLR 2024",
    arxiv="2303.15103",
    bibtex="""
@inproceedings{tan2024contrastive,
    title = {Contrastive Learning Is Spectral Clustering On Similarity Graph},
    author = {Zhiquan Tan and Yifan Zhang and Jingqin Yang and Yang Yuan},
    year = {2024},
    booktitle = {International Conference on Learning Representations},
    eprint = {2303.15103},
    archivePrefix = {arXiv},
}
""",
)


class KernelInfoNCE(Objective):
    """NT-Xent with a kernel of the distance, ``exp(-d^gamma / tau)``, or with two."""

    loss_name = "KernelInfoNCELoss"
    paper = PAPER
    formula = (
        "NT-Xent with `u = exp(-d^γ/τ)`; `mix: sum` `u₁ + u₂` (paper), `mix: losses` `λL₁ + (1-λ)L₂` (its authors' "
        "code), `mix: concatenation` a kernel for each half"
    )
    when = "other shapes of similarity"

    objective: Literal["kernel-infonce"] = "kernel-infonce"
    """Which objective."""
    kernel: Literal["gaussian", "laplacian", "exponential"] = "laplacian"
    """Kernel of the distance: gamma 2, gamma 1, or any gamma."""
    gamma: Annotated[Annotated[float, Field(gt=0, le=2)] | None, Of("kernel", {"exponential": 0.5})] = None
    """Power of the distance of the exponential kernel."""
    temperature: PositiveFloat = 0.1
    """``tau``, which divides the power of the distance; the authors' 0.1."""
    mix: Literal["sum", "losses", "concatenation"] | None = None
    """Add a Gaussian: the paper's sum of kernels, its authors' code's mix of losses, or one kernel for each half."""
    second_temperature: Annotated[PositiveFloat | None, Of("mix", {ANY: lambda loss: loss.temperature})] = None
    """``tau`` of that Gaussian; default the other kernel's."""
    weight: Annotated[Share | None, Of("mix", {"losses": 0.5})] = None
    """Share of the first loss in a mix of losses."""
    learn_kernel: bool = False
    """Whether the temperatures are learned; they start at the values given."""

    def parts(self) -> dict[str, nn.Module]:
        """Return the kernel, and the second where each has a loss or a half of the dimensions of its own."""
        from fmicl_text.core import ExponentialKernel, SumKernel

        gamma = {"gaussian": 2.0, "laplacian": 1.0}.get(self.kernel, self.gamma)
        assert gamma is not None  # a default of the exponential kernel
        first = ExponentialKernel(gamma, self.temperature, self.learn_kernel)
        if self.second_temperature is None:
            return {"kernel": first}
        second = ExponentialKernel(2.0, self.second_temperature, self.learn_kernel)
        return {"kernel": SumKernel(first, second)} if self.mix == "sum" else {"kernel": first, "second": second}

    def terms(self, x: Tensor, y: Tensor, **parts_and_batch: Any) -> dict[str, Tensor]:
        """Return the terms of :func:`fmicl_text.core.kernel_infonce` or of the mix."""
        from fmicl_text.core import kernel_infonce, kernel_infonce_concatenated, kernel_infonce_mixed

        if self.mix in (None, "sum"):
            return kernel_infonce(x, y, **parts_and_batch)
        kernels = {"first": parts_and_batch.pop("kernel"), "second": parts_and_batch.pop("second")}
        if self.mix == "losses":
            return kernel_infonce_mixed(x, y, **kernels, weight=self.weight, **parts_and_batch)
        return kernel_infonce_concatenated(x, y, **kernels, **parts_and_batch)
