"""The metrics of all evaluations: their names, their names on the Hub, units, and whether higher is better."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fmicl_text.evaluation.results import Score, Unit


@dataclass(frozen=True)
class Metric:
    """What a score measures.

    Attributes:
        name: As people write it, such as ``Spearman``.
        type: As sentence-transformers' evaluators and the Hub call it, such as ``spearman_cosine``.
        unit: Unit of its values.
        higher_is_better: None if neither high nor low values are better.
    """

    name: str
    type: str
    unit: Unit = "%"
    higher_is_better: bool | None = True

    def score(
        self,
        of: str,
        value: float,
        n: int | None = None,
        ci95: tuple[float, float] | None = None,
        no_interval: str | None = None,
    ) -> Score:
        """Return the score of a task, in the metric's unit; the arguments are the fields of :class:`Score`."""
        return Score(
            name=of,
            metric=self.name,
            metric_type=self.type,
            value=value,
            unit=self.unit,
            n=n,
            ci95=ci95,
            no_interval=no_interval,
            higher_is_better=self.higher_is_better,
        )

    def key(self, of: str) -> str:
        """Return the :attr:`Score.key` of a task's score."""
        return f"{of} {self.name}"


SPEARMAN = Metric("Spearman", "spearman_cosine")
ACCURACY = Metric("accuracy", "accuracy")
SD_OVER_DRAWS = Metric("sd over draws of the labels", "accuracy_sd", "%", None)
F1_OF_CLASS_1 = Metric("F1", "f1")
ACCURACY_AT_1 = Metric("accuracy@1", "cosine_accuracy@1")
MRR_AT_10 = Metric("MRR@10", "cosine_mrr@10")

PAIR_METRICS = {
    "spearman": SPEARMAN,
    "pearson": Metric("Pearson", "pearson_cosine"),
    "kendall": Metric("Kendall tau-b", "kendall_cosine"),
    "auc": Metric("ROC AUC", "cosine_roc_auc"),
    "average_precision": Metric("average precision", "cosine_ap"),
    "f1": Metric("best F1", "cosine_f1"),
    "threshold": Metric("threshold of the best F1", "cosine_f1_threshold", "", None),
}
"""What is measured on a user's own pairs."""

GEOMETRY = {
    "alignment": Metric("alignment", "alignment", "", False),
    "uniformity": Metric("uniformity", "uniformity", "", False),
    "wasserstein_uniformity": Metric("Wasserstein uniformity", "wasserstein_uniformity", "", False),
    "effective_rank": Metric("effective rank", "effective_rank", "", None),
    "anisotropy": Metric("anisotropy", "anisotropy", "", None),
    "hubness": Metric("hubness", "hubness", "", None),
}
DENSITY_RATIO = {
    "sigma": Metric("sigma of the density ratio", "density_ratio_sigma", "", None),
    "misfit": Metric("misfit of the density ratio (nats)", "density_ratio_misfit", "", False),
}


def mutual_information(divergence: str) -> Metric:
    """Return the lower bound of the f-mutual information of a divergence, in nats for KL."""
    return Metric(f"f-MI lower bound ({divergence})", f"f_mi_{divergence}", "", None)


_MTEB = {
    "cosine_spearman": SPEARMAN,
    "cosine_pearson": PAIR_METRICS["pearson"],
    "cosine_ap": PAIR_METRICS["average_precision"],
    "max_ap": Metric("average precision by the best of five similarities", "max_ap"),
    "accuracy": ACCURACY,
    "f1": Metric("F1", "f1"),
    "v_measure": Metric("V-measure", "v_measure"),
}
_AT_RANK = re.compile(r"(ndcg|map|mrr|recall|precision)_at_(\d+)")
_WRITTEN = {"ndcg": "nDCG", "map": "MAP", "mrr": "MRR"}


def mteb_metric(*main_scores: str) -> Metric:
    """Return the metric that mteb calls by a name such as ``ndcg_at_10``; or the mean of several, ``main score``."""
    if len(set(main_scores)) != 1:
        return Metric("mean of the main scores", "main_score")
    (name,) = set(main_scores)
    if match := _AT_RANK.fullmatch(name):
        measure, rank = match.groups()
        return Metric(f"{_WRITTEN.get(measure, measure)}@{rank}", f"{measure}@{rank}")
    return _MTEB.get(name, Metric(name.replace("_", " "), name))
