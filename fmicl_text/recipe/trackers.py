"""Experiment trackers: transformers reports to them; here their names and installation are checked beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fmicl_text.errors import InputError
from fmicl_text.text import did_you_mean

if TYPE_CHECKING:
    from transformers import Trainer

_PACKAGES = {"azure_ml": "azureml-mlflow", "flyte": "flytekit"}
"""Tracker -> its package, where that is not called the same."""


def unknown_tracker(report_to: str | list[str] | None) -> str | None:
    """Return what is wrong with the first unknown name, or None."""
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    known = ["none", "all", *sorted(INTEGRATION_TO_CALLBACK)]
    for name in [report_to] if isinstance(report_to, str) else report_to or []:
        if name not in known:
            return f'no tracker "{name}"{did_you_mean(name, known)}; there are {", ".join(known)}'
    return None


def require_trackers(names: Sequence[str]) -> None:
    """Raise an InputError for each tracker that is not installed, as the trainer would find out when it is built."""
    from transformers.integrations.integration_utils import get_reporting_integration_callbacks

    problems = []
    for name, tracker in zip(names, get_reporting_integration_callbacks(names), strict=True):
        try:
            tracker()
        except (RuntimeError, ImportError):
            package = _PACKAGES.get(name, name.replace("_", "-"))
            problems.append(f"train.report_to: {name} is not installed: pip install {package}")
    if problems:
        raise InputError(problems)


def place_tensorboard(trainer: Trainer, folder: Path) -> None:
    """Have TensorBoard's files written to a folder, unless ``TENSORBOARD_LOGGING_DIR`` says where."""
    from transformers.integrations.integration_utils import TensorBoardCallback

    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(folder)  # the default is among the checkpoints
