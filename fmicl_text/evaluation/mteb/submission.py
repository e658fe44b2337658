"""Results for mteb's results repository: which it takes, and how it has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mteb
from mteb.models import SentenceTransformerEncoderWrapper

from fmicl_text.errors import InputError
from fmicl_text.evaluation.mteb.model import LOCAL
from fmicl_text.evaluation.mteb.registered import loaded_otherwise
from fmicl_text.evaluation.mteb.result import MtebResult
from fmicl_text.evaluation.mteb.selection import Selection


def check_submittable(models: Sequence[SentenceTransformerEncoderWrapper], selection: Selection) -> None:
    """Raise an InputError if mteb's results repository cannot take results of these models and tasks."""
    problems = []
    for model in models:
        name = model.mteb_model_meta.name
        if name.startswith(f"{LOCAL}/"):
            problems.append(
                f"{name} is not on the Hub: publish the model, and evaluate it by its id there, to submit results"
            )
        elif otherwise := loaded_otherwise(name, model.model.prompts):
            problems.append(
                f"{name}: mteb evaluates it {otherwise}, and not by its files alone, as here, so that its leaderboard "
                f"cannot take these scores for this model's; to submit it, have mteb run it: mteb run -m {name} -t TASK"
            )
    if selection.data != "Hub":
        problems.append(
            f"the data is that of {selection.data}; only results on the Hub's data, at its revision, can be submitted"
        )
    if problems:
        raise InputError(problems)


def write_submission(result: MtebResult, folder: Path) -> None:
    """Write results as mteb's results repository has them, for ``mteb submit-results --output-folder FOLDER``.

    As mteb's files are of whole tasks, they have every split and subset of these tasks that has been scored.

    Args:
        result: Of a published model on data of the Hub.
        folder: Gets ``results/OWNER__NAME/REVISION/TASK.json`` and mteb's record of the model and the settings.
    """
    kept, submitted = mteb.ResultCache(), mteb.ResultCache(folder)
    for task in result.results:
        whole = kept.load_task_result(task, result.meta, raise_if_not_found=True)
        submitted.save_to_cache(whole, result.meta, encode_kwargs={"batch_size": result.batch_size})
