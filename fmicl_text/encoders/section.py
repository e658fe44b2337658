"""The ``model:`` section of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, PositiveInt

from fmicl_text.section import Section, check_revision


class ModelSection(Section):
    """The encoder to start from."""

    base: str
    """Hub id, local folder, or sample:minilm."""
    revision: Annotated[str, AfterValidator(check_revision)] | None = None
    """Revision of the model on the Hub."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model: only if you have read it."""
    pooling: Literal["cls", "mean", "max"] | None = None
    """How token vectors become a sentence vector; default: what the model's files say, mean if they say nothing."""
    max_seq_length: PositiveInt | None = None
    """Tokens of a sentence that are read; default: what the model's files say."""
    head: Literal["none", "mlp", "mlp-train-only"] = "none"
    """Dense layer and tanh on the sentence vector: kept in the model, or dropped after training as in SimCSE."""
