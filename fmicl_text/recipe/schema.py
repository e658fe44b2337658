"""The recipe: everything one training run depends on, as a checked and immutable value.

:func:`fmicl_text.recipe.file.load_recipe` makes one from YAML and explains what is wrong with it line by line.
Nothing heavy is imported here, unless a recipe has a ``train:`` section to check.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import AfterValidator, Field, JsonValue

from fmicl_text.data.mixture import Data, MixtureSection, SourceSection
from fmicl_text.data.section import DataSection
from fmicl_text.encoders.openvino import Precision
from fmicl_text.encoders.section import ModelSection
from fmicl_text.evaluation.kind import Evaluation
from fmicl_text.evaluation.kinds.heldout import Heldout
from fmicl_text.evaluation.section import EvaluateSection
from fmicl_text.findings import SectionOf
from fmicl_text.losses.matryoshka import Matryoshka
from fmicl_text.losses.objective import Objective
from fmicl_text.losses.registry import Undeclared
from fmicl_text.losses.section import LossSection
from fmicl_text.recipe.training_arguments import LARS, PRECISION, check_training_arguments, training_arguments_model
from fmicl_text.section import Conflict, KeyPath, Section, check_name, refused
from fmicl_text.text import did_you_mean

_OfTheHub = TypeVar("_OfTheHub", ModelSection, DataSection)


def _at(section: _OfTheHub, revision: str | None) -> _OfTheHub:
    if revision is None or section.revision is not None:
        return section
    return section.model_copy(update={"revision": revision})


def _sources_at(
    data: DataSection | MixtureSection, revisions: Mapping[str, str | None]
) -> DataSection | MixtureSection:
    """Return the sources at their revisions, except where they name one themselves."""
    if isinstance(data, DataSection):
        return _at(data, revisions.get(""))
    return data.model_copy(update={"train": [_at(source, revisions.get(source.called)) for source in data.train]})


LANGUAGE = "[a-z]{2,3}|multilingual|code"
"""What the Hub accepts as a language: ISO 639 codes, and two words of its own."""


def _check_repo(repo: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo, re.ASCII):
        raise refused(f'must be OWNER/NAME, as in "me/my-encoder", got "{repo}"')
    from huggingface_hub.utils import HFValidationError, validate_repo_id  # a tenth of a second, so only where needed

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise refused(f"is not a name that the Hub accepts: {error}") from None
    return repo


def _check_license(license: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", license) or license == "unknown":
        raise refused(f'must be the Hub\'s name of one, such as apache-2.0, mit or cc-by-sa-4.0, got "{license}"')
    return license


def _check_language(language: str) -> str:
    if not re.fullmatch(LANGUAGE, language):
        raise refused(f'must be an ISO 639 code such as en, or multilingual, got "{language}"')
    return language


class PublishSection(Section):
    """Where the encoder goes on the Hugging Face Hub at the end; with several seeds it is the first one's."""

    repo: Annotated[str, AfterValidator(_check_repo)] | None = None
    """The model's repository, OWNER/NAME; default: it is not published."""
    private: bool = True
    """Whether only its owner can see it."""
    license: Annotated[str, AfterValidator(_check_license)] | None = None
    """The Hub's identifier of the licence, such as apache-2.0; what the base model and the data allow."""
    language: list[Annotated[str, AfterValidator(_check_language)]] = []
    """ISO 639 codes of the languages it is for, such as en; default: what the base model's card says."""
    exports: list[Literal["embeddings/int8", "embeddings/binary", "openvino/float32", "openvino/int8"]] = []
    """What `fmicl export` makes of the run, published with it: each measured by evaluate.after, tables on the card."""

    @property
    def converted(self) -> list[Precision]:
        """In which precisions the encoder is exported to OpenVINO."""
        return [precision for precision in get_args(Precision) if f"openvino/{precision}" in self.exports]

    def conflicts(self) -> Iterator[Conflict]:
        """Refuse to publish without a licence, and exports that are not published."""
        if self.repo is not None and self.license is None:
            yield ("license",), "is needed to publish; name one that the base model and the data allow"
        if self.exports and self.repo is None:
            yield ("exports",), "needs publish.repo, to which they go; `fmicl export` makes them by itself"
        if len(set(self.exports)) < len(self.exports):
            yield ("exports",), f"must differ, got {', '.join(self.exports)}"


