"""The evaluation of a run's models, before and after training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from transformers import set_seed

from fmicl_text.bars import bars_are_shown
from fmicl_text.encoders.text import load_model
from fmicl_text.errors import InputError
from fmicl_text.evaluation.dimensions import measure_at
from fmicl_text.evaluation.items import write_result
from fmicl_text.evaluation.kind import Effort
from fmicl_text.evaluation.results import Result, read_result
from fmicl_text.evaluation.scored_model import ScoredModel, model_revision
from fmicl_text.recipe.schema import Recipe
from fmicl_text.runs.folder import RunFolder
from fmicl_text.training.inputs import Inputs
from fmicl_text.training.processes import in_first_process
from fmicl_text.training.results import SeedResult

logger = logging.getLogger(__name__)


def measure_before(recipe: Recipe, inputs: Inputs, folder: RunFolder) -> dict[str, Result]:
    """Measure the base model by ``evaluate.after``."""

    def load() -> ScoredModel:
        set_seed(recipe.seeds[0])  # the weights of a new encoder, as training has them
        return ScoredModel(inputs.load_encoder(recipe.model.without_autocast), recipe.model.called, None)

    return _results(recipe, inputs, folder, "before-", load)


def measure_after(recipe: Recipe, inputs: Inputs, seed: int, folder: RunFolder) -> SeedResult:
    """Measure the model of a seed by ``evaluate.after``; what already exists is not measured again."""
    name = str(folder.model)

    def load() -> ScoredModel:
        model = load_model(name, trust_remote_code=recipe.model.trust_remote_code)
        return ScoredModel(model, name, model_revision(name))

    return SeedResult(seed, folder, _results(recipe, inputs, folder, "", load))


def _results(
    recipe: Recipe, inputs: Inputs, folder: RunFolder, prefix: str, load: Callable[[], ScoredModel]
) -> dict[str, Result]:
    """Return the results of ``evaluate.after``; the first process computes those that are missing or broken."""
    files = {name: folder.result(prefix + name) for name in inputs.after}

    def compute() -> None:
        wanted = [name for name, file in files.items() if not is_measured(file)]
        model = load() if wanted else None
        for name in wanted:
            assert model is not None
            logger.info("measuring %s: %s", model.name, name)
            effort = Effort(show_progress=bars_are_shown())
            measured = measure_at(inputs.after[name], model, effort, recipe.evaluate.dims)
            write_result(measured, files[name])

    in_first_process(compute)
    return {name: read_result(file) for name, file in files.items()}


def is_measured(file: Path) -> bool:
    """Whether a result is in a file; one that is broken is measured again."""
    if not file.exists():
        return False
    try:
        read_result(file)
    except InputError as error:
        logger.warning("%s; it is measured again", error)
        return False
    return True
