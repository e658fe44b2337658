"""The recipe: everything one training run depends on, as a checked and frozen value.

:func:`fmicl_text.recipe_file.load_recipe` makes one from YAML and explains what is wrong with it line by line.
Nothing heavy is imported here, unless a recipe has a ``train:`` section to check.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from fmicl_text.hints import did_you_mean
from fmicl_text.resources import resource_folder
from fmicl_text.training_arguments import check_training_arguments

Conflict = tuple[tuple[str | int, ...], str]
"""Where, from the section on, and what is impossible there."""


def _refused(message: str) -> PydanticCustomError:
    """Return an error whose message is shown as it is."""
    return PydanticCustomError("refused", "{message}", {"message": message})


class Section(BaseModel):
    """A mapping in a recipe: an unknown key is an error, and so is a value of another type."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def conflicts(self) -> Iterator[Conflict]:
        """Yield every impossible combination of values that are fine by themselves."""
        yield from ()

    @model_validator(mode="after")
    def _refuse_conflicts(self) -> Self:
        problems = [InitErrorDetails(type=_refused(text), loc=loc, input=None) for loc, text in self.conflicts()]
        if problems:
            raise ValidationError.from_exception_data(type(self).__name__, problems)
        return self

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Drop ``null`` where it is the default, so that a resolved recipe has only lines that say something."""
        fields = type(self).model_fields
        kept = handler(self).items()
        return {key: value for key, value in kept if value is not None or fields[key].default is not None}


class ModelSection(Section):
    """The encoder to start from."""

    base: str
    """Hub id, local folder, or sample:minilm."""
    revision: str | None = None
    """Revision of the model on the Hub."""
    pooling: Literal["cls", "mean", "max"] | None = None
    """How token vectors become a sentence vector; default: what the model's files say, mean if they say nothing."""
    max_seq_length: PositiveInt | None = None
    """Tokens of a sentence that are read; default: what the model's files say."""
    head: Literal["none", "mlp", "mlp-train-only"] = "none"
    """Dense layer and tanh on the sentence vector: kept in the model, or dropped after training as in SimCSE."""


class Columns(Section):
    """Which column of the data plays which role."""

    anchor: str
    """Column of the anchors."""
    positive: str | None = None
    """Column of the text that belongs to the anchor."""
    negatives: list[str] = []
    """Columns of texts that look like the positive and are not."""

    @property
    def roles(self) -> dict[str, str]:
        """Role to column, in the order the losses expect: anchor, positive, negative_1, ..., negative_k."""
        positive = {} if self.positive is None else {"positive": self.positive}
        return {"anchor": self.anchor} | positive | {f"negative_{i}": c for i, c in enumerate(self.negatives, 1)}

    def conflicts(self) -> Iterator[Conflict]:
        """A column has one role, and negatives are negatives of a pair."""
        if len(set(self.roles.values())) < len(self.roles):
            yield (), f"each role takes a column of its own, got {', '.join(self.roles.values())}"
        if self.negatives and self.positive is None:
            yield ("negatives",), "needs a positive column too"


class DataSection(Section):
    """What to train on. Relative paths start at the current working directory."""

    train: str
    """Hub id, hf://datasets/OWNER/NAME/FILE, csv, tsv, jsonl, parquet or txt file, or sample:wikipedia."""
    split: str = "train"
    """Split of Hub data sets."""
    columns: Columns
    """Which column plays which role."""
    views: Literal["columns", "dropout"] = "columns"
    """Where pairs come from: two columns, or one text encoded twice with different dropout masks (SimCSE)."""
    rows: Annotated[int, Field(ge=2)] | None = None
    """Train on the first so many rows only."""
    heldout: str | None = None
    """Source of pairs never trained on, same columns; retrieval of the positive from the anchor is measured there."""

    def conflicts(self) -> Iterator[Conflict]:
        """Views decide whether there is a positive column; held-out rows need one and are other rows."""
        if self.views == "columns" and self.columns.positive is None:
            yield ("columns",), "views from columns need a positive column; give one, or set views: dropout"
        if self.views == "dropout" and self.columns.positive is not None:
            yield ("views",), "dropout makes the positive from the anchor; drop columns.positive, or set views: columns"
        if self.heldout is not None and self.columns.positive is None:
            yield ("heldout",), "needs columns.positive, which is what is searched for"
        if self.heldout == self.train and not self.train.startswith("sample:"):
            yield ("heldout",), "is the training data; name a source with other rows"


class GaussianSection(Section):
    """The paper's kernel: u = mu exp(-||a - b||^2 / (2 sigma^2))."""

    name: Literal["gaussian"]
    """Which kernel."""
    sigma: PositiveFloat
    """Width; sigma^2 is the temperature of a cosine kernel, and the paper's c is 1 / (2 sigma^2)."""
    mu: Annotated[float, Field(gt=0, le=2)] = 1.0
    """Density ratio of a coincident pair."""


