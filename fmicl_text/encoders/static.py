"""New static embeddings: a vector for each token of a tokenizer, whose mean is a text's; random at first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmicl_text.encoders.revisions import models_cache
from fmicl_text.encoders.section import ModelSection
from fmicl_text.errors import InputError
from fmicl_text.hub_errors import hub_problem

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DIMENSIONS = 512


def new_static(section: ModelSection, place: str) -> SentenceTransformer:
    """Return a static embedding with random weights, drawn by torch's global generator.

    Args:
        section: The ``model:`` section of a recipe, with ``base: static:TOKENIZER``.
        place: The folder or Hub id of the tokenizer.

    Raises:
        InputError: If there is no tokenizer, or it is none of the ``tokenizers`` library.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            place,
            revision=section.revision,
            trust_remote_code=section.trust_remote_code,
            cache_dir=models_cache(),
        )
    except Exception as error:  # transformers, tokenizers and the Hub client each have their own
        said = hub_problem(error, place, "model", section.revision) or str(error).partition("\n")[0]
        raise InputError(f"model.base: no tokenizer {section.tokenizer!r} here or on the Hub: {said}") from error
    if not tokenizer.is_fast:
        raise InputError(f"model.base: the tokenizer {section.tokenizer!r} is none of the tokenizers library")
    embedding = StaticEmbedding(tokenizer, embedding_dim=section.embedding_dim or DIMENSIONS)
    model = SentenceTransformer(modules=[embedding])
    model.model_card_data.local_files_only = True  # otherwise each save asks the Hub for a model of this name
    return model
