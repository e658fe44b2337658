"""Which roles the columns of a user's file play, by their names and contents."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any, Literal

from fmicl_text.errors import InputError
from fmicl_text.text import is_number

Kind = Literal["paraphrase", "question-answer", "entailment", "title-text", "triplets", "pairs", "labels", "dropout"]
"""What the rows of a training file are; decides the objective of a new recipe."""

_PAIRS: dict[tuple[str, str], Kind] = {
    ("anchor", "positive"): "pairs",
    ("query", "positive"): "question-answer",
    ("query", "pos"): "question-answer",
    ("query", "passage"): "question-answer",
    ("query", "document"): "question-answer",
    ("query", "answer"): "question-answer",
    ("query", "response"): "question-answer",
    ("question", "answer"): "question-answer",
    ("question", "context"): "question-answer",
    ("question", "passage"): "question-answer",
    ("question", "document"): "question-answer",
    ("question", "positive"): "question-answer",
    ("question", "response"): "question-answer",
    ("prompt", "response"): "question-answer",
    ("instruction", "response"): "question-answer",
    ("sentence1", "sentence2"): "paraphrase",
    ("question1", "question2"): "paraphrase",
    ("text1", "text2"): "paraphrase",
    ("text", "paraphrase"): "paraphrase",
    ("sentence", "paraphrase"): "paraphrase",
    ("source", "target"): "paraphrase",
    ("input", "output"): "pairs",
    ("sent0", "sent1"): "entailment",
    ("premise", "hypothesis"): "entailment",
    ("anchor", "entailment"): "entailment",
    ("title", "body"): "title-text",
    ("title", "text"): "title-text",
    ("title", "abstract"): "title-text",
    ("title", "content"): "title-text",
    ("description", "summary"): "title-text",
    ("summary", "text"): "title-text",
}
"""Names of anchor and positive, in lower case and without separators, in the order in which they are looked for."""

_TEXT = ("text", "sentence", "utterance", "content", "query", "question", "document", "title", "description")
_LABEL = ("label", "intent", "class", "category", "topic", "labelname", "target", "type", "tag")
_GROUP = ("group", "groupid", "docid", "documentid", "articleid", "passageid", "clusterid")
_SCORE = ("score", "scores", "similarity", "sim", "relatedness", "gold", "label", "labels", "isduplicate", "entailment")
_OF_WHAT = "(passage|document|doc|sentence|text|answer)?"
_POSITIVE = re.compile(rf"pos(itive)?{_OF_WHAT}")
_NEGATIVE = re.compile(rf"(hard)?neg(ative)?{_OF_WHAT}s?\d*|contradiction")
_MANY_WORDS = 2.0
_LONGEST_LABEL = 40


@dataclass(frozen=True)
class Roles:
    """Column of each role, and what kind of data that makes.

    Attributes:
        kind: What the rows are.
        anchor: Column of the anchors, or of the only text.
        positive: Column of the positives, if there is one.
        negatives: Columns of explicit negatives.
        group: Column of a label or of a document's id.
        reason: Why these columns were taken, and which are not used.
    """

    kind: Kind
    anchor: str
    positive: str | None = None
    negatives: list[str] = field(default_factory=list)
    group: str | None = None
    reason: str = "chosen by its name"


def guess_roles(columns: Mapping[str, Sequence[Any]], source: str) -> Roles:
    """Return which column plays which role.

    Column names in general use decide; without them, the contents of the columns do.

    Args:
        columns: All columns of a file.
        source: The file, for messages.

    Raises:
        InputError: If no column is text, if texts are in lists, or each row has a score or a judgement of its two
            texts, which is data for an evaluation; with the remedy.
    """
    if not any(map(len, columns.values())):
        raise InputError(f"{source}: has no rows, only the columns {', '.join(columns)}")
    roles = _guess(columns, source)
    used = {roles.anchor, roles.positive, roles.group, *roles.negatives}
    rest = ", ".join(column for column in columns if column not in used)
    return replace(roles, reason=f"{roles.reason}; not used: {rest}") if rest else roles


def _guess(columns: Mapping[str, Sequence[Any]], source: str) -> Roles:
    names = {re.sub(r"[\W_]", "", column.lower()): column for column in columns}
    positives = [names[n] for n in names if _POSITIVE.fullmatch(n)]
    if positives:
        names.setdefault("positive", positives[0])
    texts = [column for column, values in columns.items() if _is_text(values)]
    strings = [column for column, values in columns.items() if _are_strings(values)]
    group = next((names[n] for n in _GROUP if n in names and _repeats(columns[names[n]])), None)
    known = ((names[a], names[b], kind) for (a, b), kind in _PAIRS.items() if a in names and b in names)
    for anchor, positive, kind in known:
        if anchor in strings and positive in strings:
            _refuse_scores(columns, names, (anchor, positive), source)
            _refuse_lists({names[n]: columns[names[n]] for n in names if _NEGATIVE.fullmatch(n)}, source)
            negatives = [names[n] for n in names if _NEGATIVE.fullmatch(n) and names[n] in strings]
            return Roles("triplets" if negatives else kind, anchor, positive, negatives, group)
    text = next((names[n] for n in _TEXT if names.get(n) in strings), None)
    label = next((names[n] for n in _LABEL if n in names and _repeats(columns[names[n]])), None)
    if text is not None and label is not None and label != text:
        return Roles("labels", text, group=label)
    if len(texts) < 2:
        _refuse_lists(columns, source)
    if text is None or len(texts) > 1:
        return _by_content(columns, names, texts, group, source)
    return _dropout(text)


def _by_content(
    columns: Mapping[str, Sequence[Any]], names: dict[str, str], texts: list[str], group: str | None, source: str
) -> Roles:
    if not texts:
        raise InputError(
            f"{source}: no column looks like text; there are {', '.join(columns) or 'none'} (for images, begin with "
            "`fmicl recipe copy vision-quickstart`)"
        )
    if len(texts) > 1:
        anchor, positive = texts[:2]
        _refuse_scores(columns, names, (anchor, positive), source)
        return Roles("pairs", anchor, positive, group=group, reason="the first two columns of text: check them")
    labels = [column for column in columns if column != texts[0] and _is_label(columns[column])]
    if labels:
        return Roles("labels", texts[0], group=labels[0], reason="the only text, and the first column that repeats")
    return _dropout(texts[0])


def _dropout(text: str) -> Roles:
    return Roles("dropout", text, reason="the only text, so its two views differ by dropout (SimCSE)")


def _refuse_scores(
    columns: Mapping[str, Sequence[Any]], names: dict[str, str], pair: tuple[str, str], source: str
) -> None:
    """Refuse pairs of texts that come with a score or a judgement: not all of them are positives."""
    for name in _SCORE:
        column = names.get(name)
        if column is not None and column not in pair and not _is_text(columns[column]):
            raise InputError(
                f'{source}: the column "{column}" says how close "{pair[0]}" and "{pair[1]}" are, as in STS and '
                "paraphrase data: not every row is a positive pair, so a contrastive loss cannot train on all of them. "
                f"To measure a model on it: {_measured_by(columns[column], column, pair, source)}. To train, write the "
                f"rows whose texts mean the same to a file of two columns, and name that{_as_a_group(columns[column])}"
            )


def _as_a_group(values: Sequence[Any]) -> str:
    """Say what to do with a column that may name classes rather than say how close two texts are."""
    if all(is_number(str(value)) for value in values):
        return ""
    return (
        '. If the column names the class of a row, call it "group": rows of one group are never each other\'s negatives'
    )


def _measured_by(values: Sequence[Any], column: str, pair: tuple[str, str], source: str) -> str:
    """Return the command that measures a model on scored pairs, with the columns that it does not look for itself."""
    command = ["fmicl", "eval", "pairs", "MODEL", source]
    if pair != ("sentence1", "sentence2"):
        command += ["--sentences", *pair]
    found = {str(value) for value in values}
    if found <= {"0", "1"}:
        command += ["--label", column]
    elif not all(map(is_number, found)):
        return f"{shlex.join(command)} --score COLUMN, with a column of numbers"
    elif column != "score":
        command += ["--score", column]
    return shlex.join(command)


def _refuse_lists(columns: Mapping[str, Sequence[Any]], source: str) -> None:
    """Refuse texts in lists, as the positives and negatives of a query, which would be left out untold."""
    lists = [column for column, values in columns.items() if _are_lists(values)]
    if not lists:
        return
    named = " and ".join(f'"{column}"' for column in lists)
    command = ""
    if source.endswith(".jsonl"):
        explode = "".join(f".explode({column!r})" for column in lists)
        target = f"{source.removesuffix('.jsonl')}-rows.jsonl"
        written = f".to_json({target!r}, orient='records', lines=True, force_ascii=False)"
        code = f"import pandas; pandas.read_json({source!r}, lines=True, dtype=False){explode}{written}"
        command = f'; convert it:\n    python -c "{code}"'
    raise InputError(f"{source}: {named}: lists of texts, but a row has one text in each column{command}")


def _are_lists(values: Sequence[Any]) -> bool:
    """Whether values are lists of texts, as JSON and Parquet may have."""
    lists = [value for value in values if isinstance(value, list)]
    return bool(lists) and all(isinstance(item, str) for value in lists for item in value)


def _are_strings(values: Sequence[Any]) -> bool:
    """Whether most values are strings; the others are named, with their line, where rows are checked."""
    filled = [value for value in values if value is not None]
    return sum(isinstance(value, str) for value in filled) > len(filled) / 2 and any(values)


def _is_text(values: Sequence[Any]) -> bool:
    """Whether values are texts rather than numbers, names or ids."""
    if not _are_strings(values) or _is_label(values):
        return False
    filled = [value for value in values if isinstance(value, str) and value]
    if mean(is_number(value) for value in filled) > 0.5:
        return False
    beyond_ascii = mean(not value.isascii() for value in filled) > 0.5  # scripts that write no spaces
    return beyond_ascii or mean(len(value.split()) for value in filled) >= _MANY_WORDS


def _is_label(values: Sequence[Any]) -> bool:
    """Whether values are few short names or whole numbers, each of several rows."""
    short = all(isinstance(value, int) or (isinstance(value, str) and len(value) <= _LONGEST_LABEL) for value in values)
    return bool(values) and short and 1 < len(set(values)) <= len(values) / 3


def _repeats(values: Sequence[Any]) -> bool:
    try:
        return 1 < len(set(values)) < len(values)
    except TypeError:  # lists, as Parquet and JSON may have
        return False
