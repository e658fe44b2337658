"""LoRA: low-rank updates of an encoder's linear layers that train in place of its weights, by peft."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmicl_text.encoders.revisions import models_cache
from fmicl_text.encoders.section import LoraSection
from fmicl_text.errors import InputError
from fmicl_text.files import read_json
from fmicl_text.text import did_you_mean

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

EXTRA = 'pip install "fmicl-text[peft]"'
"""The command that installs what adapters need."""
ADAPTER_CONFIG = "adapter_config.json"
"""The file by which peft and transformers recognise a folder that holds an adapter in place of a model."""
_NAME = "default"  # of the adapter: peft's, which does not appear in files
_PREFIX = "base_model.model."  # of every key in an adapter's file


def add_lora(model: SentenceTransformer, section: LoraSection, revision: str | None = None) -> None:
    """Freeze the transformer of an encoder and add a LoRA adapter to it, whose matrices A are drawn at random.

    The adapter is in float32, whatever the encoder is in. As its matrices B are zero, embeddings stay the same.

    Args:
        model: The encoder, just loaded.
        section: The settings.
        revision: The base model's revision on the Hub, for the adapter's record.

    Raises:
        InputError: If peft is not installed, the encoder is no single transformer, or is an adapter itself, its files
            are not where an adapter can refer to them, or peft refuses a value.
    """
    try:
        from peft import LoraConfig, TaskType
        from peft.functional import cast_adapter_dtype
    except ImportError:
        raise InputError(f"model.lora: needs peft: {EXTRA}") from None
    inner: Any = getattr(model[0], "model", None)
    if not hasattr(inner, "name_or_path"):
        raise InputError("model.lora: the encoder does not begin with a transformer, which is what LoRA trains")
    if has_adapter(model):
        raise InputError(
            "model.lora: the base is an adapter itself, and a model refers to one base; leave model.lora out to merge "
            "it and train all weights, or merge it beforehand (model.lora.merge, or `fmicl publish --merge-adapter`)"
        )
    base = Path(inner.name_or_path)
    if base.is_dir() and not (base / "config.json").is_file():
        raise InputError(
            f"model.lora: the transformer of {base} lies in a folder within it, to which an adapter cannot refer; save "
            "it anew by SentenceTransformer.save_pretrained, which puts it in place"
        )
    for key in ("target_modules", "exclude_modules"):
        _check_names(inner, key, getattr(section, key))
    given = section.model_dump(exclude={"merge"})
    if section.exclude_modules is None and getattr(inner, "pooler", None) is not None:
        given["exclude_modules"] = r"pooler\..*"
    settings = LoraConfig(task_type=TaskType.FEATURE_EXTRACTION, revision=revision, **given)
    try:
        model.add_adapter(settings, _NAME)
    except (ValueError, TypeError) as error:
        raise InputError(f"model.lora: {' '.join(str(error).split())}") from None
    cast_adapter_dtype(inner, _NAME)
    if base.is_dir():  # the adapter is to be found from another working directory too
        settings.base_model_name_or_path = str(base.resolve())


def _check_names(inner: Any, key: str, names: list[str] | str | None) -> None:
    """Refuse the end of a layer's name that no layer has: peft does so only if there is no layer for all of them."""
    layers = {name.rpartition(".")[2] for name, module in inner.named_modules() if hasattr(module, "in_features")}
    for end in names if isinstance(names, list) else []:
        if not any(f".{name}".endswith(f".{end}") for name, _ in inner.named_modules()):
            raise InputError(
                f'model.lora.{key}: no layer "{end}"{did_you_mean(end, layers)}; there are {", ".join(sorted(layers))}'
            )


def has_adapter(model: SentenceTransformer) -> bool:
    """Whether the transformer of an encoder has an adapter, which is then all that is saved of it."""
    return bool(getattr(model.transformers_model, "peft_config", None))


def base_of(folder: Path) -> str:
    """Return the base model to which a saved adapter refers, a Hub id or a path.

    Raises:
        InputError: If the record of the adapter is damaged.
    """
    match read_json(folder / ADAPTER_CONFIG):
        case {"base_model_name_or_path": str(base)}:
            return base
    raise InputError(f"{folder / ADAPTER_CONFIG}: not the settings of an adapter: it has no base_model_name_or_path")


def load_adapter(model: SentenceTransformer, folder: Path) -> None:
    """Put the weights of a saved adapter, and of the layers after its transformer, into an encoder that has one.

    The base model, to which the folder refers by a path that may lead nowhere by now, is not read again.

    Args:
        model: The encoder.
        folder: Where one like it was saved.

    Raises:
        RuntimeError: If the weights are of another adapter.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    inner: Any = model.transformers_model
    weights = load_file(folder / "adapter_model.safetensors")
    own = {name for name, parameter in inner.named_parameters() if f".{_NAME}" in name}
    outcome = set_peft_model_state_dict(inner, {key.removeprefix(_PREFIX): value for key, value in weights.items()})
    if outcome.unexpected_keys or len(weights) != len(own):
        raise RuntimeError(f"{folder} holds another adapter: {len(weights)} weights, {len(own)} are expected")
    for module, saved in zip(model, read_json(folder / "modules.json"), strict=True):
        if module is not model[0] and module.state_dict():
            module.load_state_dict(type(module).load(str(folder), subfolder=saved["path"]).state_dict())


def merge_adapter(model: SentenceTransformer) -> None:
    """Add the adapter of an encoder to the weights of its base, in place; what is saved afterwards is a whole encoder.

    The base is read again: transformers would save one that an adapter was loaded into by the names of the adapter.

    Raises:
        ValueError: If the sum has weights that are not finite.
    """
    from peft import PeftConfig, PeftModel

    inner: Any = model.transformers_model
    with tempfile.TemporaryDirectory() as folder:
        inner.save_pretrained(folder)
        settings = PeftConfig.from_pretrained(folder)
        base = type(inner).from_pretrained(
            settings.base_model_name_or_path,
            revision=settings.revision,
            use_safetensors=True,
            dtype=inner.dtype,
            cache_dir=models_cache(),
        )
        with warnings.catch_warnings():  # peft asks transformers for a name of which transformers 5.23 warns
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            adapted = PeftModel.from_pretrained(base, folder)
    first: Any = model[0]
    first.model = adapted.merge_and_unload(safe_merge=True).to(inner.device).requires_grad_(True)
