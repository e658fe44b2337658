r"""Kernels: the log density ratio ``r = log u`` of a pair, from the cosine ``s`` of its unit vectors.

On the unit sphere ``||a - b||^2 = 2 - 2 s``, so the Gaussian kernel of the paper is a function of ``s``.
One parameter sets its width and has three names in the literature:

    temperature tau = sigma^2        c = 1/(2 sigma^2) = 1/(2 tau)

The paper's NLP setting c = 20 is sigma = 0.158 and tau = 0.025; SimCSE's tau = 0.05 is c = 10, sigma = 0.224.
"""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from fmicl_text.core.checks import not_one_of, require_positive
from fmicl_text.core.divergence import Divergence
from fmicl_text.core.registry import KERNELS

Measured = Literal["measured"]
"""In place of a number: to be measured from the encoder's own cosines, see :mod:`fmicl_text.core.balance`."""
Adaptive = Literal["adaptive"]
"""In place of a number: each batch has its own width, see :mod:`fmicl_text.core.overlap`."""
OF_DATA = ("measured", "adaptive")
"""The words for a width that is left to the data."""
_MARGIN = 0.02
"""How far :class:`CosineCritic` stays inside an open conjugate domain, in units of the critic."""
NARROWEST = 0.01
"""The temperature at which a learned width stops shrinking, as CLIP's does."""
_NEAREST = 1e-6
"""Squared distance below which two rows coincide for kernels that have a kink or a pole there.

Float32 cosines of equal rows differ from 1 by about as much.
"""


class Kernel(nn.Module):
    """A width, fixed or learned, and the map ``forward(cosine) -> r`` that a subclass defines.

    A learned width is bounded. Where the positive is not in the denominator (f-MICL with a shift for the batch or
    ``alpha="auto"``, DCL, DHEL) a loss has the form ``-T_ii + log mean exp T_ij``. Once positives are nearer than all
    negatives it falls without end as the width shrinks, at any fixed vectors, until float32 overflows. So the
    temperature stops at 0.01, or at half of where it starts if that is less; there it gets no gradient.

    A width may be left to the data. ``"measured"``: :func:`fmicl_text.core.fmicl` sets it from the negatives of the
    first batch, by :mod:`fmicl_text.core.balance`, and it is part of the state. ``"adaptive"``: each batch has its own,
    by :mod:`fmicl_text.core.overlap`.

    Args:
        temperature: ``tau > 0``, ``"measured"`` or ``"adaptive"``.
        learn: Whether ``log tau`` is a parameter, starting there.

    Attributes:
        latest_temperature: Of an adaptive width, that of the newest training batch.

    Raises:
        ValueError: If a width is to be learned that has no start, or a word is none of the two.
    """

    measured_temperature: Tensor

    def __init__(self, temperature: float | Measured | Adaptive, learn: bool) -> None:
        super().__init__()
        if isinstance(temperature, str) and temperature not in OF_DATA:
            raise ValueError(f"a width must be a number, 'measured' or 'adaptive', got {temperature!r}")
        if isinstance(temperature, str) and learn:
            raise ValueError(f"the width from which learning starts must be a number, got {temperature!r}")
        self.initial_temperature = math.nan if isinstance(temperature, str) else temperature
        self.log_temperature = nn.Parameter(torch.tensor(math.log(self.initial_temperature))) if learn else None
        self.is_adaptive = temperature == "adaptive"
        self.latest_temperature: Tensor | None = None
        self._temperature_of_batch: Tensor | None = None
        if temperature == "measured":
            self.register_buffer("measured_temperature", torch.tensor(math.nan))
            self.register_load_state_dict_post_hook(_take_measured)

    @property
    def has_width(self) -> bool:
        """Whether the width is known: given, or measured."""
        return self.initial_temperature > 0  # not NaN; a comparison can be compiled, math.isnan cannot

    def set_width(self, temperature: float) -> None:
        """Set a width that was left to the data."""
        self.measured_temperature.fill_(temperature)
        self.initial_temperature = self.measured_temperature.item()  # rounded as it is after a resume

    def of_batch(self, temperature: Tensor) -> Self:
        """Return a copy for one batch, with its own width: a scalar tensor, which in training is kept as the latest."""
        found = copy.copy(self)
        found._temperature_of_batch = temperature
        if self.training:
            self.latest_temperature = temperature
        return found

    @property
    def temperature(self) -> float | Tensor:
        """``tau``: a number; a scalar tensor when each batch has its own, or, with gradient, when it is learned.

        Raises:
            ValueError: If it is left to the data, and no batch has given it.
        """
        if self._temperature_of_batch is not None:
            return self._temperature_of_batch
        if not self.has_width:
            raise ValueError(
                f"the kernel's width is {'adaptive' if self.is_adaptive else 'measured'!r}, and no batch has given it: "
                "core.fmicl takes it from a batch, other objectives need a number"
            )
        if self.log_temperature is None:
            return self.initial_temperature
        return self.log_temperature.clamp(min=math.log(min(NARROWEST, self.initial_temperature / 2))).exp()

    @property
    def sigma(self) -> float | Tensor:
        """``sigma = sqrt(tau)``, as :attr:`temperature`."""
        return self.temperature**0.5

    def at_start(self, cosine: Tensor) -> Tensor:
        """Return ``r`` with the widths that learned ones started from."""
        starts = {
            f"{place}.log_temperature".lstrip("."): torch.full_like(width, math.log(part.initial_temperature))
            for place, part in self.named_modules()
            if isinstance(part, Kernel) and (width := part.log_temperature) is not None
        }
        if not starts:
            return self.forward(cosine)
        return torch.func.functional_call(self, starts, cosine)


