"""The YAML file by which a user describes tasks of their own, for mteb to score as it scores public ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from fmicl_text.data.yaml_tree import Tree, dotted
from fmicl_text.errors import InputError
from fmicl_text.section import KeyPath
from fmicl_text.text import did_you_mean

TaskName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""Also the name of the file that mteb keeps the result in."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StsColumns(_Section):
    """Columns of scored pairs."""

    sentence1: str = "sentence1"
    sentence2: str = "sentence2"
    score: str = "score"


class PairClassificationColumns(_Section):
    """Columns of labelled pairs."""

    sentence1: str = "sentence1"
    sentence2: str = "sentence2"
    label: str = "label"


class LabelledColumns(_Section):
    """Columns of texts that each belong to a class."""

    text: str = "text"
    label: str = "label"


class StsTask(_Section):
    """Pairs with a score; main score: Spearman's rho of the cosine."""

    name: TaskName
    type: Literal["sts"]
    file: str
    columns: StsColumns = StsColumns()


class PairClassificationTask(_Section):
    """Pairs with the label 1 if the two belong together, else 0; main score: best average precision."""

    name: TaskName
    type: Literal["pair-classification"]
    file: str
    columns: PairClassificationColumns = PairClassificationColumns()


class ClassificationTask(_Section):
    """Texts with a class; main score: accuracy of classifiers trained on a few of ``train``."""

    name: TaskName
    type: Literal["classification"]
    train: str
    test: str
    columns: LabelledColumns = LabelledColumns()


class ClusteringTask(_Section):
    """Texts with a class; main score: V-measure of their clusters."""

    name: TaskName
    type: Literal["clustering"]
    file: str
    columns: LabelledColumns = LabelledColumns()


class RetrievalTask(_Section):
    """Queries and documents; main score: nDCG@10.

    ``queries`` and ``corpus`` have the columns ``id`` and ``text``; ``relevant`` has ``query-id``, ``corpus-id`` and
    ``score``, a whole number from 0, as the data sets of mteb have.
    """

    name: TaskName
    type: Literal["retrieval"]
    queries: str
    corpus: str
    relevant: str


OwnTask = StsTask | PairClassificationTask | ClassificationTask | ClusteringTask | RetrievalTask


class OwnSuite(_Section):
    """A user's tasks. Paths of files start at the folder of the YAML file.

    Attributes:
        name: What results call it.
        language: Language of the texts, as mteb writes it: ISO 639-3 and script, such as ``eng-Latn``.
        tasks: One or more, each with a name of its own.
    """

    name: str
    language: str = "eng-Latn"
    tasks: Annotated[list[Annotated[OwnTask, Field(discriminator="type")]], Field(min_length=1)]


_BY_TYPE = {get_args(task.model_fields["type"].annotation)[0]: task for task in get_args(OwnTask)}
_PLAINER = {  # than what pydantic says
    "missing": "is missing",
    "union_tag_not_found": f"the key type is missing; it is one of {', '.join(_BY_TYPE)}",
    "string_pattern_mismatch": "must be letters, digits, dots, dashes and underscores, the first a letter or digit",
    "too_short": "must not be empty",
    "model_attributes_type": "must be a mapping of keys",
}


def load_own_suite(path: Path) -> OwnSuite:
    """Read and check a suite of a user's own tasks.

    Raises:
        InputError: The file cannot be read or breaks the schema; every problem with its line.
    """
    tree = Tree(path)
    problems = list(tree.problems)
    suite = None
    try:
        suite = OwnSuite.model_validate(tree.value)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            key = _path(details)
            problems.append((tree.place(key), f"{dotted(key) if key else path.name}: {_message(details)}"))
    seen: dict[str, str] = {}
    for index, task in enumerate(suite.tasks if suite else ()):
        here = tree.place(("tasks", index, "name"))
        if task.name in seen:
            problems.append((here, f"tasks[{index}].name: {task.name} is the name of the task at {seen[task.name]}"))
        seen.setdefault(task.name, here.text)
    if suite is None or problems:
        raise InputError([f"{place.text}: {message}" for place, message in sorted(problems)])
    return suite


def _path(details: ErrorDetails) -> KeyPath:
    """Return pydantic's location without the tags that choose a type of task, which are not keys of the file."""
    return tuple(step for step in details["loc"] if step not in _BY_TYPE)


def _message(details: ErrorDetails) -> str:
    kind, given = details["type"], details["input"]
    if kind == "extra_forbidden":
        known = _keys(details["loc"][:-1])
        return f"unknown key{did_you_mean(str(details['loc'][-1]), known)}; known here are {', '.join(known)}"
    if kind == "union_tag_invalid":
        tag = str(given["type"])
        return f"type must be one of {', '.join(_BY_TYPE)}, got {tag}{did_you_mean(tag, _BY_TYPE)}"
    if kind in _PLAINER:
        return _PLAINER[kind]
    needed = re.sub(r"^\w+ should ", "must ", details["msg"])
    return f"{needed}, got {given!r:.60}"


def _keys(location: tuple[str | int, ...]) -> list[str]:
    """Return the keys of the section at pydantic's location."""
    section: type[BaseModel] = OwnSuite
    for step in location:
        if step in _BY_TYPE:
            section = _BY_TYPE[str(step)]
        elif step == "columns":
            section = section.model_fields["columns"].annotation  # type: ignore[assignment]
    return list(section.model_fields)