def _check_import(file: str) -> str:
    if not file.endswith(".py"):
        raise refused(f'must be a Python file, such as my_losses.py, got "{file}"')
    return file


class Recipe(Section):
    """One training run, repeated for each seed."""

    name: Annotated[str, AfterValidator(check_name)]
    """Name of the run, and of its folder."""
    model: ModelSection
    """The encoder to start from."""
    data: Data
    """What to train on."""
    loss: LossSection
    """The objective and its settings."""
    train: Annotated[
        dict[str, JsonValue],
        AfterValidator(check_training_arguments),
        SectionOf(lambda _: training_arguments_model()),
    ] = {}
    """Any field of SentenceTransformerTrainingArguments, except output_dir and seed."""
    evaluate: EvaluateSection = EvaluateSection()
    """What to measure, and when."""
    imports: list[Annotated[str, AfterValidator(_check_import)]] = []
    """Python files that register your own objectives, divergences or kernels; run by `fmicl train`."""
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)] = [42]
    """One run per seed; the results are summarised by mean and standard deviation."""
    publish: PublishSection = PublishSection()
    """Where the trained encoder goes."""

    def pinned(self, model: str | None, data: Mapping[str, str | None]) -> Recipe:
        """Return the recipe with its base model and its data at revisions, except where it names one itself.

        Args:
            model: The base model's.
            data: Name of each source -> its own; the name of a single one is empty.
        """
        return self.model_copy(update={"model": _at(self.model, model), "data": _sources_at(self.data, data)})

    def pinned_as(self, other: Recipe) -> Recipe:
        """Return the recipe at the revisions that another one has, except where it names one itself."""
        return self.pinned(other.model.revision, {name: source.revision for name, source in other.data.sources.items()})

    def choosing_by(self, during: Evaluation | str | None) -> Recipe:
        """Return the recipe with another ``evaluate.during``."""
        return self.model_copy(update={"evaluate": self.evaluate.model_copy(update={"during": during})})

    @property
    def trains_on_images(self) -> bool:
        """Whether the data is images, rather than texts."""
        return any(source.views == "augment" for source in self.data.sources.values())

    @property
    def uses_lars(self) -> bool:
        """Whether the optimiser is LARS, which the trainer's library does not have."""
        return self.train.get("optim") == LARS

    def matryoshka_of(self, source: str) -> Matryoshka | None:
        """Return at which dimensions the loss of a source is, if it is at several: its own, or the recipe's."""
        own, shared = (getattr(loss, "matryoshka", None) for loss in (self.loss_of(source), self.loss))
        return own or shared

    def loss_key(self, source: str) -> str:
        """Return the key of the ``loss`` section of a source's batches."""
        if self.loss_of(source) is self.loss:
            return "loss"
        return f"data.train[{list(self.data.sources).index(source)}].loss"

    def training_arguments(self) -> dict[str, JsonValue]:
        """Return the ``train`` section with columns called by their roles, as the data that trains has them.

        Without ``precision``, which is not one of the library's.
        """
        roles = {column: role for role, column in self._columns().items()}
        arguments = {key: value for key, value in self.train.items() if key != PRECISION}
        if self.uses_lars:
            arguments["optim"] = "sgd"  # whose arguments it takes
        for key in _BY_COLUMN:
            if isinstance(mapping := arguments.get(key), dict):
                arguments[key] = {roles.get(name, name): value for name, value in mapping.items()}
        return arguments

    @property
    def weights(self) -> dict[str, float] | None:
        """The sources' weights by name, if they have any."""
        if isinstance(self.data, DataSection):
            return None
        return {source.called: source.weight for source in self.data.train if source.weight is not None} or None

    def loss_of(self, source: str) -> LossSection:
        """Return the ``loss`` section of a source's batches: its own, or the recipe's."""
        own = self.data.sources[source]
        return (own.loss if isinstance(own, SourceSection) else None) or self.loss

    def _columns(self) -> dict[str, str]:
        """Return role to column of the texts; the columns of several sources go by their roles."""
        if isinstance(self.data, DataSection):
            return self.data.columns.roles
        return {role: role for source in self.data.train for role in source.columns.roles}

    def conflicts(self) -> Iterator[Conflict]:
        """Refuse equal seeds, and evaluations of what the recipe does not have."""
        if len(set(self.seeds)) < len(self.seeds):
            yield ("seeds",), f"must differ, got {self.seeds}"
        if self.model.scratch is not None and not self.trains_on_images:
            yield ("model", "scratch"), "is an encoder of images: set data.views: augment"
        else:
            yield from self._evaluations_that_cannot_be()
        if self.evaluate.during is None and self.train.get("load_best_model_at_end"):
            yield ("train", "load_best_model_at_end"), "needs evaluate.during, the score that says which is best"
        first, *_ = self.data.sources.values()
        if first.streaming:
            is_one = isinstance(self.data, DataSection)
            yield from _not_of_a_stream(self.train, ("data", *(() if is_one else ("train", 0)), "streaming"))
        for number, source in enumerate(self.data.sources.values()):
            if self.model.tokenizer is not None and source.mine is not None and source.mine.model is None:
                place = ("data",) if isinstance(self.data, DataSection) else ("data", "train", number)
                yield (*place, "mine"), "needs a model: the base is a static embedding that has learned nothing yet"
        yield from self._layers_that_matryoshka_would_cut()
        yield from self._exports_that_cannot_be()
        if self.trains_on_images:
            for name in ("prompts", "include_prompt"):
                if self.model.base is not None and getattr(self.model, name) is not None:
                    yield ("model", name), "is for texts, not for images (data.views: augment)"
        for key in ("bf16", "fp16"):
            if self.train.get(key) and PRECISION in self.train:
                yield ("train", key), "is given twice, also as precision: auto; drop one of the two"
        if self.train.get("bf16") and self.train.get("fp16"):
            yield ("train", "fp16"), "cannot be beside bf16: a step has one precision; drop one of the two"
        if self.model.prompts is not None and self.train.get("prompts") is not None:
            yield ("train", "prompts"), "is given by model.prompts, which evaluation uses too; drop it"
        for key in _BY_COLUMN:
            yield from _wrong_columns(key, self.train.get(key), self._columns())
        yield from self._not_of_these_sources(first)

    def _evaluations_that_cannot_be(self) -> Iterator[Conflict]:
        """Yield why an evaluation does not fit what is trained on."""
        holds_out = any(source.heldout is not None for source in self.data.sources.values())
        asked: dict[KeyPath, Evaluation | str | None] = {("evaluate", "during"): self.evaluate.during}
        asked |= {("evaluate", "after", number): one for number, one in enumerate(self.evaluate.after)}
        for path, one in asked.items():
            if not isinstance(one, Evaluation):
                continue
            if why := one.unfit("images" if self.trains_on_images else "texts", self.evaluate.data):
                yield path, why
            elif isinstance(one, Heldout) and not holds_out:
                yield path, "heldout needs data.heldout, the pairs to hold out"

    def _layers_that_matryoshka_would_cut(self) -> Iterator[Conflict]:
        """Yield where a loss is of the encoder's first numbers while layers of training lie in between."""
        sections: list[tuple[KeyPath, Objective | Undeclared | None]] = [(("loss",), self.loss)]
        if isinstance(self.data, MixtureSection):
            sections += [(("data", "train", n, "loss"), source.loss) for n, source in enumerate(self.data.train)]
        for place, loss in sections:
            if not isinstance(loss, Objective) or loss.matryoshka is None:
                continue
            for name in ("projector", "predictor"):
                if getattr(self.model, name) is not None:
                    message = f"cuts the encoder's own vectors: it does not go with model.{name}"
                    yield (*place, "matryoshka"), message
            if self.model.head == "mlp-train-only":
                yield (*place, "matryoshka"), "cuts the encoder's own vectors: it needs model.head: mlp or none"

    def _exports_that_cannot_be(self) -> Iterator[Conflict]:
        """Yield why exports of the run could not be made, measured or published."""
        key = ("publish", "exports")
        if self.publish.exports and not self.evaluate.after:
            yield key, "needs evaluate.after, which says what they cost"
        if self.publish.exports and self.trains_on_images:
            yield key, "is for encoders of texts, not of images (data.views: augment)"
        if self.publish.converted and self.model.lora is not None and not self.model.lora.merge:
            yield key, "has a whole encoder for OpenVINO, beside which no adapter can be: set model.lora.merge: true"

    def _not_of_these_sources(self, first: DataSection) -> Iterator[Conflict]:
        """Yield what the way of drawing from several sources needs or contradicts."""
        drawn = self.train.get("multi_dataset_batch_sampler")
        key = ("train", "multi_dataset_batch_sampler")
        if not isinstance(first, SourceSection):
            if drawn is not None:
                yield key, "draws from several sources; give data.train as a list of them"
        elif first.weight is not None and drawn is not None:
            yield key, "is given twice: the sources (data.train) have weights; drop one of the two"
        elif first.streaming and first.weight is None and drawn != IN_TURN:
            yield (
                ("data", "train", 0, "weight"),
                "is needed: a stream has no size to draw in proportion to; give all sources a weight, or set "
                f"train.multi_dataset_batch_sampler: {IN_TURN}",
            )