def _take_measured(kernel: Kernel, incompatible: Any) -> None:
    """Take a measured width from a state that was loaded."""
    kernel.initial_temperature = kernel.measured_temperature.item()


class GaussianKernel(Kernel):
    r"""The paper's kernel ``u = mu exp(-||a-b||^2 / (2 sigma^2))``, that is ``r = log mu - (1-s)/sigma^2``.

    Args:
        sigma: Width; the default 0.25 is ``sigma^2 = 1/16``, c = 8. The paper has 1/40 for text and 1/2 for images.
            ``"measured"``: from the first batch; ``"adaptive"``: from each.
        mu: Ratio of a coincident pair, at most 2 (beyond it Vincze-Le Cam loses its convexity); 1 in the paper.
        learn: Whether ``log sigma^2`` is a parameter.

    Shape: cosine ``(...)`` to ``(...)``.

    Raises:
        ValueError: If ``sigma`` is not positive, or ``mu`` not in (0, 2].
    """

    def __init__(self, sigma: float | Measured | Adaptive = 0.25, mu: float = 1.0, learn: bool = False) -> None:
        if not isinstance(sigma, str):
            require_positive(sigma=sigma)
        if not 0 < mu <= 2:
            raise ValueError(f"mu must be above 0 and at most 2, got {mu!r}")
        super().__init__(sigma if isinstance(sigma, str) else sigma**2, learn)
        self.mu = mu

    def forward(self, cosine: Tensor) -> Tensor:
        """Return ``r = log u``, elementwise."""
        r = (cosine - 1) / self.temperature
        return r if self.mu == 1 else r + math.log(self.mu)


class CosineKernel(Kernel):
    """``u = exp(s / tau)``, that is ``r = s / tau``: the similarity inside InfoNCE.

    Args:
        temperature: ``tau``; SimCSE has 0.05. ``"measured"``: from the first batch; ``"adaptive"``: from each.
        learn: Whether ``log tau`` is a parameter.

    Shape: cosine ``(...)`` to ``(...)``.

    Raises:
        ValueError: If ``temperature`` is not positive.
    """

    def __init__(self, temperature: float | Measured | Adaptive = 0.05, learn: bool = False) -> None:
        if not isinstance(temperature, str):
            require_positive(temperature=temperature)
        super().__init__(temperature, learn)

    def forward(self, cosine: Tensor) -> Tensor:
        """Return ``r = log u``, elementwise."""
        return cosine / self.temperature


