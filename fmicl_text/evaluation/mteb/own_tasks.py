"""A user's own tasks as tasks of mteb: the same abstract task, splits, columns and main score as a public set has.

Their data is in memory, and every row of it has been checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mteb
from datasets import Dataset, DatasetDict
from mteb.abstasks import (
    AbsTask,
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSTS,
)
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.languages import check_language_code

from fmicl_text.encoders.revisions import local_revision
from fmicl_text.errors import InputError
from fmicl_text.evaluation.columns import binary, grade, label, number, place, read_columns, refuse, text
from fmicl_text.evaluation.mteb.own_suite import (
    ClassificationTask,
    ClusteringTask,
    LabelledColumns,
    OwnSuite,
    OwnTask,
    PairClassificationTask,
    RetrievalTask,
    StsTask,
)


class _Clustering(AbsTaskClustering):
    max_fraction_of_documents_to_embed = None  # all of them; the default is for sets of a hundred thousand


_TEXTS = ("sentence1", "sentence2", "text", "sentences")
_KINDS: dict[str, tuple[type[AbsTask], str, str]] = {
    "sts": (AbsTaskSTS, "STS", "cosine_spearman"),
    "pair-classification": (AbsTaskPairClassification, "PairClassification", "max_ap"),
    "classification": (AbsTaskClassification, "Classification", "accuracy"),
    "clustering": (_Clustering, "Clustering", "v_measure"),
    "retrieval": (AbsTaskRetrieval, "Retrieval", "ndcg_at_10"),
}
"""Type in the suite -> abstract task, type and main score in mteb; the main scores are those of most public sets."""


RETRIEVAL_RULES = (
    "; in retrieval, queries without a document of grade 1 or more are left out, and documents of the same text are one"
)
"""trec_eval's users expect the first; without the second, finding the copy of a right document would be a miss."""


def own_tasks(suite: OwnSuite, folder: Path) -> list[AbsTask]:
    """Read the files of a suite and make its tasks.

    The revision of each is a digest of its files, so that a result is kept apart from one on other data.

    Args:
        suite: What :func:`fmicl_text.evaluation.mteb.own_suite.load_own_suite` read.
        folder: Where relative paths start.

    Raises:
        InputError: Files or rows that are wrong, of all tasks at once; a name that a public task has; no such language.
    """
    try:
        check_language_code(suite.language)
    except ValueError:
        raise InputError(
            f"language: {suite.language} is not a language; write it as eng-Latn: ISO 639-3, and the script"
        ) from None
    tasks: list[AbsTask] = []
    problems: list[str] = []
    for own in suite.tasks:
        if is_public(own.name):
            problems.append(f"{own.name} is the name of a public task of mteb; give yours another")
        try:
            tasks.append(_task(own, folder, suite.language))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return tasks


def items_of_own(task: AbsTask) -> Iterator[tuple[str, ...]]:
    """Yield the texts of each item of a user's own task; of a search, a query and what it is to find."""
    dataset: Any = task.dataset
    if isinstance(task, AbsTaskRetrieval):
        found = dataset["default"]["test"]
        queries, corpus = (
            dict(zip(rows["id"], rows["text"], strict=True)) for rows in (found["queries"], found["corpus"])
        )
        for query, documents in found["relevant_docs"].items():
            yield from ((queries[query], corpus[document]) for document in documents)
    else:
        test = dataset["test"]
        yield from zip(*(test[name] for name in _TEXTS if name in test.column_names), strict=True)


def is_public(name: str) -> bool:
    """Tell whether mteb has a task of this name."""
    try:
        mteb.get_task(name)
    except KeyError:
        return False
    return True


def _task(own: OwnTask, folder: Path, language: str) -> AbsTask:
    dataset: Any
    match own:
        case StsTask():
            dataset = DatasetDict(test=_scored_pairs(own, folder))
        case PairClassificationTask():
            dataset = DatasetDict(test=_labelled_pairs(own, folder))
        case ClassificationTask():
            dataset = _classified(own, folder)
        case ClusteringTask():
            dataset = DatasetDict(test=_clustered(own, folder))
        case RetrievalTask():
            dataset = {"default": {"test": _searched(own, folder)}}
    base, task_type, main_score = _KINDS[own.type]
    metadata = TaskMetadata(
        name=own.name,
        description="A task of the user's own.",
        type=task_type,
        main_score=main_score,
        eval_langs=[language],
        dataset={"path": f"own/{own.name}", "revision": _revision(own, folder)},
    )
    task: AbsTask = type(own.name, (base,), {"metadata": metadata})()
    task.dataset, task.data_loaded = dataset, True
    return task


def _revision(own: OwnTask, folder: Path) -> str:
    described = own.model_dump(exclude={"name"})
    rules = RETRIEVAL_RULES if isinstance(own, RetrievalTask) else ""
    files = [
        folder / described[key]
        for key in ("file", "train", "test", "queries", "corpus", "relevant")
        if key in described
    ]
    return local_revision(files, str(described) + rules)


