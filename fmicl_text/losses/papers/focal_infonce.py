"""Focal-InfoNCE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveFloat

from fmicl_text.losses.objective import Objective, Paper

if TYPE_CHECKING:
    from torch import Tensor

PAPER = Paper(
    source="Hou & Li, Findings of EMNLP 2023",
    arxiv="2310.06918",
    bibtex="""
@inproceedings{hou2023improving,
    title = {Improving Contrastive Learning of Sentence Embeddings with {Focal-InfoNCE}},
    author = {Pengyue Hou and Xingyu Li},
    year = {2023},
    booktitle = {Findings of the Association for Computational Linguistics: EMNLP},
    eprint = {2310.06918},
    archivePrefix = {arXiv},
}
""",
)


class FocalInfoNCE(Objective):
    """InfoNCE on modulated cosines: hard negatives weigh more, and so do easy positives."""

    loss_name = "FocalInfoNCELoss"
    paper = PAPER
    formula = "InfoNCE with `s²/τ` for positives, `s(s+m)/τ` for negatives"
    when = "unsupervised sentences; not monotone below `s = -m/2`"

    objective: Literal["focal-infonce"] = "focal-infonce"
    """Which objective."""
    temperature: PositiveFloat = 0.05
    """``tau``, which divides the cosine; the paper's 0.05."""
    margin: Annotated[float, Field(ge=0)] = 0.3
    """``m``, the hardness margin of the negatives."""

    def terms(self, x: Tensor, y: Tensor, **parts_and_batch: Any) -> dict[str, Tensor]:
        """Return the terms of :func:`fmicl_text.core.focal_infonce`."""
        from fmicl_text.core import focal_infonce

        return focal_infonce(x, y, temperature=self.temperature, margin=self.margin, **parts_and_batch)