class ExponentialKernel(Kernel):
    r"""``u = exp(-||a-b||^gamma / tau)``, Kernel-InfoNCE's family: Gaussian at gamma 2, Laplacian at 1.

    Tan, Zhang, Yang, Yuan, "Contrastive Learning Is Spectral Clustering On Similarity Graph", ICLR 2024,
    arXiv 2303.15103. At ``gamma = 2`` this is a :class:`CosineKernel` of temperature ``tau / 2``, up to a factor.

    Args:
        gamma: Power of the distance, in (0, 2]; below 2 the slope is infinite at distance 0, so rows nearer than
            0.001 attract no further.
        temperature: ``tau``; the authors' default 0.1.
        learn: Whether ``log tau`` is a parameter.

    Shape: cosine ``(...)`` to ``(...)``.

    Raises:
        ValueError: If ``gamma`` is not in (0, 2], or ``temperature`` not positive.
    """

    def __init__(self, gamma: float = 1.0, temperature: float = 0.1, learn: bool = False) -> None:
        if not 0 < gamma <= 2:
            raise ValueError(f"gamma must be above 0 and at most 2, got {gamma!r}")
        require_positive(temperature=temperature)
        super().__init__(temperature, learn)
        self.gamma = gamma

    def forward(self, cosine: Tensor) -> Tensor:
        """Return ``r = log u``, elementwise."""
        squared = 2 - 2 * cosine
        if self.gamma != 2:
            squared = squared.clamp(min=_NEAREST) ** (self.gamma / 2)
        return -squared / self.temperature


class SumKernel(Kernel):
    r"""``u = u_1 + u_2``: Kernel-InfoNCE's simple sum kernel, inside one logarithm.

    Args:
        first: One kernel.
        second: The other.

    Shape: cosine ``(...)`` to ``(...)``.
    """

    def __init__(self, first: Kernel, second: Kernel) -> None:
        super().__init__(first.initial_temperature, learn=False)
        self.first = first
        self.second = second

    def forward(self, cosine: Tensor) -> Tensor:
        """Return ``r = log u``, elementwise."""
        return torch.logaddexp(self.first(cosine), self.second(cosine))


class InverseMultiquadricKernel(Kernel):
    r"""``u = (1 + ||a-b||^2 / c^2)^(-power)``; with power 1/2 it is ``c / sqrt(c^2 + ||a-b||^2)``.

    Args:
        c: Width.
        power: Exponent.

    Shape: cosine ``(...)`` to ``(...)``.

    Raises:
        ValueError: If ``c`` or ``power`` is not positive.
    """

    def __init__(self, c: float = 1.0, power: float = 0.5) -> None:
        require_positive(c=c, power=power)
        super().__init__(c**2, learn=False)
        self.power = power

    def forward(self, cosine: Tensor) -> Tensor:
        """Return ``r = log u``, elementwise."""
        return -self.power * torch.log1p((2 - 2 * cosine) / self.temperature)


class RieszKernel(Kernel):
    r"""``u = ||a-b||^(-s)``, the Riesz kernel; rows nearer than 0.001 count as 0.001 apart.

    Args:
        s: Exponent, positive; 1 is Coulomb's law.

    Shape: cosine ``(...)`` to ``(...)``.

    Raises:
        ValueError: If ``s`` is not positive.
    """

    def __init__(self, s: float = 1.0) -> None:
        require_positive(s=s)
        super().__init__(1.0, learn=False)
        self.s = s

    def forward(self, cosine: Tensor) -> Tensor:
        """Return ``r = log u``, elementwise."""
        return -self.s / 2 * torch.log((2 - 2 * cosine).clamp(min=_NEAREST))


