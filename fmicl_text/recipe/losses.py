"""The ``loss:`` section of a recipe: one kind for each objective.

What is left out has the default of the loss class; the classes are in :mod:`fmicl_text.losses`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from fmicl_text.section import Conflict, Section

Share = Annotated[float, Field(ge=0, le=1)]


class Part(Section, ABC):
    """A part of the loss's settings that a section of its own describes."""

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Return the settings as keyword arguments of a loss class."""


class KernelSection(Part):
    """A kernel and its settings."""

    name: str
    """Which kernel."""

    def arguments(self) -> dict[str, Any]:
        """Return the settings as keyword arguments of a loss class."""
        return {"kernel": self.name} | self.model_dump(exclude={"name"})


class GaussianSection(KernelSection):
    """The paper's kernel: u = mu exp(-||a - b||^2 / (2 sigma^2))."""

    name: Literal["gaussian"]
    """Which kernel."""
    sigma: PositiveFloat
    """Width; sigma^2 is the temperature of a cosine kernel, and the paper's c is 1 / (2 sigma^2)."""
    mu: Annotated[float, Field(gt=0, le=2)] = 1.0
    """Density ratio of a coincident pair."""


class CosineSection(KernelSection):
    """The similarity inside InfoNCE: u = exp(cosine / temperature)."""

    name: Literal["cosine"]
    """Which kernel."""
    temperature: PositiveFloat
    """Width; SimCSE has 0.05."""


class CosineCriticSection(KernelSection):
    """The cosine itself as f-MICL's critic, clamped to the divergence's domain; for study."""

    name: Literal["cosine-critic"]
    """Which kernel."""
    temperature: PositiveFloat = 1.0
    """The critic is cosine / temperature."""


class AnnealSection(Section):
    """A region that starts as all candidates and shrinks."""

    schedule: Literal["linear", "step", "exponential", "adaptive"] = "linear"
    """How it shrinks; adaptive: by a hundredth at each step whose loss is below that of the last ten, and back."""
    steps: PositiveInt | None = None
    """Training steps until it is what it is to be, for all schedules but adaptive."""

    def conflicts(self) -> Iterator[Conflict]:
        """An adaptation takes the steps that it takes."""
        if self.schedule == "adaptive" and self.steps is not None:
            yield ("steps",), "does not go with schedule: adaptive, which follows the loss"
        if self.schedule != "adaptive" and self.steps is None:
            yield ("steps",), f"is required with schedule: {self.schedule}"


