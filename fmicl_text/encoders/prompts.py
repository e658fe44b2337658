"""What is put before a text by its role: the one place is the encoder's own ``prompts``, which are saved with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmicl_text.encoders.revisions import models_cache
from fmicl_text.encoders.section import PromptsSection
from fmicl_text.errors import InputError
from fmicl_text.files import read_json

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

_DOCUMENT = ("document", "passage", "corpus")
"""Names of the prompt of ``encode_document``; the first that an encoder has counts."""


@dataclass(frozen=True)
class Prompts:
    """What an encoder puts before a text.

    Attributes:
        query: By ``encode_query``.
        document: By ``encode_document``.
        text: By ``encode``, where a text has no role, as in tasks that compare two texts of a kind.
    """

    query: str
    document: str
    text: str

    @classmethod
    def of(cls, model: SentenceTransformer) -> Prompts:
        """Return the prompts of an encoder; an empty one for nothing."""
        known = model.prompts
        text = known.get(model.default_prompt_name or "", "")
        document = next((known[name] for name in _DOCUMENT if name in known), text)
        return cls(known.get("query", text), document, text)

    def given(self) -> dict[str, str]:
        """Return those that are not empty, by name."""
        return {name: prompt for name, prompt in asdict(self).items() if prompt}

    def by_column(self, columns: Sequence[str]) -> dict[str, str]:
        """Return column -> what is put before its texts in training, where it is anything.

        An anchor is a query, what is searched for it a document; a text that is its own positive has no role.

        Args:
            columns: The columns of texts, the anchor first.
        """
        anchor, *others = columns
        by_column = {anchor: self.query if others else self.text} | dict.fromkeys(others, self.document)
        return {column: prompt for column, prompt in by_column.items() if prompt}


def set_prompts(model: SentenceTransformer, prompts: PromptsSection) -> None:
    """Give an encoder its prompts; a text without a role gets that of a query, as E5 has it (arXiv 2212.03533)."""
    model.prompts |= {"query": prompts.query, "document": prompts.document}
    model.default_prompt_name = "query"


def prompts_in_files(place: str, revision: str | None) -> tuple[dict[str, Any], bool]:
    """Return the prompts of an encoder without loading it, and whether pooling includes them.

    Args:
        place: A folder or a Hub id.
        revision: Revision on the Hub.

    Returns:
        The arguments ``prompts`` and ``default_prompt_name`` of ``SentenceTransformer``, and what its ``Pooling`` has.
    """
    from sentence_transformers.util import load_file_path

    def read(name: str, missing: Any) -> Any:
        file = load_file_path(place, name, revision=revision, cache_folder=models_cache())
        return missing if file is None else read_json(Path(file))

    said = read("config_sentence_transformers.json", {})
    poolings = [module["path"] for module in read("modules.json", []) if module["type"].endswith(".Pooling")]
    included = all(read(f"{path}/config.json", {}).get("include_prompt", True) for path in poolings)
    return {name: said[name] for name in ("prompts", "default_prompt_name") if said.get(name)}, included


def pool_prompts(model: SentenceTransformer, include: bool) -> None:
    """Say whether the tokens of prompts are part of the mean over a text's tokens.

    Raises:
        InputError: If the encoder has no prompts, or no pooling.
    """
    if not any(model.prompts.values()):
        raise InputError("model.include_prompt: the encoder has no prompts; set model.prompts")
    if not _poolings(model):
        raise InputError("model.include_prompt: the encoder has no pooling of tokens that could leave any out")
    model.set_pooling_include_prompt(include)


def pools_prompts(model: SentenceTransformer) -> bool:
    """Return whether the tokens of prompts are pooled, as they are where nothing else is said."""
    return all(pooling.include_prompt for pooling in _poolings(model))


def _poolings(model: SentenceTransformer) -> list[Pooling]:
    from sentence_transformers.sentence_transformer.modules import Pooling

    return [module for module in model if isinstance(module, Pooling)]
