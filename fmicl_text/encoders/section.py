"""The ``model:`` section of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, PositiveInt

from fmicl_text.losses.mlp import Mlp
from fmicl_text.section import Conflict, Section, check_revision


class ScratchSection(Section):
    """An encoder of images with random weights: a type of transformers, and the fields of its configuration."""

    model_config = ConfigDict(extra="allow")

    type: Literal["resnet", "vit"]
    """ResNetConfig or ViTConfig has the other keys, such as hidden_sizes and depths, or hidden_size."""

    @property
    def options(self) -> dict[str, Any]:
        """The fields of the configuration that are given."""
        return dict(self.model_extra or {})


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
    exclude_modules: list[str] | str | None = r"pooler\..*"
    """Which have none all the same; default: BERT's pooler, of which no sentence vector is made."""
    use_rslora: bool = False
    """Scale by lora_alpha / sqrt(r) (Kalajdzievski, arXiv 2312.03732)."""
    use_dora: bool = False
    """Train the lengths of a weight's columns apart from their directions (DoRA, arXiv 2402.09353)."""
    merge: bool = False
    """Add the adapter to the weights at the end: the finished model is a whole encoder, which needs no peft."""


class ModelSection(Section):
    """The encoder to start from."""

    base: str | None = None
    """Hub id, local folder, or sample:minilm."""
    scratch: ScratchSection | None = None
    """In place of base: an encoder of images with random weights."""
    image_size: PositiveInt | None = None
    """Width and height of images, in pixels; default of a base: what its files say."""
    revision: Annotated[str, AfterValidator(check_revision)] | None = None
    """Revision of the model on the Hub."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model: only if you have read it."""
    pooling: Literal["cls", "mean", "max"] | None = None
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
    def called(self) -> str:
        """What the encoder is called in messages and results."""
        return self.base or f"a new {self.scratch.type if self.scratch else 'encoder'}"

    def conflicts(self) -> Iterator[Conflict]:
        """There is one encoder to start from, and one head for training."""
        if self.base is None and self.scratch is None:
            yield ("base",), "is missing"
        if self.base is not None and self.scratch is not None:
            yield ("scratch",), "takes the place of base; give one of the two"
        if self.scratch is not None:
            if self.image_size is None:
                yield ("image_size",), "is needed with scratch: width and height of the images, in pixels"
            for name in ("revision", "max_seq_length", "prompts", "include_prompt", "lora"):
                if getattr(self, name) is not None:
                    yield (name,), "is for a base; drop it, or scratch"
        if self.projector is not None and self.head == "mlp-train-only":
            yield ("projector",), "takes the place of head: mlp-train-only; give one of the two"
