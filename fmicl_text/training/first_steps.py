"""What the first training steps show of a setting that will not train well."""

from __future__ import annotations

import logging
from statistics import mean, stdev

from torch import Tensor

logger = logging.getLogger(__name__)

STEPS = 20
"""How many calls of the loss are looked at."""
_EDGE = 5  # of these at either end are compared


class FirstSteps:
    """Watches the terms of the first training steps, and warns once.

    A positive term that rises means that anchors and positives move apart: the push outweighs the pull.

    Args:
        source: The data set of the terms, if there are several.
    """

    def __init__(self, source: str | None = None) -> None:
        self._source = source
        self._positive: list[Tensor] = []
        self._done = False

    def see(self, terms: dict[str, Tensor]) -> None:
        """Look at the terms of one call of the loss, unless each batch has a temperature of its own.

        As that falls the term rises, though no pair moves apart; and such a loss pushes as hard as it pulls.
        """
        if self._done or "positive" not in terms or "temperature" in terms:
            return
        self._positive.append(terms["positive"].detach())
        if len(self._positive) == STEPS:
            self._done = True
            warn_if_rising([value.item() for value in self._positive], self._source)


def warn_if_rising(values: list[float], source: str | None = None) -> None:
    """Warn if the last of the values are clearly above the first: by three standard errors of the difference."""
    first, last = values[:_EDGE], values[-_EDGE:]
    error = ((stdev(first) ** 2 + stdev(last) ** 2) / _EDGE) ** 0.5
    if mean(last) - mean(first) > max(3 * error, 1e-3 * abs(mean(first))):
        logger.warning(
            "%sthe positive term rises over the first %d steps, from %.4g to %.4g: anchors and positives move apart. "
            "Lower train.learning_rate, or make negatives weigh less, by a lower loss.alpha or a higher "
            "loss.balance_cosine where the objective has them",
            "" if source is None else f"{source}: ",
            len(values),
            mean(first),
            mean(last),
        )
