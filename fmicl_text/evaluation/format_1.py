"""Results as they were written before all kinds shared one document: format 1, read as the document of today."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from fmicl_text.evaluation.geometry import PROTOCOL, Layout, geometry_scores
from fmicl_text.evaluation.metrics import (
    ACCURACY,
    ACCURACY_AT_1,
    F1_OF_CLASS_1,
    MRR_AT_10,
    PAIR_METRICS,
    SPEARMAN,
    Metric,
    mteb_metric,
)
from fmicl_text.evaluation.results import ForeignDocument, Result, Score, checked, named

Interval = tuple[float, float] | None


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    model: str = "unknown"
    revision: str | None = None
    data: str | None = None
    max_seq_length: int | None = None
    precision: str | None = None
    versions: dict[str, str] = {}

    def result(self, kind: str, name: str, protocol: str, scores: list[Score], **more: Any) -> Result:
        known = {"max_seq_length": self.max_seq_length, "precision": self.precision} | more.pop("facts", {})
        given = {name: fact for name, fact in known.items() if fact is not None}
        return Result(
            kind=kind,
            name=name,
            protocol=protocol,
            model=self.model,
            revision=self.revision,
            data=more.pop("data", self.data),
            facts=given,
            versions=self.versions,
            scores=scores,
            **more,
        )


class _Suite(_Document):
    suite: str
    protocol: str
    average: float | None = None
    average_ci95: Interval = None
    missing: list[str] = []
    missing_reasons: dict[str, str] = {}

    def reasons(self) -> dict[str, str]:
        return {task: self.missing_reasons.get(task, "the reason was not recorded") for task in self.missing}


class _StsTask(BaseModel):
    spearman: float
    n: int | None = None
    ci95: Interval = None


class _Sts(_Suite):
    tasks: dict[str, _StsTask]

    def convert(self) -> Result:
        scores = [SPEARMAN.score(name, task.spearman, task.n, task.ci95) for name, task in self.tasks.items()]
        if self.average is not None and len(scores) > 1:
            scores.insert(0, SPEARMAN.score("average", self.average, ci95=self.average_ci95))
        return self.result("sts", self.suite, self.protocol, scores, missing=self.reasons())


class _TransferTask(BaseModel):
    accuracy: float
    n: int | None = None
    ci95: Interval = None
    C: list[float] = []
    f1: float | None = None
    f1_ci95: Interval = None


class _Transfer(_Suite):
    tasks: dict[str, _TransferTask]

    def convert(self) -> Result:
        scores = []
        for name, task in self.tasks.items():
            scores.append(ACCURACY.score(name, task.accuracy, task.n, task.ci95))
            if task.f1 is not None:
                scores.append(F1_OF_CLASS_1.score(name, task.f1, task.n, task.f1_ci95))
        if self.average is not None:
            scores.insert(0, ACCURACY.score("average", self.average, ci95=self.average_ci95))
        details = {"C": {name: task.C for name, task in self.tasks.items()}}
        return self.result("transfer", self.suite, self.protocol, scores, missing=self.reasons(), details=details)


class _MtebTask(BaseModel):
    model_config = ConfigDict(extra="allow")

    main_score: float
    metric: str
    n: int | None = None
    ci95: Interval = None
    no_interval: str | None = None


class _Mteb(_Suite):
    tasks: dict[str, _MtebTask]
    mteb_name: str
    mteb_revision: str | None = None
    batch_size: int | None = None
    benchmark_scores: dict[str, float | None] = {}

    def convert(self) -> Result:
        def percent(interval: Interval) -> Interval:
            return interval and (100 * interval[0], 100 * interval[1])

        scores = [
            mteb_metric(task.metric).score(name, 100 * task.main_score, task.n, percent(task.ci95), task.no_interval)
            for name, task in self.tasks.items()
        ]
        of_average = mteb_metric(*{task.metric for task in self.tasks.values()})
        if self.average is not None and len(scores) > 1:
            scores.insert(0, of_average.score("average", 100 * self.average, ci95=percent(self.average_ci95)))
        means = {name: mean for name, mean in self.benchmark_scores.items() if mean is not None}
        scores += [of_average.score(name, 100 * mean) for name, mean in means.items()]
        return self.result(
            "mteb",
            self.suite,
            self.protocol,
            scores,
            missing=self.reasons(),
            facts={"mteb_name": self.mteb_name, "mteb_revision": self.mteb_revision, "batch_size": self.batch_size},
            details={"tasks": {name: task.model_extra for name, task in self.tasks.items()}},
        )


class _Heldout(_Document):
    n: int
    candidates: int
    accuracy: float = Field(alias="accuracy@1")
    mrr: float = Field(alias="mrr@10")
    ci95: dict[str, tuple[float, float]] = {}

    def convert(self) -> Result:
        scores = [
            metric.score("held-out pairs", value, self.n, self.ci95.get(key))
            for metric, value, key in ((MRR_AT_10, self.mrr, "mrr@10"), (ACCURACY_AT_1, self.accuracy, "accuracy@1"))
        ]
        protocol = "each query's own document searched among all distinct ones, by cosine"
        return self.result("heldout", "heldout", protocol, scores, facts={"candidates": self.candidates})


class _OwnScore(BaseModel):
    value: float
    ci95: Interval = None


class _Pairs(_Document):
    file: str
    gold: str = "score"
    n: int
    positives: int | None = None
    scores: dict[str, _OwnScore]

    def convert(self) -> Result:
        name = Path(self.file).name
        scores = [
            PAIR_METRICS.get(metric, Metric(metric, metric)).score(name, score.value, self.n, score.ci95)
            for metric, score in self.scores.items()
        ]
        facts = {"gold": self.gold, "positives": self.positives}
        protocol = f"the cosine of two sentences against the {self.gold} of {self.n:,} pairs"
        return self.result("pairs", name, protocol, scores, data=self.file, facts=facts)


class _Geometry(_Document, Layout):
    def convert(self) -> Result:
        return self.result(
            "geometry",
            "geometry",
            PROTOCOL,
            geometry_scores(self.geometry),
            details=self.model_dump(mode="json", include={"geometry", "neighbours"}),
        )


_KINDS: dict[str, type[_Sts | _Transfer | _Mteb | _Heldout | _Pairs | _Geometry]] = {
    "geometry": _Geometry,
    "mteb_name": _Mteb,
    "candidates": _Heldout,
    "scores": _Pairs,
}
"""A key that only documents of a kind have -> the kind."""


def from_format_1(document: Mapping[str, Any], place: Path | str) -> Result:
    """Read a document of format 1; ``place`` is named in errors, which are those of ``read_result``.

    Figures of mteb, which were from 0 to 1, become percent.
    """
    kind: Any = next((_KINDS[key] for key in _KINDS if key in document), None)
    if kind is None and "suite" in document:
        kind = _Transfer if document["suite"] == "transfer" else _Sts
    if kind is None:
        raise ForeignDocument(f"{place}: not the result of an evaluation")
    read = checked(kind, document, place)
    with named(place):
        return read.convert()