class FocalKernel(Kernel):
    r"""Focal-InfoNCE's modulated similarity, ``r = s (s + margin) / tau``.

    Hou, Li, "Improving Contrastive Learning of Sentence Embeddings with Focal-InfoNCE", Findings of EMNLP 2023,
    arXiv 2310.06918. It is not monotone: below a cosine of ``-margin / 2`` a pair that is pushed apart comes closer.

    Args:
        temperature: ``tau``; SimCSE's 0.05.
        margin: ``m``: the paper's 0.3 for negatives, 0 for positives.
        learn: Whether ``log tau`` is a parameter.

    Shape: cosine ``(...)`` to ``(...)``.

    Raises:
        ValueError: If ``temperature`` is not positive.
    """

    def __init__(self, temperature: float = 0.05, margin: float = 0.3, learn: bool = False) -> None:
        require_positive(temperature=temperature)
        super().__init__(temperature, learn)
        self.margin = margin

    def forward(self, cosine: Tensor) -> Tensor:
        """Return ``r = log u``, elementwise."""
        return cosine * (cosine + self.margin) / self.temperature


class CosineCritic(Kernel):
    r"""The cosine itself as the critic, ``f'(u) = s / tau``: the similarity the paper compares its kernel with.

    The critic must lie in the conjugate's domain ``f'((0, inf))``, which a cosine can leave: for ``js`` it ends
    at log 2, for ``sh`` and ``vlc`` at 1, for ``tsallis`` it starts at 0. There ``s / tau`` is **clamped** to
    0.02 inside the domain, and a clamped pair has no gradient. This is why the cosine fails for these
    divergences; the kernel is for study.

    Args:
        divergence: The divergence whose critic the cosine is to be.
        temperature: ``tau``; default 1.

    Shape: cosine ``(...)`` to ``(...)``.

    Raises:
        ValueError: If ``temperature`` is not positive.
    """

    def __init__(self, divergence: Divergence, temperature: float = 1.0) -> None:
        require_positive(temperature=temperature)
        super().__init__(temperature, learn=False)
        self.divergence = divergence

    def forward(self, cosine: Tensor) -> Tensor:
        """Return ``r = log (f')^{-1}(s / tau)``, elementwise."""
        low, high = self.divergence.domain
        critic = (cosine / self.temperature).clamp(low + _MARGIN, high - _MARGIN)
        return self.divergence.inverse_critic(critic)


def kernel_named(name: str, *, learn: bool = False, divergence: Divergence | None = None, **settings: Any) -> Kernel:
    """Return the kernel called ``name``, with its own defaults for settings that are ``None``.

    Args:
        name: A key of :data:`fmicl_text.core.KERNELS`: ``gaussian`` (takes ``sigma``, ``mu``), ``cosine`` (takes
            ``temperature``), ``cosine-critic`` (takes ``temperature`` and the divergence; cannot be learned), or one
            that was registered.
        learn: Whether the width is learned.
        divergence: The divergence of the objective, if it has one.
        settings: The kernel's settings by name.

    Raises:
        ValueError: If the name is unknown, a setting belongs to another kernel, or a value is out of range.
    """
    takes = {key: list(inspect.signature(factory).parameters) for key, factory in KERNELS.items()}
    allowed = [key for key in takes if divergence is not None or "divergence" not in takes[key]]
    if name not in allowed:
        raise not_one_of("kernel", name, allowed)
    own = [key for key in takes[name] if key not in ("learn", "divergence")]
    given = {key: value for key, value in settings.items() if value is not None}
    if strangers := [key for key in given if key not in own]:
        raise ValueError(f"the {name} kernel takes {' and '.join(own) or 'nothing'}, not {' or '.join(strangers)}")
    if "learn" in takes[name]:
        given["learn"] = learn
    elif learn:
        raise ValueError(f"learn_kernel does not go with the kernel {name!r}, which has no width to learn")
    if "divergence" in takes[name]:
        given["divergence"] = divergence
    kernel: Kernel = KERNELS[name](**given)
    return kernel
