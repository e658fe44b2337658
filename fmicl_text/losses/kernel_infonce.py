"""Kernel-InfoNCE as a sentence-transformers loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Unpack

from torch import Tensor

from fmicl_text.core import (
    ExponentialKernel,
    Kernel,
    SumKernel,
    kernel_infonce,
    kernel_infonce_concatenated,
    kernel_infonce_mixed,
)
from fmicl_text.core.checks import require_positive
from fmicl_text.losses.base import Common, ContrastiveLoss

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class KernelInfoNCELoss(ContrastiveLoss):
    """NT-Xent with a kernel of the distance, or with two.

    See :func:`fmicl_text.core.kernel_infonce` for the equation and :class:`ContrastiveLoss` for the inputs.

    Args:
        model: The encoder.
        kernel: ``gaussian`` (gamma 2), ``laplacian`` (gamma 1) or ``exponential`` of any ``gamma``:
            ``exp(-d^gamma / tau)``.
        gamma: Power of the distance of ``exponential``, in (0, 2]; default the authors' 0.5.
        temperature: ``tau``; the authors' 0.1.
        mix: Adds a Gaussian: ``sum``, the paper's simple sum ``k_1 + k_2`` inside the logarithm; ``losses``, the mix of
            two losses that is in the authors' code under that name; ``concatenation``, the paper's: one kernel for each
            half of the dimensions. Default none.
        second_temperature: ``tau`` of that Gaussian; default ``temperature``.
        weight: Share of the first loss under ``mix="losses"``; default 0.5.
        learn_kernel: Whether the temperatures are learned; they start at the values given.
        common: ``head``, ``mini_batch_size``, ``gather_across_devices``, ``queue``, ``momentum``, ``region``, as in
            :class:`ContrastiveLoss`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        kernel: Literal["gaussian", "laplacian", "exponential"] = "laplacian",
        gamma: float | None = None,
        temperature: float = 0.1,
        mix: Literal["sum", "losses", "concatenation"] | None = None,
        second_temperature: float | None = None,
        weight: float | None = None,
        learn_kernel: bool = False,
        **common: Unpack[Common],
    ) -> None:
        gammas = {"gaussian": 2.0, "laplacian": 1.0, "exponential": 0.5 if gamma is None else gamma}
        if kernel not in gammas:
            raise ValueError(f"kernel must be one of {', '.join(gammas)}, got {kernel!r}")
        if gamma is not None and kernel != "exponential":
            raise ValueError(f"gamma belongs to the exponential kernel; the {kernel} kernel has {gammas[kernel]:g}")
        if mix not in (None, "sum", "losses", "concatenation"):
            raise ValueError(f"mix must be 'sum', 'losses', 'concatenation' or None, got {mix!r}")
        if second_temperature is not None and mix is None:
            raise ValueError("second_temperature belongs to the Gaussian that mix adds")
        if weight is not None and (mix != "losses" or not 0 <= weight <= 1):
            raise ValueError(f"weight must be in [0, 1] and belongs to mix='losses', got {weight!r} with mix={mix!r}")
        second_temperature = temperature if second_temperature is None else second_temperature
        require_positive(temperature=temperature, second_temperature=second_temperature)
        share = 0.5 if weight is None else weight
        settings = {
            "kernel": kernel,
            "gamma": gammas[kernel] if kernel == "exponential" else None,
            "temperature": temperature,
            "mix": mix,
            "second_temperature": None if mix is None else second_temperature,
            "weight": share if mix == "losses" else None,
            "learn_kernel": learn_kernel,
        }
        super().__init__(model, settings, **common)
        first = ExponentialKernel(gammas[kernel], temperature, learn_kernel)
        second = ExponentialKernel(2.0, second_temperature, learn_kernel)
        self.kernel: Kernel = SumKernel(first, second) if mix == "sum" else first
        self.second = second if mix in ("losses", "concatenation") else None
        self.mix = mix
        self.weight = share

    def terms(self, x: Tensor, y: Tensor, **batch: Any) -> dict[str, Tensor]:
        """Return the ``positive`` and the ``negative`` term of :func:`fmicl_text.core.kernel_infonce`."""
        if self.mix == "losses":
            return kernel_infonce_mixed(x, y, first=self.kernel, second=self.second, weight=self.weight, **batch)
        if self.mix == "concatenation":
            return kernel_infonce_concatenated(x, y, first=self.kernel, second=self.second, **batch)
        return kernel_infonce(x, y, kernel=self.kernel, **batch)

    citation = """
@inproceedings{tan2024contrastive,
    title = {Contrastive Learning Is Spectral Clustering On Similarity Graph},
    author = {Zhiquan Tan and Yifan Zhang and Jingqin Yang and Yang Yuan},
    year = {2024},
    booktitle = {International Conference on Learning Representations},
    eprint = {2303.15103},
    archivePrefix = {arXiv},
}
"""
