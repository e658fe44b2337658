"""The ``model:`` section of a recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, PositiveInt

from fmicl_text.losses.mlp import Mlp
from fmicl_text.section import Conflict, Section, check_revision

STATIC = "static:"
"""Begins the name of a new static embedding; the rest is a model with a tokenizer."""


class ScratchSection(Section):
    """An encoder of images with random weights: a type of transformers, and the fields of its configuration."""

    model_config = ConfigDict(extra="allow")

    type: Literal["resnet", "vit"]
    """ResNetConfig or ViTConfig has the other keys, such as hidden_sizes and depths, or hidden_size."""

    @property
    def options(self) -> dict[str, Any]:
        """The fields of the configuration that are given."""
        return dict(self.model_extra or {})

    def conflicts(self) -> Iterator[Conflict]:
        """Refuse NaN and infinity, which a resolved recipe could not have."""
        for key, value in self.options.items():
            if not math.isfinite(sum(abs(number) for number in _numbers(value))):
                yield (key,), f"must be finite, got {value}"


def _numbers(value: Any) -> Iterator[float]:
    """Yield the numbers with a point in a value of a recipe."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _numbers(inner)


class PromptsSection(Section):
    """What is put before a text by its role; saved with the encoder, and used wherever it encodes."""

    query: str = ""
    """Before an anchor, a query of retrieval, and a text without a role, as in STS; with its space at the end."""
    document: str = ""
    """Before a positive, a negative, and a document of retrieval."""


class LoraSection(Section):
    """Low-rank adapters that train in place of the encoder's weights (LoRA), by the names of peft's LoraConfig."""

    r: PositiveInt = 8
    """Rank of the update of a weight."""
    lora_alpha: PositiveInt = 8
    """The update is scaled by lora_alpha / r."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on what an adapter reads."""
    target_modules: list[str] | str = "all-linear"
    """Which layers have an adapter: the ends of their names, such as [query, value], or a regular expression."""
    exclude_modules: list[str] | str | None = None
    """Which have none all the same; default: BERT's pooler, of which no sentence vector is made."""
    use_rslora: bool = False
    """Scale by lora_alpha / sqrt(r) (Kalajdzievski, arXiv 2312.03732)."""
    use_dora: bool = False
    """Train the lengths of a weight's columns apart from their directions (DoRA, arXiv 2402.09353)."""
    merge: bool = False
    """Add the adapter to the weights at the end: the finished model is a whole encoder, which needs no peft."""

    @property
    def described(self) -> str:
        """The adapter in words, by its settings."""
        settings = self.model_dump(exclude={"merge"}, exclude_none=True)
        listed = ", ".join(f"{key}: {value}" for key, value in settings.items() if value is not False)
        return f"LoRA ({listed})" + (", merged into the weights" if self.merge else "")


class ModelSection(Section):
    """The encoder to start from."""

    base: str | None = None
    """Hub id, local folder, or sample:minilm; static:TOKENIZER is a new static embedding over a model's tokenizer."""
    embedding_dim: PositiveInt | None = None
    """Dimensions of a new static embedding; default 512."""
    scratch: ScratchSection | None = None
    """In place of base: an encoder of images with random weights."""
    image_size: PositiveInt | None = None
    """Width and height of images, in pixels; default of a base: what its files say."""
    revision: Annotated[str, AfterValidator(check_revision)] | None = None
    """Revision of the model on the Hub."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model: only if you have read it."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the encoder's weights in training, whatever its files have; adapters are in float32 all the same."""
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3"] | None = None
    """How attention is computed; default: the best that transformers finds for the model without more packages."""
    pooling: Literal["cls", "mean", "max", "lasttoken"] | None = None
    """How token vectors become a sentence vector; default: what the model's files say, mean if they say nothing."""
    prompts: PromptsSection | None = None
    """What is put before queries and documents; default: what the model's files say, often nothing."""
    include_prompt: bool | None = None
    """Whether pooling includes the tokens of prompts; default: what the model's files say, true if they say nothing."""
    max_seq_length: PositiveInt | None = None
    """Tokens of a sentence that are read; default: what the model's files say."""
    head: Literal["none", "mlp", "mlp-train-only"] = "none"
    """Dense layer and tanh on the sentence vector: kept in the model, or dropped after training as in SimCSE."""
    projector: Mlp | None = None
    """Layers between encoder and loss that are dropped after training, as SimCLR and MoCo have them."""
    predictor: Mlp | None = None
    """Layers after these, of the encoder that trains and not of its moving average, as MoCo v3 has them."""
    lora: LoraSection | None = None
    """Train low-rank adapters in place of the weights."""
    freeze: list[str] | None = None
    """Parts of the encoder that do not train, by the names of their modules, such as embeddings.patch_embeddings."""

    @property
    def is_flash_in_float32(self) -> bool:
        """Whether attention is flash attention, which computes in half precision alone, of weights in float32."""
        return str(self.attn_implementation).startswith("flash") and self.dtype == "float32"

    @property
    def without_autocast(self) -> ModelSection:
        """The encoder outside training, where nothing makes half precision of float32."""
        return self.model_copy(update={"attn_implementation": None}) if self.is_flash_in_float32 else self

    @property
    def called(self) -> str:
        """What the encoder is called in messages and results."""
        return self.base or f"a new {self.scratch.type if self.scratch else 'encoder'}"

    @property
    def tokenizer(self) -> str | None:
        """The model whose tokenizer a new static embedding takes, if that is what the base is."""
        return None if self.base is None or not self.base.startswith(STATIC) else self.base.removeprefix(STATIC)

    @property
    def is_new(self) -> bool:
        """Whether the encoder begins with random weights."""
        return self.base is None or self.tokenizer is not None

    def conflicts(self) -> Iterator[Conflict]:
        """There is one encoder to start from, and one head for training."""
        if self.base is None and self.scratch is None:
            yield ("base",), "is missing"
        if self.base is not None and self.scratch is not None:
            yield ("scratch",), "takes the place of base; give one of the two"
        if self.scratch is not None:
            if self.image_size is None:
                yield ("image_size",), "is needed with scratch: width and height of the images, in pixels"
            names = ("revision", "max_seq_length", "prompts", "include_prompt", "lora", "attn_implementation")
            for name in names:
                if getattr(self, name) is not None:
                    yield (name,), "is for a base; drop it, or scratch"
        if self.tokenizer is not None:
            for name in ("pooling", "max_seq_length", "lora", "attn_implementation", "image_size", "freeze"):
                if getattr(self, name) is not None:
                    yield (name,), "is for a transformer, not for a static embedding; leave it out"
        elif self.embedding_dim is not None:
            yield ("embedding_dim",), "is for base: static:TOKENIZER; other encoders have their own dimensions"
        if self.dtype != "float32" and self.is_new:
            yield ("dtype",), "is for a base that is a transformer; leave it out"
        if self.projector is not None and self.head == "mlp-train-only":
            yield ("projector",), "takes the place of head: mlp-train-only; give one of the two"