class RegionSection(Part):
    """Negatives from a region of similarity only: the hardest (ball), without the very hardest (ring)."""

    region: Literal["ball", "ring"]
    """Which region."""
    outer: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of a row's candidates, from the most similar down, that are in the ball."""
    inner: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the ball that a ring leaves out, the closest; default 0.1."""
    anneal: AnnealSection | None = None
    """Shrink to the region during training; default: it is the same from the start."""

    def conflicts(self) -> Iterator[Conflict]:
        """A ball has no hole."""
        if self.region == "ball" and self.inner is not None:
            yield ("inner",), "belongs to region: ring"

    def arguments(self) -> dict[str, Any]:
        """Return the settings as keyword arguments of a loss class."""
        from fmicl_text.core import Adaptation, Annealing, Region

        inner = 0.0 if self.region == "ball" else 0.1 if self.inner is None else self.inner
        region = Region(self.outer, inner)
        if self.anneal is None:
            return {"region": region}
        if self.anneal.steps is None:
            return {"region": Adaptation(region)}
        return {"region": Annealing(region, self.anneal.steps, self.anneal.schedule)}


class PairsSection(RegionSection):
    """Which pairs, and which region of them."""

    pairs: Literal["within", "cross", "both"] = "cross"
    """Among anchors (the paper's), anchors with other positives, or both."""

    def arguments(self) -> dict[str, Any]:
        """Return the settings as keyword arguments of a loss class."""
        return super().arguments() | {"negatives": self.pairs}


class QueueSection(Part):
    """MoCo's queue: earlier rows, encoded by a moving average of the encoder, as further negatives."""

    size: PositiveInt
    """Rows of the queue of each process."""
    momentum: Share = 0.999
    """Share of the moving average that each training step keeps."""

    def arguments(self) -> dict[str, Any]:
        """Return the settings as keyword arguments of a loss class."""
        return {"queue": self.size, "momentum": self.momentum}


class LossSection(Section):
    """An objective and its settings; for what is left out, the loss class has its own default."""

    objective: str
    """Which loss."""
    mini_batch_size: PositiveInt | None = None
    """Encode so many rows at a time: the same loss and gradients in less memory, for a second forward pass."""
    gather_across_devices: bool | None = None
    """Whether the rows of all processes are one batch; default true."""

    queue: QueueSection | None = None
    """Negatives from a momentum queue too."""

    def arguments(self) -> dict[str, Any]:
        """Return the settings as keyword arguments of the loss class, without those left at their default."""
        arguments: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name == "objective" or value == field.default:
                continue
            if value in ("ball", "ring"):
                value = RegionSection(region=value)
            arguments |= value.arguments() if isinstance(value, Part) else {name: value}
        return arguments


class Restricted(LossSection):
    """An objective whose negatives may be restricted to a region."""

    negatives: Literal["ball", "ring"] | RegionSection | None = None
    """Take negatives from a region of similarity only."""


class WithTemperature(Restricted):
    """An objective on cosines over a temperature."""

    temperature: PositiveFloat | None = None
    """Divides the cosine; default the paper's."""
    learn_kernel: bool = False
    """Whether the temperature is trained too."""


class FMICLSection(LossSection):
    """f-MICL, :class:`fmicl_text.FMICLLoss`."""

    objective: Literal["fmicl"]
    """Which loss."""
    divergence: Literal["kl", "js", "pearson", "sh", "tsallis", "vlc", "rkl", "neyman", "jeffreys"] | None = None
    """The f-divergence; the paper rules out rkl, neyman and jeffreys, they are for study."""
    order: Annotated[float, Field(gt=1)] | None = None
    """Order of the Tsallis divergence, default 2."""
    kernel: Annotated[GaussianSection | CosineSection | CosineCriticSection, Field(discriminator="name")] | None = None
    """Density ratio of a pair."""
    learn_kernel: bool = False
    """Whether the kernel's width is trained too."""
    alpha: Annotated[float, Field(ge=0)] | Literal["auto"] | None = None
    """Weight of the negative term; auto keeps it at 1 / mean density ratio of the negative pairs."""
    balance_cosine: Annotated[float, Field(ge=-1, lt=1)] | None = None
    """Instead of alpha: the cosine at which a pair's push and pull balance."""
    shift: Literal["dv"] | None = None
    """Instead of alpha: the shift of Donsker and Varadhan, which balances each batch anew."""
    negatives: Literal["within", "cross", "both", "ball", "ring"] | PairsSection | None = None
    """Which pairs are negatives: among anchors (the paper's), anchors with other positives, or both; or a region."""

    def conflicts(self) -> Iterator[Conflict]:
        """An order is Tsallis's, alpha has one source, and a cosine critic has no width to learn."""
        if self.order is not None and self.divergence != "tsallis":
            yield ("order",), "belongs to divergence: tsallis"
        if self.alpha is not None and self.balance_cosine is not None:
            yield ("balance_cosine",), "is another way to give alpha; give one of the two"
        if self.shift is not None and (self.alpha is not None or self.balance_cosine is not None):
            yield ("shift",), "takes the place of alpha and balance_cosine; give one of the three"
        if self.learn_kernel and isinstance(self.kernel, CosineCriticSection):
            yield ("learn_kernel",), "does not go with kernel: cosine-critic, whose temperature is fixed"


class InfoNCESection(Restricted):
    """InfoNCE, :class:`fmicl_text.InfoNCELoss`."""

    objective: Literal["infonce"]
    """Which loss."""
    kernel: Annotated[GaussianSection | CosineSection, Field(discriminator="name")] | None = None
    """Density ratio of a pair; default cosine with temperature 0.05."""
    learn_kernel: bool = False
    """Whether the kernel's width is trained too."""
    symmetric: bool = False
    """Average both directions, from anchor to positive and back."""


class NTXentSection(WithTemperature):
    """SimCLR's loss, :class:`fmicl_text.NTXentLoss`; temperature 0.5."""

    objective: Literal["ntxent"]
    """Which loss."""


class AlignmentUniformitySection(Restricted):
    """Alignment and uniformity, :class:`fmicl_text.AlignmentUniformityLoss`."""

    objective: Literal["alignment-uniformity"]
    """Which loss."""
    power: Annotated[float, Field(gt=0, le=2)] | None = None
    """Exponent of the alignment's distance; default 2."""
    t: PositiveFloat | None = None
    """Inverse width of the uniformity's Gaussian; default 2, and 10 matches SimCSE's temperature."""
    align_weight: PositiveFloat | None = None
    """Weight of the alignment; default 1."""
    uniform_weight: PositiveFloat | None = None
    """Weight of the uniformity; default 1."""


class SpectralSection(Restricted):
    """Spectral contrastive loss, :class:`fmicl_text.SpectralContrastiveLoss`."""

    objective: Literal["spectral"]
    """Which loss."""
    mu: PositiveFloat | None = None
    """Weight of the negatives; default 1."""


class KernelInfoNCESection(WithTemperature):
    """Kernel-InfoNCE, :class:`fmicl_text.KernelInfoNCELoss`; temperature 0.1."""

    objective: Literal["kernel-infonce"]
    """Which loss."""
    kernel: Literal["gaussian", "laplacian", "exponential"] | None = None
    """Kernel of the distance; default laplacian."""
    gamma: Annotated[float, Field(gt=0, le=2)] | None = None
    """Power of the distance of the exponential kernel; default 0.5."""
    mix: Literal["sum", "losses", "concatenation"] | None = None
    """Add a Gaussian: the paper's sum of kernels, its authors' code's mix of losses, or one kernel for each half."""
    second_temperature: PositiveFloat | None = None
    """Temperature of that Gaussian; default the other's."""
    weight: Share | None = None
    """Share of the first loss in a mix of losses; default 0.5."""

    def conflicts(self) -> Iterator[Conflict]:
        """Settings of what is not chosen."""
        if self.gamma is not None and self.kernel != "exponential":
            yield ("gamma",), "belongs to kernel: exponential"
        if self.second_temperature is not None and self.mix is None:
            yield ("second_temperature",), "belongs to mix"
        if self.weight is not None and self.mix != "losses":
            yield ("weight",), "belongs to mix: losses"


class DHELSection(WithTemperature):
    """Decoupled hyperspherical energy, :class:`fmicl_text.DHELLoss`; temperature 0.3."""

    objective: Literal["dhel"]
    """Which loss."""
    both_views: bool = True
    """Whether the positives' view has a term of its own."""


class KCLSection(Restricted):
    """Kernel contrastive learning, :class:`fmicl_text.KCLLoss`."""

    objective: Literal["kcl"]
    """Which loss."""
    kernel: Literal["gaussian", "imq", "riesz", "log"] | None = None
    """Kernel of the distance; default gaussian."""
    gamma: PositiveFloat | None = None
    """Weight of the negative term; default 16."""
    t: PositiveFloat | None = None
    """Inverse width of the gaussian and log kernels; default 2."""
    c: PositiveFloat | None = None
    """Width of the imq kernel; default 1."""
    s: PositiveFloat | None = None
    """Exponent of the riesz kernel; default 1."""

    def conflicts(self) -> Iterator[Conflict]:
        """Settings of another kernel."""
        kernel = self.kernel or "gaussian"
        for name, kernels in (("t", ("gaussian", "log")), ("c", ("imq",)), ("s", ("riesz",))):
            if getattr(self, name) is not None and kernel not in kernels:
                yield (name,), f"belongs to kernel: {' or '.join(kernels)}"


class DCLSection(WithTemperature):
    """Decoupled contrastive loss, :class:`fmicl_text.DCLLoss`; temperature 0.1."""

    objective: Literal["dcl"]
    """Which loss."""
    weight_sigma: PositiveFloat | None = None
    """Makes it DCLW, which weighs positives up that are far apart; the paper's is 0.5."""
    symmetric: bool = True
    """Average both directions, from anchor to positive and back."""


class FocalInfoNCESection(Restricted):
    """Focal-InfoNCE, :class:`fmicl_text.FocalInfoNCELoss`."""

    objective: Literal["focal-infonce"]
    """Which loss."""
    temperature: PositiveFloat | None = None
    """Divides the modulated cosine; default 0.05."""
    margin: float | None = None
    """Hardness margin of the negatives; default 0.3."""


class HCLSection(WithTemperature):
    """Hard-negative reweighting, :class:`fmicl_text.HCLLoss`; temperature 0.5."""

    objective: Literal["hcl"]
    """Which loss."""
    tau_plus: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of the negatives that are positives in truth; default 0.1."""
    beta: Annotated[float, Field(ge=0)] | None = None
    """Concentration on hard negatives; default 1."""


class AsymmetricInfoNCESection(WithTemperature):
    """InfoNCE between a clean and a noisy view, :class:`fmicl_text.AsymmetricInfoNCELoss`; temperature 0.5."""

    objective: Literal["asymmetric-infonce"]
    """Which loss."""
    degree: Share | None = None
    """Share of the gradient that moves the anchors; default 0.2."""


class ContextualInfoNCESection(LossSection):
    """Each anchor against its own tuple, :class:`fmicl_text.ContextualInfoNCELoss`."""

    objective: Literal["contextual-infonce"]
    """Which loss."""
    temperature: PositiveFloat | None = None
    """Divides the cosine; default 0.05."""
    learn_kernel: bool = False
    """Whether the temperature is trained too."""

    def conflicts(self) -> Iterator[Conflict]:
        """Its negatives are given."""
        if self.queue is not None:
            yield ("queue",), "does not go with contextual-infonce, which compares with what was offered"


LossSections = (
    FMICLSection
    | InfoNCESection
    | NTXentSection
    | AlignmentUniformitySection
    | SpectralSection
    | KernelInfoNCESection
    | DHELSection
    | KCLSection
    | DCLSection
    | FocalInfoNCESection
    | HCLSection
    | AsymmetricInfoNCESection
    | ContextualInfoNCESection
)
"""Told apart by ``objective``."""
