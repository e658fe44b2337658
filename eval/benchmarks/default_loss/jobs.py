"""The jobs: a training set each, with a development and a test part that share no text and no group with it.

Sizes are such that a run takes seconds: 50 batches of 64 to train on, at most 2,000 texts to encode.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eval.benchmarks.default_loss.held_out import HeldOut, Retrieval, Similarity, held_out_of
from fmicl_text.data.samples import stsb_rows, wikipedia_rows

BATCH_SIZE = 64
STEPS = 50
DEV_QUERIES, TEST_QUERIES = 250, 500
DOCUMENTS = 1000
"""At most so many documents are searched in a test part; half as many in a development part."""

Half = Literal["choose", "judge", "confirm", "apart"]
Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A training set and its held-out parts.

    Attributes:
        name: Of the job.
        kind: What the pairs are.
        half: Whether it is for choosing a default or for judging it; ``confirm``: kept back until few candidates
            were left, and run with these alone; ``apart`` is no part of the study.
        steps: Training steps of a run.
        train: Columns: texts for dropout views, or anchors and positives, or those and negatives.
        groups: Group of each row, where rows of one group are right for each other: labels. None for other jobs.
        dev: For choosing.
        test: For judging.
    """

    name: str
    kind: str
    half: Half
    steps: int
    train: list[list[str]]
    groups: list[int] | None
    dev: HeldOut
    test: HeldOut


def write_jobs(jobs: Iterable[Job], file: Path) -> None:
    """Write jobs to a gzipped JSON file, to be run where the data is not."""
    documents = [{**vars(job), "dev": job.dev.document(), "test": job.test.document()} for job in jobs]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(json.dumps(documents, ensure_ascii=False).encode(), mtime=0))


def read_jobs(file: Path) -> dict[str, Job]:
    """Read jobs that :func:`write_jobs` wrote: name -> job."""
    documents = json.loads(gzip.decompress(file.read_bytes()))
    jobs = [Job(**{**d, "dev": held_out_of(d["dev"]), "test": held_out_of(d["test"])}) for d in documents]
    return {job.name: job for job in jobs}


def build_jobs(data: Path, names: Sequence[str] = ()) -> dict[str, Job]:
    """Build jobs from a folder with ``pairs/``, ``transfer/``, ``sts/`` and ``unsup/``: name -> job.

    Args:
        data: The folder.
        names: Which jobs; default the study's, :data:`STUDY`.
    """
    return {name: JOBS[name](name, data) for name in names or STUDY}


# --- pairs ---


