"""The geometry of embeddings."""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar

from pydantic import Field

from fmicl_text.evaluation.kind import Evaluation, Given, Loaded


class GeometryOfPairs(Evaluation):
    """How sentences lie on the sphere: alignment, uniformity, the density ratio of positive to random pairs."""

    kind: ClassVar = "geometry"
    names: ClassVar = "geometry: alignment, uniformity and the density ratio"

    pairs: str | None = None
    """Pairs that mean the same: a file or a Hub id. Default: STS-B dev, or without evaluate.data held-out pairs."""
    columns: Annotated[list[str], Field(min_length=2, max_length=2)] = ["anchor", "positive"]
    """The two columns of pairs."""
    data: str | None = None
    """Where STS-B dev comes from: a folder, or sample:stsb; default evaluate.data."""

    @classmethod
    def claims(cls, name: str) -> bool:
        """Whether it is ``geometry``."""
        return name == "geometry"

    def load(self, given: Given) -> Loaded:
        """Load pairs that mean the same: the user's own where there are any, else those of STS-B dev."""
        from fmicl_text.data.section import Columns
        from fmicl_text.evaluation.geometry import measure_pair_set
        from fmicl_text.evaluation.metrics import GEOMETRY
        from fmicl_text.evaluation.pair_sets import heldout_pair_set, own_pair_set, stsb_pair_set

        data = self.data or given.data
        if self.pairs is not None:
            anchor, positive = self.columns
            pairs = own_pair_set(self.pairs, Columns(anchor=anchor, positive=positive))
        elif data is None and given.heldout:
            pairs = heldout_pair_set([*given.heldout.values()])
        else:
            pairs = stsb_pair_set(data)
        return Loaded(
            partial(measure_pair_set, pairs=pairs), {metric.key("sentences"): metric for metric in GEOMETRY.values()}
        )
