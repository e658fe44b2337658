"""Alignment and uniformity on the hypersphere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveFloat

from fmicl_text.losses.objective import Objective, Paper

if TYPE_CHECKING:
    from torch import Tensor

PAPER = Paper(
    source="Wang & Isola, ICML 2020",
    arxiv="2005.10242",
    bibtex="""
@inproceedings{wang2020understanding,
    title = {Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere},
    author = {Tongzhou Wang and Phillip Isola},
    year = {2020},
    booktitle = {International Conference on Machine Learning},
    eprint = {2005.10242},
    archivePrefix = {arXiv},
}
""",
)


class AlignmentUniformity(Objective):
    """Alignment of the pairs and uniformity of each view on the sphere."""

    loss_name = "AlignmentUniformityLoss"
    paper = PAPER
    formula = "`w_a mean d_ii^α + w_u mean over views of log mean exp(-t d²_ij)`"
    reduction = "log of a mean"
    when = "to weigh the two forces by hand"

    objective: Literal["alignment-uniformity"] = "alignment-uniformity"
    """Which objective."""
    power: Annotated[float, Field(gt=0, le=2)] = 2.0
    """Exponent of the alignment's distance."""
    t: PositiveFloat = 2.0
    """Inverse width of the uniformity's Gaussian; 10 corresponds to SimCSE's temperature of 0.05."""
    align_weight: PositiveFloat = 1.0
    """Weight of the alignment."""
    uniform_weight: PositiveFloat = 1.0
    """Weight of the uniformity."""

    def terms(self, x: Tensor, y: Tensor, **parts_and_batch: Any) -> dict[str, Tensor]:
        """Return the terms of :func:`fmicl_text.core.alignment_uniformity`."""
        from fmicl_text.core import alignment_uniformity

        settings = {name: getattr(self, name) for name in ("power", "t", "align_weight", "uniform_weight")}
        return alignment_uniformity(x, y, **settings, **parts_and_batch)
