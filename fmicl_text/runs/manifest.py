"""The manifest of a run, checked where it is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictInt,
    ValidationError,
    field_validator,
)

from fmicl_text.errors import InputError
from fmicl_text.files import read_json

AUTOCAST = "autocast"
"""Ends the precision of a run with autocast; that of one without is the type of its weights."""
STSB_DEV = "stsb-dev_spearman_cosine"
"""The criterion of runs of version 0.1.0, whose manifest does not name it."""


class Best(BaseModel):
    """The best checkpoint on the development set: its step, and its score by name, such as ``stsb-dev spearman``."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, float] = Field(init=False)

    step: StrictInt

    @property
    def written(self) -> str:
        """Step and score in words."""
        scores = [f"{value:.2f} ({name})" for name, value in (self.model_extra or {}).items()]
        return " ".join([*scores, f"at step {self.step:,}"])


class Table(BaseModel):
    """What data is known by; see :mod:`fmicl_text.training.provenance`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    rows: StrictInt | None = None
    bytes: StrictInt | None = None
    revision: str | None = None


class Base(BaseModel):
    """What the model that a run starts from is known by: its commit on the Hub, or the SHA-256 of its files."""

    model_config = ConfigDict(frozen=True, extra="allow")

    revision: str | None = None
    sha256: dict[str, str] = {}


class Manifest(BaseModel):
    """The manifest of one seed's run; other keys are kept in ``model_extra``."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    seed: StrictInt
    state: str = "unknown"
    """``running``, ``done``, ``interrupted`` or ``failed``."""
    steps: StrictInt | None = None
    """Steps of the optimizer until the end of training."""
    weights_step: StrictInt | None = None
    """The step whose weights are in ``model/``; older manifests do not say."""
    best: Best | None = None
    """``None`` if nothing was measured during training."""
    criterion: str = STSB_DEV
    """What the trainer's log calls the score that is measured during training, after ``eval_``."""
    measured: dict[str, FiniteFloat] = {}
    """Settings of the loss that were left to the data, as they were measured."""
    started: AwareDatetime | None = None
    ended: AwareDatetime | None = None
    device: str | None = None
    precision: str | None = None
    versions: dict[str, str] = {}
    data: dict[str, Table] = {}
    """Of training and held-out rows, and of what evaluations measure on, during training and after."""
    base_model: Base | None = None
    model_files: dict[str, dict[str, Any]] | None = None
    """The fingerprints of the files in ``model/``; manifests of version 0.1.0 have none."""

    @field_validator("criterion", mode="before")
    @classmethod
    def _default_for_null(cls, criterion: Any) -> Any:
        return STSB_DEV if criterion is None else criterion

    @property
    def minutes(self) -> float | None:
        """How long the run took; ``None`` if it has not ended."""
        if self.started is None or self.ended is None:
            return None
        return (self.ended - self.started).total_seconds() / 60

    def in_effect(self, train: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of the recipe's ``train`` section was in effect.

        ``max_steps`` goes before ``num_train_epochs``, ``bf16`` is dropped on a CPU that does not have it, and what
        ``precision: auto`` was is :attr:`precision`.
        """
        steps = train.get("max_steps")
        without = {"num_train_epochs" if isinstance(steps, int) and steps > 0 else "max_steps", "precision"}
        if self.precision is not None and not self.precision.endswith(AUTOCAST):
            without |= {"bf16", "fp16"}
        return {key: value for key, value in train.items() if key not in without}

    def weights(self, train: Mapping[str, Any]) -> str | None:
        """Say which step's weights ``model/`` has; ``None`` if the manifest does not tell.

        Args:
            train: The recipe's ``train`` section: runs whose manifest does not have ``weights_step`` ended with the
                best checkpoint, unless ``load_best_model_at_end`` was false there.
        """
        step = self.weights_step
        if step is None:
            keeps_best = self.best is not None and train.get("load_best_model_at_end", True)
            step = self.best.step if self.best is not None and keeps_best else self.steps
        if step is None:
            return None
        last = " (the last)" if step == self.steps else ""
        if self.best is None:
            return f"step {step:,}{last}"
        if step == self.best.step:
            return f"step {step:,}{last}, the best on the development set"
        return f"step {step:,}{last}; the best on the development set was step {self.best.step:,}"


def read_manifest(file: Path) -> tuple[dict[str, Any], Manifest]:
    """Read a manifest as it is written, and checked.

    Raises:
        InputError: The file is damaged or is no manifest; with file and key.
    """
    document = read_json(file)
    if not isinstance(document, dict):
        raise InputError(f"{file}: not the manifest of a run: it must be an object, got {type(document).__name__}")
    try:
        return document, Manifest.model_validate(document)
    except ValidationError as error:
        where = "; ".join(": ".join(filter(None, (".".join(map(str, e["loc"])), e["msg"]))) for e in error.errors()[:3])
        raise InputError(f"{file}: not the manifest of a run: {where}") from None
