"""The objectives that are compared: a class and its settings each, the same for all jobs."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import fmicl_text.losses

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import nn


T = TypeVar("T")


class Unavailable(Exception):
    """The installed package does not have the loss, or the loss does not take the settings."""


@dataclass(frozen=True)
class Objective:
    """A loss with its settings.

    Attributes:
        name: In tables and files.
        loss: Class in ``fmicl_text.losses``; ``MultipleNegativesRankingLoss`` is sentence-transformers' own.
        settings: Arguments of the class.
        role: ``baseline``; ``candidate`` for the default; ``tuned``, a candidate that is also one of the settings
            of which each job may take the best.
    """

    name: str
    loss: str
    settings: dict[str, Any] = field(default_factory=dict)
    role: Literal["baseline", "tuned", "candidate"] = "candidate"

    def columns(self, columns: list[T]) -> list[T]:
        """Return the columns of a batch as the loss takes them: dropout views are one column, or for MNRL one twice."""
        return columns * 2 if self.loss == MNRL and len(columns) == 1 else columns

    def build(self, model: SentenceTransformer) -> nn.Module:
        """Return the loss over an encoder.

        Raises:
            Unavailable: The package has no such class or setting, or not this value of it.
        """
        if self.loss == MNRL:
            from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

            return MultipleNegativesRankingLoss(model, **self.settings)
        loss = getattr(fmicl_text.losses, self.loss, None)
        if loss is None:
            raise Unavailable(f"{self.name}: fmicl_text.losses has no {self.loss}")
        if unknown := self.settings.keys() - inspect.signature(loss).parameters.keys():
            raise Unavailable(f"{self.name}: {self.loss} has no setting {', '.join(sorted(unknown))}")
        try:
            return loss(model, **self.settings)
        except (ValueError, TypeError) as error:
            raise Unavailable(f"{self.name}: {str(error).splitlines()[0]}") from None


MNRL = "MultipleNegativesRankingLoss"
START = "start"
"""Name of the encoder as it was, without training."""
TUNED = "InfoNCE, tuned"
"""Name of the temperature of InfoNCE that is best on a job's development part."""


def _row(
    divergence: str,
    temperature: float | Literal["adaptive"],
    negatives: str = "cross",
    order: float | None = None,
) -> Objective:
    """f-MICL with a shift for each anchor."""
    named = divergence if order is None else f"{divergence} {order}"
    return Objective(
        f"{named} row {temperature} {negatives}",
        "FMICLLoss",
        {
            "divergence": divergence,
            **({} if order is None else {"order": order}),
            "kernel": "cosine",
            "temperature": temperature,
            "shift": "row",
            "negatives": negatives,
        },
    )


_FMICL_OF_0_1 = {"divergence": "kl", "kernel": "gaussian", "sigma": 0.25, "negatives": "cross"}

OBJECTIVES = (
    Objective("MNRL", MNRL, {"scale": 20.0}, "baseline"),
    Objective("KL balance 0.1", "FMICLLoss", {**_FMICL_OF_0_1, "balance_cosine": 0.1}, "baseline"),
    *(Objective(f"InfoNCE {tau}", "InfoNCELoss", {"temperature": tau}, "tuned") for tau in (0.02, 0.05, 0.1, 0.2)),
    Objective("KL balance 0.5", "FMICLLoss", {**_FMICL_OF_0_1, "balance_cosine": 0.5}),
    Objective("KL balance measured", "FMICLLoss", {**_FMICL_OF_0_1, "balance_cosine": "measured"}),
    Objective("KL measured", "FMICLLoss", {"divergence": "kl", "shift": "none"}),
    Objective(
        "KL auto 0.05", "FMICLLoss", {"divergence": "kl", "kernel": "cosine", "temperature": 0.05, "alpha": "auto"}
    ),
    Objective("DCL 0.05", "DCLLoss", {"temperature": 0.05, "symmetric": False}),
    _row("kl", 0.05),  # InfoNCE by another way
    _row("kl", 0.05, "anchor"),
    _row("js", 0.05),
    _row("js", 0.05, "anchor"),
    _row("js", 0.05, "both"),
    _row("js", 0.07),
    _row("js", 0.07, "both"),
    _row("js", "adaptive"),
    _row("kl", "adaptive"),
    _row("js", 0.1),
    _row("js", 0.1, "both"),
    _row("tsallis", 0.07, order=1.25),
    _row("tsallis", 0.07, "anchor", order=1.25),
    _row("tsallis", 0.1, order=1.5),
    _row("pearson", 0.2),
    _row("sh", 0.025),
    _row("vlc", 0.05),
)
"""What is compared; a new candidate is a new line."""