IN_TURN = "round_robin"
"""The library's name for drawing one batch after the other from each source."""
_BY_COLUMN = ("prompts", "router_mapping")
"""Training arguments with a value for each column."""


def _wrong_columns(key: str, mapping: JsonValue, roles: dict[str, str]) -> Iterator[Conflict]:
    """Yield the keys of a mapping that are not columns, and those that could mean two columns."""
    known = [*dict.fromkeys([*roles.values(), *roles])]
    if not isinstance(mapping, dict):
        return
    for name in mapping:
        path = ("train", key, name)
        if name not in known:
            yield path, f"is not a column{did_you_mean(name, known)}; there are {', '.join(known)}"
        elif isinstance(mapping[name], dict):
            yield path, f"must be text, got {json.dumps(mapping[name])}"
        elif name in roles and name in roles.values() and roles[name] != name:
            yield path, "is the name of a role and of another role's column: rename the column in the data"
        elif name in roles and roles[name] != name and roles[name] in mapping:
            yield path, f"is given twice, also as {roles[name]}, its column"


def _not_of_a_stream(train: dict[str, JsonValue], said_at: KeyPath) -> Iterator[Conflict]:
    """Yield the training arguments that a stream, which has no length and no end, needs or cannot use.

    Args:
        train: They.
        said_at: Where the recipe says that it is one.
    """
    steps = train.get("max_steps")
    if not isinstance(steps, int) or steps < 1:
        yield said_at, "needs train.max_steps: a stream has no length, and begins again at its end"
    for key in ("eval_strategy", "save_strategy", "logging_strategy"):
        if train.get(key) == "epoch":
            yield ("train", key), 'must be "steps" with data.streaming: a stream has no epochs'
    if train.get("batch_sampler", "batch_sampler") != "batch_sampler":
        yield ("train", "batch_sampler"), "cannot choose among rows of a stream (data.streaming); leave it out"
    config = train.get("accelerator_config")
    if isinstance(config, dict) and (config.get("split_batches") or config.get("dispatch_batches")):
        yield (
            ("train", "accelerator_config"),
            "cannot say how a stream (data.streaming) is divided: each process has its rows",
        )
