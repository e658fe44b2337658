"""One evaluation of one encoder from Python: what ``fmicl eval`` and ``evaluate.after`` of a recipe run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError

from fmicl_text.errors import InputError
from fmicl_text.evaluation.items import Measured
from fmicl_text.evaluation.kind import Effort, Given
from fmicl_text.evaluation.registry import evaluation
from fmicl_text.evaluation.scored_model import scored_model

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def evaluate(
    model: SentenceTransformer | str,
    what: str = "sts7",
    data: str | None = None,
    *,
    batch_size: int = 128,
    show_progress: bool = False,
    name: str | None = None,
    **options: Any,
) -> Measured:
    """Evaluate an encoder.

    Args:
        model: A loaded model, or a model folder, a run folder, a Hub id, or ``sample:minilm``.
        what: What a recipe names in ``evaluate.after``: a suite of STS tasks (``sts7``, ``stsb``), ``geometry``,
            ``transfer``, ``images``, ``knn``, ``linear``, ``mteb``, a file of your own pairs, or a suite's YAML file.
        data: A folder of data, or ``sample:stsb``; None for the Hugging Face Hub.
        batch_size: Texts encoded at a time.
        show_progress: Draw progress bars on standard error.
        name: Name of the model in the result; by default ``model`` itself, if it is a string.
        options: Of the evaluation, as in a recipe: ``label="duplicate"`` for a file of pairs.

    Returns:
        What was found: ``.result`` has the scores, each with its 95% interval if it has items.

    Raises:
        InputError: There is no such evaluation, option or model, or the data is wrong or missing.
    """
    try:
        asked = evaluation({"name": what, **options})
    except PydanticCustomError as error:
        raise InputError(error.message()) from None
    return asked.load(Given(data=data)).measure(scored_model(model, name), Effort(batch_size, show_progress))
