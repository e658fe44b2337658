"""The recipe: everything one training run depends on, as a checked and frozen value.

:func:`fmicl_text.recipe_file.load_recipe` makes one from YAML and explains what is wrong with it line by line.
Nothing heavy is imported here, unless a recipe has a ``train:`` section to check.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, JsonValue, PositiveInt

from fmicl_text.hints import did_you_mean
from fmicl_text.recipe_losses import LossSections
from fmicl_text.recipe_section import Conflict, Section, refused
from fmicl_text.resources import resource_folder
from fmicl_text.training_arguments import check_training_arguments


def _check_revision(revision: str) -> str:
    if not re.fullmatch(r"\w[\w./-]*", revision, re.ASCII) or ".." in revision:
        raise refused(f'must be a branch, a tag or a commit, got "{revision}"')
    return revision


class ModelSection(Section):
    """The encoder to start from."""

    base: str
    """Hub id, local folder, or sample:minilm."""
    revision: Annotated[str, AfterValidator(_check_revision)] | None = None
    """Revision of the model on the Hub."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model: only if you have read it."""
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
    revision: Annotated[str, AfterValidator(_check_revision)] | None = None
    """Branch, tag or commit of train on the Hub; a streamed run has the commit here."""
    columns: Columns
    """Which column plays which role."""
    views: Literal["columns", "dropout"] = "columns"
    """Where pairs come from: two columns, or one text encoded twice with different dropout masks (SimCSE)."""
    rows: Annotated[int, Field(ge=2)] | None = None
    """Train on the first so many rows only."""
    streaming: bool = False
    """Read a Hub id or files, also several such as shards/*.parquet, during training; needs train.max_steps."""
    shuffle_buffer: PositiveInt = 10_000
    """Rows of a stream that are in memory, among which the next is drawn; other data is shuffled as a whole."""
    heldout: str | None = None
    """Source of pairs never trained on, same columns; retrieval of the positive from the anchor is measured there."""

    def conflicts(self) -> Iterator[Conflict]:
        """Views decide whether there is a positive column; held-out rows need one and are others; no sample streams."""
        if self.views == "columns" and self.columns.positive is None:
            yield ("columns",), "views from columns need a positive column; give one, or set views: dropout"
        if self.views == "dropout" and self.columns.positive is not None:
            yield ("views",), "dropout makes the positive from the anchor; drop columns.positive, or set views: columns"
        if self.heldout is not None and self.columns.positive is None:
            yield ("heldout",), "needs columns.positive, which is what is searched for"
        if self.heldout == self.train and not self.train.startswith("sample:"):
            yield ("heldout",), "is the training data; name a source with other rows"
        if self.streaming and self.train.startswith("sample:"):
            yield ("streaming",), "is for files and the Hub; a sample is small, leave it out"


_OfTheHub = TypeVar("_OfTheHub", ModelSection, DataSection)


def _at(section: _OfTheHub, revision: str | None) -> _OfTheHub:
    if revision is None or section.revision is not None:
        return section
    return section.model_copy(update={"revision": revision})


def _check_suite(suite: str) -> str:
    known = ["geometry", "heldout", *sorted(path.stem for path in resource_folder("suites").glob("*.yaml"))]
    if suite in known or (suite.endswith((".yaml", ".yml")) and os.path.isfile(suite)):
        return suite
    hint = did_you_mean(suite, known)
    raise refused(f'no suite "{suite}"{hint}; there are {", ".join(known)}, or name a YAML file')


class EvaluateSection(Section):
    """What to measure, and when."""

    during: Literal["stsb-dev"] | None = "stsb-dev"
    """Score that chooses the best checkpoint during training."""
    every_steps: PositiveInt = 125
    """Steps between two scores during training."""
    before: bool = False
    """Also measure everything in `after` before training."""
    after: list[Annotated[str, AfterValidator(_check_suite)]] = []
    """What to measure at the end: names or files of suites, heldout, and geometry."""
    data: str | None = None
    """Where the STS data comes from: a folder, or sample:stsb; default the Hub."""

    def conflicts(self) -> Iterator[Conflict]:
        """Everything is measured once."""
        if len({Path(name).stem for name in self.after}) < len(self.after):  # which is what the results are called
            yield ("after",), f"has something twice: {', '.join(self.after)}"


LANGUAGE = "[a-z]{2,3}|multilingual|code"
"""What the Hub takes for a language: ISO 639 codes, and two words of its own."""


def _check_repo(repo: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repo, re.ASCII):
        raise refused(f'must be OWNER/NAME, as in "me/my-encoder", got "{repo}"')
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

    def conflicts(self) -> Iterator[Conflict]:
        """Nothing is published without a licence."""
        if self.repo is not None and self.license is None:
            yield ("license",), "is needed to publish; name one that the base model and the data allow"


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise refused(f'must be letters, digits, - _ and ., with a letter or digit first, got "{name}"')
    return name


class Recipe(Section):
    """One training run, repeated for each seed."""

    name: Annotated[str, AfterValidator(_check_name)]
    """Becomes the name of the run's folder."""
    model: ModelSection
    """The encoder to start from."""
    data: DataSection
    """What to train on."""
    loss: Annotated[LossSections, Field(discriminator="objective")]
    """The objective."""
    train: Annotated[dict[str, JsonValue], AfterValidator(check_training_arguments)] = {}
    """Any field of SentenceTransformerTrainingArguments, except output_dir and seed."""
    evaluate: EvaluateSection = EvaluateSection()
    """What to measure, and when."""
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)] = [42]
    """One run for each; the results are summarised by mean and standard deviation."""
    publish: PublishSection = PublishSection()
    """Where the trained encoder goes."""

    def pinned(self, model: str | None, data: str | None) -> Recipe:
        """Return the recipe with its base model and its data at revisions, except where it names one itself."""
        return self.model_copy(update={"model": _at(self.model, model), "data": _at(self.data, data)})

    def conflicts(self) -> Iterator[Conflict]:
        """Seeds differ, and what is asked of the evaluation is there to be evaluated."""
        if len(set(self.seeds)) < len(self.seeds):
            yield ("seeds",), f"must differ, got {self.seeds}"
        if "heldout" in self.evaluate.after and self.data.heldout is None:
            yield ("evaluate", "after"), "heldout needs data.heldout, the pairs to hold out"
        if self.evaluate.during is None and self.train.get("load_best_model_at_end"):
            yield ("train", "load_best_model_at_end"), "needs evaluate.during, the score that says which is best"
        if self.data.streaming:
            yield from _not_of_a_stream(self.train)


def _not_of_a_stream(train: dict[str, JsonValue]) -> Iterator[Conflict]:
    """Yield what a stream, which has no length and no end, needs or has no use for among training arguments."""
    steps = train.get("max_steps")
    if not isinstance(steps, int) or steps < 1:
        yield ("data", "streaming"), "needs train.max_steps: a stream has no length, and begins again at its end"
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