def pair_job(
    name: str, kind: str, half: Half, rows: Sequence[Row], *, hard_negatives: bool = False, others: Sequence[str] = ()
) -> Job:
    """Return the job of finding the positive of an anchor, among the positives and negatives of other anchors.

    Rows that share an anchor or a positive, or are linked by others that do, are one group. Groups are divided between
    the parts at random, and training rows with a held-out text as negative are left out.

    Args:
        name: Of the job.
        kind: Of the job.
        half: Of the job.
        rows: Rows of ``anchor``, ``positive`` and, or None, ``negative``.
        hard_negatives: Whether the negatives are trained with; then rows without are left out. They are searched in
            any case.
        others: More documents to search, which are right for no query.
    """
    if hard_negatives:
        rows = [row for row in rows if row.get("negative")]
    groups = list(_linked(rows))
    random.Random(name).shuffle(groups)
    queries = min(DEV_QUERIES + TEST_QUERIES, len(groups) // 2)
    dev_end = queries * DEV_QUERIES // (DEV_QUERIES + TEST_QUERIES)
    dev, test, train = groups[:dev_end], groups[dev_end:queries], groups[queries:]
    held_out = {key(row[column]) for group in dev + test for row in group for column in ("anchor", "positive")}
    kept = [row for group in train for row in group if not (hard_negatives and key(row["negative"]) in held_out)]
    random.Random(name).shuffle(kept)
    kept = kept[: STEPS * BATCH_SIZE]
    columns = ("anchor", "positive", "negative") if hard_negatives else ("anchor", "positive")
    seen = {key(row[column]) for row in kept for column in columns}
    return Job(
        name=name,
        kind=kind,
        half=half,
        steps=STEPS,
        train=[[row[column] for row in kept] for column in columns],
        groups=None,
        dev=_search(dev, DOCUMENTS // 2, others, seen),
        test=_search(test, DOCUMENTS, others, seen),
    )


def _linked(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield groups of rows that share a text, in the order of their first rows."""
    parent: dict[str, str] = {}

    def root(text: str) -> str:
        while parent.setdefault(text, text) != text:
            parent[text] = text = parent[parent[text]]
        return text

    for row in rows:
        parent[root(key(row["positive"]))] = root(key(row["anchor"]))
    groups = defaultdict(list)
    for row in rows:
        groups[root(key(row["anchor"]))].append(row)
    yield from groups.values()


def _search(groups: Sequence[Sequence[Row]], documents: int, others: Sequence[str], seen: set[str]) -> Retrieval:
    """One anchor of each group is a query; its positives are right, the other groups', negatives and others are not."""
    queries, candidates = [], {}
    for number, group in enumerate(groups):
        queries.append(group[0]["anchor"])
        for row in group[: max(1, documents // len(groups))]:
            candidates.setdefault(row["positive"], number)
    known = seen | {key(row[column]) for group in groups for row in group for column in ("anchor", "positive")}
    negatives = [row["negative"] for group in groups for row in group if row.get("negative")]
    for text in [*negatives, *others]:
        if len(candidates) < documents and key(text) not in known:
            candidates.setdefault(text, -1)
    return Retrieval(queries, list(range(len(queries))), list(candidates), list(candidates.values()))


# --- labels ---


def label_job(name: str, half: Half, rows: Sequence[Row]) -> Job:
    """Return the job of finding texts of a text's own label; a positive is another training text of the label.

    Args:
        name: Of the job.
        half: Of the job.
        rows: Rows of ``text`` and ``label``; a label needs 12 distinct texts, or it is left out.
    """
    by_label = defaultdict(dict)
    for row in rows:
        by_label[row["label"]].setdefault(key(row["text"]), row["text"])
    labels = {label: list(texts.values()) for label, texts in by_label.items() if len(texts) >= 12}
    numbered = [(text, number) for number, label in enumerate(sorted(labels)) for text in labels[label]]
    random.Random(name).shuffle(numbered)
    queries = min(DEV_QUERIES + TEST_QUERIES, len(numbered) // 2)
    parts: dict[str, list[tuple[str, int]]] = {"dev": [], "test": [], "train": []}
    for position, item in enumerate(numbered):
        third = "dev" if position % 3 == 0 else "test"
        parts[third if position < queries else "train"].append(item)
    draw = random.Random(name)
    texts_of = defaultdict(list)
    for text, number in parts["train"]:
        texts_of[number].append(text)
    anchors = [item for item in parts["train"] if len(texts_of[item[1]]) > 1]
    anchors = [anchors[i % len(anchors)] for i in range(STEPS * BATCH_SIZE)]
    positives = []
    for text, number in anchors:
        while (other := draw.choice(texts_of[number])) == text:
            pass
        positives.append(other)
    return Job(
        name=name,
        kind="label",
        half=half,
        steps=STEPS,
        train=[[text for text, _ in anchors], positives],
        groups=[number for _, number in anchors],
        dev=_leave_one_out(parts["dev"]),
        test=_leave_one_out(parts["test"]),
    )


def _leave_one_out(items: Sequence[tuple[str, int]]) -> Retrieval:
    counts = defaultdict(int)
    for _, number in items:
        counts[number] += 1
    kept = [(text, number) for text, number in items if counts[number] > 1]
    return Retrieval([text for text, _ in kept], [number for _, number in kept])


# --- dropout pairs ---


def dropout_job(name: str, half: Half, texts: Sequence[str], dev: Sequence[Row], test: Sequence[Row]) -> Job:
    """Return the job of similarity, learned from single texts by SimCSE's dropout views."""
    held_out = {key(row[column]) for row in [*dev, *test] for column in ("sentence1", "sentence2")}
    kept = [text for text in dict.fromkeys(texts) if key(text) not in held_out][: STEPS * BATCH_SIZE]
    return Job(name, "dropout", half, STEPS, [kept], None, _similarity(dev), _similarity(test))


def _similarity(rows: Sequence[Row]) -> Similarity:
    sentences1, sentences2, scores = ([row[column] for row in rows] for column in ("sentence1", "sentence2", "score"))
    return Similarity(sentences1, sentences2, scores)


# --- the list ---


def key(text: str) -> str:
    """Return what makes two texts the same: letters and digits, case aside."""
    return re.sub(r"[\W_]+", "", text.casefold())


def overlap(row: Row) -> float:
    """Return the share of words that anchor and positive have in common (Jaccard)."""
    a, b = (set(re.findall(r"\w+", row[column].casefold())) for column in ("anchor", "positive"))
    return len(a & b) / max(1, len(a | b))


def _rows(file: Path) -> list[Row]:
    import pyarrow.parquet as pq

    return pq.read_table(file).to_pylist()


def _pairs(
    kind: str, half: Half, *sources: str, most_overlap: float = 1.0, **options: Any
) -> Callable[[str, Path], Job]:
    """A job of some sources of ``pairs.parquet``, without rows that share more than ``most_overlap`` of their words."""

    def build(name: str, data: Path) -> Job:
        rows = [row for row in _rows(data / "pairs" / "pairs.parquet") if row["source"] in sources]
        return pair_job(name, kind, half, [row for row in rows if overlap(row) <= most_overlap], **options)

    return build


def _labels(
    half: Half, file: str, label: str = "label", only: Callable[[Row], bool] = bool
) -> Callable[[str, Path], Job]:
    def build(name: str, data: Path) -> Job:
        rows = [{"text": row["text"], "label": row[label]} for row in _rows(data / "transfer" / file) if only(row)]
        return label_job(name, half, rows)

    return build


def _wikipedia(name: str, data: Path) -> Job:
    rows = [{"anchor": row["description"], "positive": row["summary"]} for row in wikipedia_rows("train")]
    return pair_job(name, "description", "judge", rows, others=[row["summary"] for row in wikipedia_rows("heldout")])


def _backwards(name: str, data: Path) -> Job:
    """As ``wikipedia``, with each word of a summary spelled backwards: clean pairs that an encoder knows nothing of."""

    def spelled(text: str) -> str:
        return " ".join(word[::-1] for word in text.split())

    rows = [{"anchor": row["description"], "positive": spelled(row["summary"])} for row in wikipedia_rows("train")]
    others = [spelled(row["summary"]) for row in wikipedia_rows("heldout")]
    return pair_job(name, "unknown language", "confirm", rows, others=others)


def _simplification(name: str, data: Path) -> Job:
    """Simplifications in other words: those with most of the words of the original are found by any encoder."""
    rows = _rows(data / "pairs" / "pairs.parquet")
    simplified = [row for row in rows if row["source"] == "simplification" and overlap(row) <= 0.3]
    others = [row["positive"] for row in rows if row["source"] == "wiki_split"][:DOCUMENTS]
    return pair_job(name, "simplification", "choose", simplified, others=others)


def _mrpc(name: str, data: Path) -> Job:
    """Telling paraphrases from sentences that are nearly so: a positive is found too easily among other documents."""
    rows = _rows(data / "transfer" / "mrpc.parquet")
    dev, test = ([row for row in rows if row["split"] == split] for split in ("dev", "test"))
    held_out = [{**row, "score": float(row["label"])} for row in [*dev, *test[:1000]]]
    texts = {key(row[column]) for row in held_out for column in ("sentence1", "sentence2")}
    train = [
        [row["sentence1"], row["sentence2"]]
        for row in rows
        if row["split"] == "train" and row["label"] == 1 and not texts & {key(row["sentence1"]), key(row["sentence2"])}
    ]
    columns = [list(column) for column in zip(*train, strict=True)]
    parts = _similarity(held_out[: len(dev)]), _similarity(held_out[len(dev) :])
    return Job(name, "paraphrase", "judge", STEPS, columns, None, *parts)


def _quickstart(name: str, data: Path) -> Job:
    """As the quickstart's recipe: its training articles, a fifth of them for choosing; its held-out articles judge."""
    articles = wikipedia_rows("train")
    fifth = [i for i in range(len(articles)) if i % 5 == 0]
    random.Random(name).shuffle(fifth)

    def search(rows: Sequence[Row]) -> Retrieval:
        documents = {row["summary"]: number for number, row in enumerate(rows)}
        groups = [documents[row["summary"]] for row in rows]
        return Retrieval([row["description"] for row in rows], groups, list(documents), list(documents.values()))

    train = [row for i, row in enumerate(articles) if i % 5]
    return Job(
        name=name,
        kind="description",
        half="apart",
        steps=len(train) // BATCH_SIZE,
        train=[[row["description"] for row in train], [row["summary"] for row in train]],
        groups=None,
        dev=search([articles[i] for i in fifth]),
        test=search(wikipedia_rows("heldout")),
    )


def _entailment(name: str, data: Path) -> Job:
    """Short captions that follow from one another, and other captions of the same pictures that do not."""
    rows = _rows(data / "sts" / "sickr.parquet")
    pairs = [(row["sentence1"], row["sentence2"], row["entailment"]) for row in rows]
    entailed = [{"anchor": a, "positive": b} for a, b, label in pairs if label == "ENTAILMENT"]
    others = [b for _, b, label in pairs if label != "ENTAILMENT"]
    return pair_job(name, "inference", "confirm", entailed, others=others)


def _similar(name: str, data: Path) -> Job:
    """Pairs that people called equivalent or nearly so; the development and test pairs have every degree."""
    parts = {part: stsb_rows(part) for part in ("dev", "test")}
    texts = {key(row[column]) for part in parts.values() for row in part for column in ("sentence1", "sentence2")}
    pairs = [[row["sentence1"], row["sentence2"]] for row in stsb_rows("train") if row["score"] >= 4]
    kept = [pair for pair in pairs if not texts & {key(text) for text in pair}]
    columns = [list(column) for column in zip(*kept, strict=True)]
    return Job(name, "paraphrase", "confirm", STEPS, columns, None, *map(_similarity, parts.values()))


def _dropout_wikipedia(name: str, data: Path) -> Job:
    texts = [row["text"] for row in _rows(data / "unsup" / "wiki_20k.parquet")]
    pairs = stsb_rows("dev")
    random.Random(name).shuffle(pairs)
    return dropout_job(name, "judge", texts, pairs[:500], pairs[500:])


def _dropout_everyday(name: str, data: Path) -> Job:
    domains = ("fiction", "speech", "everyday", "web", "news")
    texts = [row["text"] for row in _rows(data / "unsup" / "other.parquet")[:20_000] if row["domain"] in domains]
    pairs = _rows(data / "sts" / "sts16.parquet")
    random.Random(name).shuffle(pairs)
    return dropout_job(name, "choose", texts, pairs[:400], pairs[400:])


JOBS: dict[str, Callable[[str, Path], Job]] = {
    "selqa": _pairs("question, answer", "choose", "selqa"),
    "parasci": _pairs("paraphrase", "choose", "parasci_acl", "parasci_arxiv", most_overlap=0.3),
    "webnlg": _pairs("paraphrase", "choose", "webnlg", most_overlap=0.5),
    "nli-triplets": _pairs("inference", "choose", "ling_nli", hard_negatives=True),
    "simplification": _simplification,
    "questions-of-things": _labels("choose", "trec.parquet", "label_name", lambda row: row["label"] in (0, 2, 5)),
    "opinion": _labels("choose", "cr.parquet"),
    "dropout-everyday": _dropout_everyday,
    "wikiqa": _pairs("question, answer", "judge", "wikiqa"),
    "mrpc": _mrpc,
    "nli-pairs": _pairs("inference", "judge", "snli_dev_test", "counterfactual_nli"),
    "captions": _pairs("caption", "judge", "multi30k", most_overlap=0.2),
    "wikipedia": _wikipedia,
    "questions-of-people": _labels("judge", "trec.parquet", "label_name", lambda row: row["label"] in (1, 3, 4)),
    "subjectivity": _labels("judge", "subj.parquet"),
    "dropout-wikipedia": _dropout_wikipedia,
    "crowd-inference": _pairs("inference", "confirm", "crowd_nli_wiki", most_overlap=0.5),
    "entailment": _entailment,
    "similar": _similar,
    "phrases": _labels("confirm", "mpqa.parquet"),
    "reviews": _labels("confirm", "mr.parquet"),
    "sentiment": _labels("confirm", "sst2.parquet", only=lambda row: row["split"] != "train"),
    "backwards": _backwards,
    "quickstart": _quickstart,
}
"""Name -> what builds the job from its name and the folder of the data."""

STUDY = tuple(name for name in JOBS if name != "quickstart")
"""The jobs of the study, those of the half ``confirm`` among them."""
