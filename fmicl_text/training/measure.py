"""What a run measures of its models, before and after training."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sentence_transformers import SentenceTransformer

from fmicl_text.encoders.text import load_encoder, load_model
from fmicl_text.evaluation.geometry import measure_geometry
from fmicl_text.evaluation.items import Document, write_result
from fmicl_text.evaluation.retrieval import retrieve
from fmicl_text.evaluation.sts import evaluate
from fmicl_text.files import read_json, write_json
from fmicl_text.recipe.schema import Recipe
from fmicl_text.runs.folder import RunFolder
from fmicl_text.training.inputs import Inputs
from fmicl_text.training.processes import in_first_process
from fmicl_text.training.results import SeedResult


def measure_before(recipe: Recipe, inputs: Inputs, folder: RunFolder) -> dict[str, Document]:
    """Measure the base model in the same way."""
    return _results(recipe, inputs, folder, "before-", lambda: load_encoder(recipe.model), recipe.model.base)


def measure_after(recipe: Recipe, inputs: Inputs, seed: int, folder: RunFolder) -> SeedResult:
    """Measure the model of a seed, by ``evaluate.after``; what is there already is not measured again."""
    model = str(folder.model)
    load = partial(load_model, model, trust_remote_code=recipe.model.trust_remote_code)
    after = _results(recipe, inputs, folder, "", load, model)
    return SeedResult(seed, folder, after)


def _results(
    recipe: Recipe,
    inputs: Inputs,
    folder: RunFolder,
    prefix: str,
    load: Callable[[], SentenceTransformer],
    called: str,
) -> dict[str, Document]:
    """Return the results of ``evaluate.after``, computing in the first process those that are not there yet."""
    files = {name: folder.result(prefix + Path(name).stem) for name in recipe.evaluate.after}  # a suite may be a file

    def compute() -> None:
        missing = [name for name, file in files.items() if not file.is_file()]
        model = load() if missing else None
        for name in missing:
            _evaluate(name, model, called, recipe, inputs, files[name])

    in_first_process(compute)
    return {name: read_json(file) for name, file in files.items()}


def _evaluate(name: str, model: SentenceTransformer, called: str, recipe: Recipe, inputs: Inputs, file: Path) -> None:
    """Evaluate one of ``evaluate.after``, and write the documents."""
    show_progress = sys.stderr.isatty()
    if name == "heldout":
        assert inputs.heldout is not None  # the recipe's schema saw to it
        queries, documents = inputs.heldout["anchor"][:], inputs.heldout["positive"][:]
        write_result(retrieve(model, queries, documents, show_progress=show_progress), file)
    elif name == "geometry":
        assert inputs.geometry is not None  # as it is asked for
        write_json(file, measure_geometry(model, inputs.geometry, 128, show_progress, called).document())
    else:
        write_result(evaluate(model, name, recipe.evaluate.data, show_progress=show_progress, name=called), file)
