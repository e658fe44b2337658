"""The declaration of an objective: its paper, its settings and what it computes, importable without torch.

Each module in ``papers`` declares one :class:`Objective`. Everything that names objectives or their settings
is made from the declarations: the ``loss:`` section of a recipe and its JSON schema, the loss classes and their
signatures, the settings on a model card, the table in ``README.md`` and the tests of all losses.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from fmicl_text.errors import InputError
from fmicl_text.findings import explain
from fmicl_text.losses.matryoshka import Matryoshka
from fmicl_text.losses.mlp import Mlp
from fmicl_text.losses.nested import flattened, keys_of
from fmicl_text.losses.ranking import instead_of, instead_of_scale
from fmicl_text.section import Conflict, KeyPath, Section, refused

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fmicl_text.core import Adaptation, Annealing, Region

_OF_A_QUEUE = 0.999  # MoCo's momentum
OF_RECIPES = frozenset({"objective", "matryoshka"})
"""Settings that a loss class does not take: the class is the objective, and ``MatryoshkaLoss`` goes around it."""
ANY = "any"
"""A choice, in :class:`Of`: any value of the other setting but None."""
_WIDTHS: dict[str, tuple[str, Callable[[float], float]]] = {
    "gaussian": ("sigma", math.sqrt),
    "cosine": ("temperature", lambda sigma: sigma**2),
}
"""Kernel -> its width, and how it follows from that of the other."""
Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
OpenShare = Annotated[float, Field(ge=0, lt=1)]
InnerShare = Annotated[float, Field(gt=0, lt=1)]
SCHEDULES = ("linear", "step", "exponential")
"""Schedules of a region that take a number of steps."""
Schedule = Literal["linear", "step", "exponential", "adaptive"]


@dataclass(frozen=True)
class Paper:
    """Where an objective comes from.

    Attributes:
        source: Authors, venue and year, as in a table.
        arxiv: Its number on arXiv.
        bibtex: The entry that the model card shows.
    """

    source: str
    arxiv: str
    bibtex: str


@dataclass(frozen=True)
class Of:
    """Annotates a setting that belongs to certain choices of another setting, and is refused with the others.

    Attributes:
        choice: The other setting.
        defaults: The default under each choice that has the setting; a function computes it from the objective.
        registered: Whether it may belong to choices that users have registered, too.
    """

    choice: str
    defaults: Mapping[Any, Any]
    registered: bool = False

    def admits(self, chosen: Any) -> bool:
        """Return whether the setting belongs to what was chosen."""
        return chosen in self.defaults or (ANY in self.defaults and chosen is not None)

    def default(self, chosen: Any, objective: Objective) -> Any:
        """Return the default under what was chosen, if it has one."""
        if not self.admits(chosen):
            return None
        default = self.defaults.get(chosen, self.defaults.get(ANY))
        return default(objective) if callable(default) else default


@dataclass(frozen=True)
class Variant:
    """A second row of an objective in the table of losses.

    Attributes:
        setting: What chooses it, as in a recipe.
        formula: As :attr:`Objective.formula`.
        reduction: As :attr:`Objective.reduction`.
        when: As :attr:`Objective.when`.
        source: Where it comes from, in Markdown.
    """

    setting: str
    formula: str
    reduction: str
    when: str
    source: str


class Objective(Section, ABC):
    """An objective and its settings.

    A subclass gives the class variables, its settings as fields, :meth:`terms`, and :meth:`parts` if it needs any. The
    field ``objective`` is its name in recipes. A setting that is left out has its default; ``None`` counts as left out.
    """

    loss_name: ClassVar[str]
    """Name of its loss class, such as ``InfoNCELoss``."""
    paper: ClassVar[Paper]
    """Where it was published."""
    formula: ClassVar[str]
    """What is minimised, in Markdown."""
    reduction: ClassVar[str] = "row log-sum-exp"
    """Over pairs: a mean, or a log-sum-exp over each row."""
    needs: ClassVar[str] = "pairs"
    """What the data must have."""
    needs_negatives: ClassVar[bool] = False
    """Whether the data must have explicit negatives."""
    when: ClassVar[str]
    """What it is good for."""
    variants: ClassVar[tuple[Variant, ...]] = ()
    """Settings that make it another objective in the table of losses."""
    positional: ClassVar[tuple[str, ...]] = ()
    """Settings that the loss class also takes by position, after the encoder."""

    objective: str
    """Which objective."""
    mini_batch_size: PositiveInt | None = None
    """Encode this many rows at a time, twice: the same loss and gradients in less memory (GradCache, 2101.06983)."""
    gather_across_devices: bool = True
    """Whether the rows of all processes are one batch; otherwise each process has its own."""
    head: Literal["mlp"] | None = None
    """A dense layer and tanh on the embeddings in training only, as unsupervised SimCSE has."""
    projector: Mlp | None = None
    """Layers between encoder and loss in training only (SimCLR, 2002.05709)."""
    predictor: Mlp | None = None
    """Layers after these in training only, not of the moving average (MoCo v3, 2104.02057); needs momentum."""
    queue: PositiveInt | None = None
    """Earlier keys kept on each process as further negatives, two of each row (MoCo, 1911.05722)."""
    momentum: Share | None = None
    """Share that a training step keeps of a moving average of the encoder, which makes the positives; queue: 0.999."""
    momentum_schedule: Annotated[Literal["constant", "cosine"] | None, Of("momentum", {ANY: "constant"})] = None
    """cosine: from this share to 1, by half a cosine over all steps of training (MoCo v3)."""
    factor: Annotated[PositiveFloat | None, Of("momentum", {ANY: 1.0})] = None
    """The loss times this; MoCo v3 has 4 * temperature over the mean of its two directions."""
    matryoshka: Matryoshka | None = None
    """Also train an embedding's first numbers as embeddings of their own, by MatryoshkaLoss (2205.13147)."""
    region: Literal["ball", "ring"] | None = None
    """Take the negatives of each row from a region of similarity: the hardest, or those without the very hardest."""
    region_outer: Annotated[PositiveShare | None, Of("region", {ANY: 0.1})] = None
    """Share of a row's candidates, from the most similar down, that are in the ball."""
    region_inner: Annotated[OpenShare | None, Of("region", {"ring": 0.1})] = None
    """Share of the ball that a ring leaves out, the most similar."""
    region_schedule: Annotated[Schedule | None, Of("region", {ANY: None})] = None
    """Begin with all candidates and shrink to the region; adaptive: while the loss falls. Default: no shrinking."""
    region_steps: Annotated[PositiveInt | None, Of("region_schedule", dict.fromkeys(SCHEDULES))] = None
    """Training steps after which the region has shrunk, with every schedule but adaptive."""
    region_delta: Annotated[InnerShare | None, Of("region_schedule", {"adaptive": 0.01})] = None
    """Share of the candidates by which an adaptive region changes in a training step."""
    region_window: Annotated[PositiveInt | None, Of("region_schedule", {"adaptive": 10})] = None
    """Training steps whose mean loss decides whether an adaptive region shrinks."""

    def parts(self) -> dict[str, nn.Module]:
        """Return new modules that the objective is computed with, by name: a kernel, a weight.

        Raises:
            ValueError: If settings that are fine by themselves overflow together.
        """
        return {}

    def measured(self, **parts: Any) -> dict[str, float]:
        """Return the settings that were left to the data, as they were measured so far.

        Args:
            parts: The modules of :meth:`parts` by name, in use.
        """
        return {}

    def of_last_batch(self, **parts: Any) -> dict[str, Tensor]:
        """Return the settings that each batch has its own of, as the last one had them.

        Args:
            parts: The modules of :meth:`parts` by name, in use.
        """
        return {}

    @abstractmethod
    def terms(self, x: Tensor, y: Tensor, **parts_and_batch: Any) -> dict[str, Tensor]:
        """Return the scalar terms of the objective on one batch; their sum is the loss.

        Args:
            x: Anchors, unit vectors ``(B, D)``.
            y: Positives, unit vectors ``(B, D)``.
            parts_and_batch: The modules of :meth:`parts` by name, and ``extra``, ``texts``, ``extra_texts`` and
                ``region`` as in :class:`fmicl_text.core.batch.Objective`.
        """

    @property
    def is_mean(self) -> bool:
        """Whether the loss is a sum of means over rows and pairs: its expectation is the same for every batch size.

        Then the gradients of several small batches, accumulated, have the expectation of the large batch's gradient.
        With n explicit negatives a row this is up to 1/B: of a row's negatives, B - 1 are in the batch and n B are
        explicit.
        """
        return False

    @property
    def is_bound(self) -> bool:
        """Whether minus the loss estimates a lower bound of an f-information, see :mod:`fmicl_text.core.shift`."""
        return False

    @property
    def needs_dimensions(self) -> bool:
        """Whether the loss has parts whose size depends on the encoder's."""
        return any(part is not None for part in (self.head, self.projector, self.predictor, self.momentum))

    def course(self) -> Region | Annealing | Adaptation | None:
        """Return the region of the negatives, as :mod:`fmicl_text.core.regions` has it."""
        if self.region is None:
            return None
        from fmicl_text.core import Adaptation, Annealing, Region

        assert self.region_outer is not None  # a default of the region
        region = Region(self.region_outer, self.region_inner or 0.0)
        if self.region_schedule is None:
            return region
        if self.region_steps is None:
            assert self.region_delta is not None and self.region_window is not None  # defaults of the schedule
            return Adaptation(region, self.region_delta, self.region_window)
        return Annealing(region, self.region_steps, self.region_schedule)

    def conflicts(self) -> Iterator[Conflict]:
        """Refuse settings that belong to a choice that was not made."""
        known = {choice for _, of in self.dependent() for choice in of.defaults}
        for name, of in self.dependent():
            chosen = getattr(self, of.choice)
            if of.registered and chosen not in known:
                continue  # what users have registered refuses settings itself
            if getattr(self, name) is not None and not of.admits(chosen):
                choices = of.choice if ANY in of.defaults else f"{of.choice}: {' or '.join(map(str, of.defaults))}"
                instead = "" if chosen is None else f", got {of.choice}: {chosen}{self._same_width(name, chosen)}"
                yield (name,), f"belongs to {choices}{instead}"
        if self.projector is not None and self.head is not None:
            yield ("projector",), "takes the place of head; give one of the two"
        if self.matryoshka is not None:
            for name in ("head", "projector", "predictor", "momentum"):
                if getattr(self, name) is not None:
                    written = "queue" if name == "momentum" and self.queue is not None else name
                    yield ("matryoshka",), f"cuts the encoder's own vectors: it does not go with {written}"
        if self.predictor is not None and self.momentum is None:
            yield ("predictor",), "is for a loss whose positives a moving average makes; set momentum"
        if self.region_schedule not in (None, "adaptive") and self.region_steps is None:
            yield ("region_steps",), f"is required with region_schedule: {self.region_schedule}"

    def _same_width(self, name: str, kernel: str) -> str:
        """Say which width of a kernel is the one that was given for another kernel."""
        value = getattr(self, name)
        if name not in dict(_WIDTHS.values()) or kernel not in _WIDTHS or isinstance(value, str):
            return ""
        width, of_other = _WIDTHS[kernel]
        return f"; {name}={value:g} is {width}={of_other(value):.4g} here"

    def defaults(self) -> dict[str, Any]:
        """Return the default of each setting for which it depends on other settings."""
        return {name: of.default(getattr(self, of.choice), self) for name, of in self.dependent()}

    @classmethod
    def dependent(cls) -> Iterator[tuple[str, Of]]:
        """Yield each setting that belongs to a choice of another, and what it depends on."""
        for name, field in cls.model_fields.items():
            yield from ((name, note) for note in field.metadata if isinstance(note, Of))

    @classmethod
    def name(cls) -> str:
        """Return the name of the objective in recipes."""
        name = cls.model_fields["objective"].default
        return name if isinstance(name, str) else ""

    @classmethod
    def own_fields(cls) -> list[str]:
        """Return the names of the settings that not every objective has."""
        return [name for name in cls.model_fields if name not in Objective.model_fields]

    @classmethod
    def described(cls, name: str) -> str:
        """Return the line that explains a setting, with its default where that depends on another setting."""
        field = cls.model_fields[name]
        text = (field.description or "").strip()
        for note in field.metadata:
            if isinstance(note, Of):
                defaults = [
                    f"{value!r}" + ("" if choice == ANY else f" with {note.choice}: {choice}")
                    for choice, value in note.defaults.items()
                    if value is not None and not callable(value)
                ]
                text += f" Default {', '.join(defaults)}." if defaults else ""
        return text

    @classmethod
    def written_at(cls, value: Any) -> dict[str, KeyPath]:
        """Return where settings were written in a section that has an older, nested spelling."""
        return flattened(value).written

    @classmethod
    def keys_of_older(cls, name: str) -> list[str]:
        """Return the keys of a section of the older, nested spelling."""
        return keys_of(name)

    @classmethod
    def of(cls, label: str, settings: Mapping[str, Any]) -> Self:
        """Return the objective with settings by name.

        Args:
            label: Name of the loss, for the message.
            settings: Those that are given; numbers of NumPy and torch count as numbers.

        Raises:
            InputError: With everything that is wrong.
        """
        given = {name: value.item() if hasattr(value, "item") else value for name, value in settings.items()}
        if "scale" in given and "scale" not in cls.model_fields:
            raise InputError(f"{label}: {instead_of_scale(given['scale'], cls)}")
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            found = explain(error, given, cls)
            meant = {f.path: instead_of(str(f.path[-1]), cls.model_fields) if f.unknown else "" for f in found}
            raise InputError(
                [f"{label}: {'.'.join(map(str, f.path))} {meant[f.path] or f.message}" for f in found]
            ) from None

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, value: Any) -> Any:
        flat = flattened(value)
        if flat.twice:
            problems = [
                InitErrorDetails(
                    type=refused(f"is given twice, also as {'.'.join(map(str, path))}"), loc=(name,), input=0
                )
                for name, path in flat.twice.items()
            ]
            raise ValidationError.from_exception_data(cls.__name__, problems)
        if isinstance(flat.settings, dict):
            given = {name: setting for name, setting in flat.settings.items() if setting is not None}
            return ({"momentum": _OF_A_QUEUE} if "queue" in given else {}) | given
        return flat.settings

    @model_validator(mode="after")
    def _fill_in(self) -> Self:
        """Fill in the defaults that depend on other settings, so that a resolved recipe shows them."""
        for name, value in self.defaults().items():
            if getattr(self, name) is None:
                self.__dict__[name] = value  # the model is frozen from here on
        return self
