"""The encoder that is evaluated, its name in results, and the state of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fmicl_text.encoders import revisions
from fmicl_text.encoders.prompts import Prompts
from fmicl_text.encoders.text import load_model, locate
from fmicl_text.encoders.tokens import longest_text
from fmicl_text.versions import versions

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class ScoredModel(NamedTuple):
    """An encoder, its name in results and messages, and its revision if it was loaded by name."""

    encoder: SentenceTransformer
    name: str
    revision: str | None

    def described(self, precision: str | None = None) -> dict[str, Any]:
        """Return the fields of a :class:`~fmicl_text.evaluation.results.Result` that say what was scored, by what.

        Args:
            precision: Of the products of matrices, if not the type of the model's weights.
        """
        prompts = Prompts.of(self.encoder).given()
        return {
            "model": self.name,
            "revision": self.revision,
            "facts": {
                "max_seq_length": longest_text(self.encoder),
                "precision": precision or str(self.encoder.dtype).removeprefix("torch."),
                **({"prompts": prompts} if prompts else {}),
            },
            "versions": versions(),
        }


def scored_model(
    model: SentenceTransformer | str, name: str | None = None, trust_remote_code: bool = False
) -> ScoredModel:
    """Load an encoder given by name; the revision of one that is in memory is not known.

    Args:
        model: An encoder, or what :func:`fmicl_text.encoders.text.load_model` takes.
        name: Its name in results, if not that by which it is loaded.
        trust_remote_code: Run code that comes with the model.

    Raises:
        InputError: There is no such model, or it does not load.
    """
    if not isinstance(model, str):
        return ScoredModel(model, name or "SentenceTransformer", None)
    return ScoredModel(load_model(model, trust_remote_code=trust_remote_code), name or model, model_revision(model))


def model_revision(name: str) -> str:
    """Return the :func:`fmicl_text.encoders.revisions.model_revision` of a model by its name; it has been loaded."""
    return revisions.model_revision(locate(name))
