"""How far a score that needs no labels ranks runs as labels do: what a study of sweeps measured."""

from __future__ import annotations

from fmicl_text.evaluation.metrics import Metric
from fmicl_text.files import read_json, resource_folder

FILE = "geometry.json"
"""Of the shipped ``published`` tables: job -> what judged, how many final runs there were, rank correlations.

``python -m eval.benchmarks.sweeps`` writes it.
"""


def agreement(metric: Metric) -> str:
    """Return in words how far a measure of the geometry ranked the final runs of a study as what judged them did.

    A rank correlation of 1 is the same order, from good to bad.

    Args:
        metric: The measure.
    """
    file = resource_folder("published") / FILE
    jobs = read_json(file) if file.is_file() else {}
    sign = -1 if metric.higher_is_better is False else 1
    found = []
    for name, job in jobs.items():
        if (rho := job["rank_correlation"].get(metric.name)) is not None:
            found.append(f"{sign * rho:+.2f} with {job['judges']} ({name}, {job['runs']} runs)")
    if not found:
        return "how far it ranks runs as labels do has not been measured"
    return f"it ranked the final runs of a study with a rank correlation of {', '.join(found)}"