class CosineSection(Section):
    """The similarity inside InfoNCE: u = exp(cosine / temperature)."""

    name: Literal["cosine"]
    """Which kernel."""
    temperature: PositiveFloat
    """Width; SimCSE has 0.05."""


class CosineCriticSection(Section):
    """The cosine itself as f-MICL's critic, clamped to the divergence's domain; for study."""

    name: Literal["cosine-critic"]
    """Which kernel."""
    temperature: PositiveFloat = 1.0
    """The critic is cosine / temperature."""


class LossSection(Section):
    """An objective and its settings; for what is left out, the loss class has its own default."""

    def arguments(self) -> dict[str, Any]:
        """Return the settings as keyword arguments of the loss class, without those left at their default."""
        arguments = self.model_dump(exclude={"objective", "kernel"}, exclude_defaults=True)
        kernel = self.model_dump(include={"kernel"}).get("kernel", {})
        return arguments | {"kernel" if key == "name" else key: value for key, value in kernel.items()}


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
    negatives: Literal["within", "cross", "both"] | None = None
    """Which pairs are negatives: among anchors (the paper's), anchors with other positives, or both."""

    def conflicts(self) -> Iterator[Conflict]:
        """An order is Tsallis's, alpha has one source, and a cosine critic has no width to learn."""
        if self.order is not None and self.divergence != "tsallis":
            yield ("order",), "belongs to divergence: tsallis"
        if self.alpha is not None and self.balance_cosine is not None:
            yield ("balance_cosine",), "is another way to give alpha; give one of the two"
        if self.learn_kernel and isinstance(self.kernel, CosineCriticSection):
            yield ("learn_kernel",), "does not go with kernel: cosine-critic, whose temperature is fixed"


class InfoNCESection(LossSection):
    """InfoNCE, :class:`fmicl_text.InfoNCELoss`."""

    objective: Literal["infonce"]
    """Which loss."""
    kernel: Annotated[GaussianSection | CosineSection, Field(discriminator="name")] | None = None
    """Density ratio of a pair; default cosine with temperature 0.05."""
    learn_kernel: bool = False
    """Whether the kernel's width is trained too."""


def _check_suite(suite: str) -> str:
    known = ["heldout", *sorted(path.stem for path in resource_folder("suites").glob("*.yaml"))]
    if suite in known or (suite.endswith((".yaml", ".yml")) and Path(suite).is_file()):
        return suite
    hint = did_you_mean(suite, known)
    raise _refused(f'no suite "{suite}"{hint}; there are {", ".join(known)}, or name a YAML file')


class EvaluateSection(Section):
    """What to measure, and when."""

    during: Literal["stsb-dev"] | None = "stsb-dev"
    """Score that chooses the best checkpoint during training."""
    every_steps: PositiveInt = 125
    """Steps between two scores during training."""
    before: bool = False
    """Also measure everything in `after` before training."""
    after: list[Annotated[str, AfterValidator(_check_suite)]] = []
    """What to measure at the end: names or files of suites, and heldout."""
    data: str | None = None
    """Where the STS data comes from: a folder, or sample:stsb; default the Hub."""

    def conflicts(self) -> Iterator[Conflict]:
        """Everything is measured once."""
        if len(set(self.after)) < len(self.after):
            yield ("after",), f"has something twice: {', '.join(self.after)}"


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise _refused(f'must be letters, digits, - _ and ., with a letter or digit first, got "{name}"')
    return name


class Recipe(Section):
    """One training run, repeated for each seed."""

    name: Annotated[str, AfterValidator(_check_name)]
    """Becomes the name of the run's folder."""
    model: ModelSection
    """The encoder to start from."""
    data: DataSection
    """What to train on."""
    loss: Annotated[FMICLSection | InfoNCESection, Field(discriminator="objective")]
    """The objective."""
    train: Annotated[dict[str, JsonValue], AfterValidator(check_training_arguments)] = {}
    """Any field of SentenceTransformerTrainingArguments, except output_dir and seed."""
    evaluate: EvaluateSection = EvaluateSection()
    """What to measure, and when."""
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)] = [42]
    """One run for each; the results are summarised by mean and standard deviation."""

    def conflicts(self) -> Iterator[Conflict]:
        """Seeds differ, and what is asked of the evaluation is there to be evaluated."""
        if len(set(self.seeds)) < len(self.seeds):
            yield ("seeds",), f"must differ, got {self.seeds}"
        if "heldout" in self.evaluate.after and self.data.heldout is None:
            yield ("evaluate", "after"), "heldout needs data.heldout, the pairs to hold out"
        if self.evaluate.during is None and self.train.get("load_best_model_at_end"):
            yield ("train", "load_best_model_at_end"), "needs evaluate.during, the score that says which is best"
