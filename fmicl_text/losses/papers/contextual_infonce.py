"""Contextual InfoNCE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveFloat

from fmicl_text.losses.objective import Objective, Paper
from fmicl_text.section import Conflict

if TYPE_CHECKING:
    from torch import Tensor, nn

PAPER = Paper(
    source="Bertram et al. 2024",
    arxiv="2407.05898",
    bibtex=r"""
@misc{bertram2024contrastive,
    title = {Contrastive Learning of Preferences with a Contextual {InfoNCE} Loss},
    author = {Timo Bertram and Johannes F{\"u}rnkranz and Martin M{\"u}ller},
    year = {2024},
    eprint = {2407.05898},
    archivePrefix = {arXiv},
}
""",
)


class ContextualInfoNCE(Objective):
    """InfoNCE in which an anchor sees only its own tuple: its positive and its own explicit negatives."""

    loss_name = "ContextualInfoNCELoss"
    paper = PAPER
    formula = "InfoNCE of each anchor against its own tuple only"
    needs = "a third column"
    needs_negatives = True
    when = "choices from a list that was offered"

    objective: Literal["contextual-infonce"] = "contextual-infonce"
    """Which objective."""
    temperature: PositiveFloat = 0.05
    """``tau``, which divides the cosine; 0.05 as InfoNCE's."""
    learn_kernel: bool = False
    """Whether the temperature is learned; it starts at the value given."""

    @property
    def is_mean(self) -> bool:
        """Always."""
        return True

    def conflicts(self) -> Iterator[Conflict]:
        """Refuse a region and a queue, since its negatives are given."""
        yield from super().conflicts()
        for name in ("queue", "region"):
            if getattr(self, name) is not None:
                yield (name,), "does not go with contextual-infonce, which compares with what was offered"

    def parts(self) -> dict[str, nn.Module]:
        """Return the kernel."""
        from fmicl_text.core import CosineKernel

        return {"kernel": CosineKernel(self.temperature, self.learn_kernel)}

    def terms(self, x: Tensor, y: Tensor, **parts_and_batch: Any) -> dict[str, Tensor]:
        """Return the terms of :func:`fmicl_text.core.contextual_infonce`.

        Raises:
            ValueError: If there is no third column.
        """
        import torch

        from fmicl_text.core import contextual_infonce

        if (extra := parts_and_batch.get("extra")) is None:
            raise ValueError("expected explicit negatives, the items offered and not chosen: give a third column")
        row = torch.arange(len(extra), device=x.device) % len(x)  # (M,), the tuple each candidate comes from
        offered = row == torch.arange(len(x), device=x.device).unsqueeze(1)  # (B, M)
        return contextual_infonce(x, y, offered=offered, **parts_and_batch)
