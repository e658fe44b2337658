"""An evaluation on whole embeddings, and on their first numbers alone, as one result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fmicl_text.evaluation.items import Measured
from fmicl_text.evaluation.kind import Effort, Loaded
from fmicl_text.evaluation.scored_model import ScoredModel


def measure_at(loaded: Loaded, scored: ScoredModel, effort: Effort, dims: Sequence[int]) -> Measured:
    """Score an encoder, and then the first numbers of its embeddings.

    Args:
        loaded: The evaluation.
        scored: The encoder.
        effort: How it is run.
        dims: How many numbers; the encoder's own number of dimensions is measured anyway. Default none.

    Returns:
        The result of whole embeddings, with a score :meth:`~fmicl_text.evaluation.results.Score.at` each number of
        dimensions for each of its scores; the fact ``dimensions`` is the encoder's own number.
    """
    whole = loaded.measure(scored, effort)
    if not dims:
        return whole
    own = scored.encoder.get_embedding_dimension()
    scores, items, missing = list(whole.result.scores), dict(whole.items), dict(whole.result.missing)
    for dim in sorted(set(dims) - {own}, reverse=True):
        # The vectors are other ones, and so is what mteb keeps results by.
        part = scored._replace(revision=scored.revision and f"{scored.revision}-first-{dim}")
        with scored.encoder.truncate_embeddings(dim):
            measured = loaded.measure(part, replace(effort, baselines=False))  # they are no other than before
        for score in measured.result.scores:
            scores.append(score.at(dim))
            if score.key in measured.items:
                items[score.at(dim).key] = measured.items[score.key]
        missing |= {f"{task} at {dim} dimensions": why for task, why in measured.result.missing.items()}
    facts = whole.result.facts | {"dimensions": own}
    result = whole.result.model_copy(update={"facts": facts, "scores": scores, "missing": missing})
    return Measured(result, items, whole.pictures)
