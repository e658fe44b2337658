"""Base models beside runs: their scores from before a run's training, or from the same evaluations run now."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fmicl_text.errors import InputError
from fmicl_text.evaluation.items import write_result
from fmicl_text.evaluation.kind import Effort
from fmicl_text.evaluation.results import read_result
from fmicl_text.evaluation.scored_model import scored_model
from fmicl_text.recipe.file import load_recipe
from fmicl_text.recipe.schema import Recipe
from fmicl_text.report.results import read_results
from fmicl_text.report.runs import Run, untrained
from fmicl_text.runs.folder import RunFolder
from fmicl_text.runs.trust import trusts_code


def read_base(name: str, runs: Sequence[Run], folder: Path, show_progress: bool = False) -> Run:
    """Return a model with the scores of everything that the first run measured after training.

    They are those from before training of the first of ``runs`` that started from this model, if it has all of them.
    Otherwise the evaluations of the first run's recipe are run on the model, and their results are kept in
    ``folder/bases``; what already exists is not measured again.

    Args:
        name: A Hub id, a folder, or ``sample:minilm``.
        runs: The runs it will stand beside.
        folder: The folder of the report.
        show_progress: Draw progress bars on standard error.

    Raises:
        InputError: The first run has no recipe or nothing in ``evaluate.after``; there is no such model; the data of an
            evaluation is missing.
    """
    wanted = runs[0].results().keys()
    for run in runs:
        if run.base == name and wanted <= run.before.by_title.keys():
            return untrained(name, name, run.path, run.before)
    place = RunFolder(folder / "bases" / re.sub(r"[^\w.-]+", "-", name).strip("-."))
    _measure(name, _recipe(runs[0]), place, show_progress)
    return untrained(name, name, place.path, read_results(place.path, before=False))


def _recipe(run: Run) -> Recipe:
    root = run.path.parent if run.path.name.startswith("seed-") else run.path
    file = next((f for f in (run.path / "recipe.yaml", root / "recipe.yaml") if f.is_file()), None)
    if file is None:
        raise InputError(f"--base: {run.path} has no recipe.yaml, which says how to measure a base model")
    recipe = load_recipe(file)
    if not recipe.evaluate.after:
        raise InputError(f"--base: {file} has nothing in evaluate.after, so there is nothing to measure")
    return recipe


def _measure(name: str, recipe: Recipe, place: RunFolder, show_progress: bool) -> None:
    """Run the evaluations of a recipe on a model, except those whose results are there already."""
    missing = [asked for asked in recipe.evaluate.after if not _is_there(place.result(asked.result_name), name)]
    if not missing:
        return
    from fmicl_text.training.inputs import given_of, load_heldouts  # which import torch

    given = given_of(recipe, load_heldouts(recipe))
    loaded = [(asked, asked.load(given)) for asked in missing]
    of_run = name == recipe.model.base and recipe.model.trust_remote_code
    model = scored_model(name, trust_remote_code=of_run or trusts_code(name))
    for asked, evaluation in loaded:
        write_result(evaluation.measure(model, Effort(show_progress=show_progress)), place.result(asked.result_name))


def _is_there(file: Path, name: str) -> bool:
    return file.is_file() and read_result(file).model == name