def _scored_pairs(own: StsTask, folder: Path) -> Dataset:
    path, columns = folder / own.file, own.columns
    read = read_columns(path, {columns.sentence1: text, columns.sentence2: text, columns.score: number}).columns
    _require_two_values(path, read[columns.score], "score")
    return Dataset.from_dict(
        {
            "sentence1": read[columns.sentence1],
            "sentence2": read[columns.sentence2],
            "score": read[columns.score],
        }
    )


def _labelled_pairs(own: PairClassificationTask, folder: Path) -> Dataset:
    path, columns = folder / own.file, own.columns
    read = read_columns(path, {columns.sentence1: text, columns.sentence2: text, columns.label: binary}).columns
    _require_two_values(path, read[columns.label], "label")
    return Dataset.from_dict(
        {
            "sentence1": read[columns.sentence1],
            "sentence2": read[columns.sentence2],
            "labels": read[columns.label],
        }
    )


def _classified(own: ClassificationTask, folder: Path) -> DatasetDict:
    """Classes become numbers in the order of their names, as in the Hub's data sets."""
    train, test = folder / own.train, folder / own.test
    texts, labels = _labelled_texts(train, own.columns)
    rows = read_columns(test, {own.columns.text: text, own.columns.label: label})
    numbers = {name: index for index, name in enumerate(sorted(set(labels)))}
    refuse(
        test,
        [
            f"{place(test, rows, index)}: no text of {train} is of the class {name!r:.60}"
            for index, name in enumerate(rows.columns[own.columns.label])
            if name not in numbers
        ],
    )
    of_test = rows.columns
    return DatasetDict(
        train=Dataset.from_dict({"text": texts, "label": [numbers[name] for name in labels]}),
        test=Dataset.from_dict(
            {"text": of_test[own.columns.text], "label": [numbers[name] for name in of_test[own.columns.label]]}
        ),
    )


def _clustered(own: ClusteringTask, folder: Path) -> Dataset:
    texts, labels = _labelled_texts(folder / own.file, own.columns)
    return Dataset.from_dict({"sentences": texts, "labels": labels})


def _labelled_texts(path: Path, columns: LabelledColumns) -> tuple[list[str], list[str]]:
    read = read_columns(path, {columns.text: text, columns.label: label}).columns
    _require_two_values(path, read[columns.label], "class")
    return read[columns.text], read[columns.label]


def _require_two_values(path: Path, values: list[Any], what: str) -> None:
    if len(set(values)) == 1:
        raise InputError(f"{path}: every row has the same {what}, {values[0]}: there is nothing to tell apart")


def _searched(own: RetrievalTask, folder: Path) -> RetrievalSplitData:
    queries, corpus = (_by_id(folder / file) for file in (own.queries, own.corpus))
    relevant: dict[str, dict[str, int]] = {}
    path = folder / own.relevant
    rows = read_columns(path, {"query-id": label, "corpus-id": label, "score": grade})
    problems = []
    for index, (query, document, score) in enumerate(zip(*rows.columns.values(), strict=True)):
        where = place(path, rows, index)
        if query not in queries:
            problems.append(f"{where}: no query of {own.queries} has the id {query!r:.60}")
        if document not in corpus:
            problems.append(f"{where}: no document of {own.corpus} has the id {document!r:.60}")
        if document in relevant.setdefault(query, {}):
            problems.append(f"{where}: repeats how relevant {document!r:.60} is to {query!r:.60}")
        relevant[query][document] = score
    refuse(path, problems)
    first: dict[str, str] = {}  # distinct text -> id
    for name, words in corpus.items():
        first.setdefault(words, name)
    judged = {
        query: _merged(grades, lambda document: first[corpus[document]])
        for query, grades in relevant.items()
        if any(grades.values())
    }
    if not judged:
        raise InputError(f"{path}: no query has a relevant document, one with a score of 1 or more")
    return RetrievalSplitData(
        queries=Dataset.from_dict({"id": list(judged), "text": [queries[query] for query in judged]}),
        corpus=Dataset.from_dict({"id": list(first.values()), "text": list(first)}),
        relevant_docs=judged,
        top_ranked=None,
    )


def _merged(grades: dict[str, int], document: Callable[[str], str]) -> dict[str, int]:
    """Return the grades of distinct documents: the best that any copy of each has."""
    merged: dict[str, int] = {}
    for name, grade_of_copy in grades.items():
        merged[document(name)] = max(grade_of_copy, merged.get(document(name), 0))
    return merged


def _by_id(path: Path) -> dict[str, str]:
    rows = read_columns(path, {"id": label, "text": text})
    texts: dict[str, str] = {}
    problems = []
    for index, (name, words) in enumerate(zip(rows.columns["id"], rows.columns["text"], strict=True)):
        if name in texts:
            problems.append(f"{place(path, rows, index)}: the id {name!r:.60} appears twice")
        texts[name] = words
    refuse(path, problems)
    return texts
