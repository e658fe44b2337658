"""Encoders of images: new ones, the size of what they read, and pixels as they read them.

On disk they are a plain model of transformers with a ``preprocessor_config.json``, which sentence-transformers makes an
encoder of; ``AutoModel`` and ``SentenceTransformer`` both load the folder.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmicl_text.encoders.section import ModelSection
from fmicl_text.errors import InputError
from fmicl_text.text import did_you_mean

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

EXTRA = 'pip install "fmicl-text[vision]"'
"""The command that installs what training on images needs."""
_POOLING = {"resnet": "mean", "vit": "cls"}
_MEAN = _STD = (0.5, 0.5, 0.5)


def new_encoder(section: ModelSection) -> SentenceTransformer:
    """Return an encoder of images with random weights, drawn by torch's global generator.

    Args:
        section: The ``model:`` section of a recipe, with ``scratch``.

    Raises:
        InputError: If the configuration has no such fields, or makes no model.
    """
    import torch
    from safetensors.torch import save_file
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import AutoConfig, AutoModel

    assert section.scratch is not None and section.image_size is not None  # the section requires both together
    kind, options = section.scratch.type, section.scratch.options
    known = AutoConfig.for_model(kind).to_dict()
    problems = [
        f"model.scratch.{name}: is no field of the configuration of {kind}{did_you_mean(name, known)}"
        for name in options
        if name not in known
    ]
    if kind == "vit" and options.get("image_size", section.image_size) != section.image_size:
        problems.append("model.scratch.image_size: differs from model.image_size; leave it out")
    if problems:
        raise InputError(problems)
    if kind == "vit":
        options = options | {"image_size": section.image_size}
    try:
        config = AutoConfig.for_model(kind, **options)
        if problems := _problems(config, section.image_size):
            raise InputError(problems)
        encoder = AutoModel.from_config(config)
        with torch.no_grad():  # transformers checks few of the fields
            encoder.eval()(torch.zeros(1, 3, section.image_size, section.image_size))
    except InputError:
        raise
    except Exception as error:  # of the checks of a configuration and of the layers, each raises its own
        raise InputError(_why_none(error, options)) from None
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)  # a model's own method writes in the first of several processes alone
        save_file(encoder.state_dict(), Path(folder) / "model.safetensors", {"format": "pt"})
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(_processor(section.image_size)))
        transformer = Transformer(folder)
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode=section.pooling or _POOLING[kind])
    model = SentenceTransformer(modules=[transformer, pooling])
    show_images_on_card(model)
    model.model_card_data.local_files_only = True  # otherwise each save asks the Hub for a model of this name
    return model


def _problems(config: Any, size: int) -> list[str]:
    """Return what transformers would build without a word: other dimensions than asked for, pixels left unread."""
    problems = []
    if config.model_type == "resnet" and len(config.depths) != len(config.hidden_sizes):
        problems.append(
            f"model.scratch.depths: must have a number for each of the {len(config.hidden_sizes)} hidden_sizes, got "
            f"{config.depths}"
        )
    if config.model_type == "vit":
        if config.hidden_size % config.num_attention_heads:
            problems.append(
                f"model.scratch.num_attention_heads: must divide hidden_size ({config.hidden_size}), got "
                f"{config.num_attention_heads}"
            )
        if isinstance(patch := config.patch_size, int) and patch > 0 and size % patch:
            below = size // patch * patch
            nearest = " and ".join(str(fits) for fits in (below, below + patch) if fits)
            problems.append(
                f"model.image_size: must be a multiple of scratch.patch_size ({patch}), or the pixels at the edge are "
                f"never read; got {size}, and nearest is {nearest}"
            )
    return problems


def _why_none(error: Exception, options: dict[str, Any]) -> str:
    """Say why a configuration makes no model, in the library's words, and of which field if they have its name."""
    why = " ".join(str(error.__cause__ or error).split())
    if isinstance(error, KeyError):  # which has nothing but the value
        why = f"no value {why} is known"
    about = (name for name, value in options.items() if name in why or (isinstance(value, str) and f"'{value}'" in why))
    key = next(about, None)
    return f"model.scratch{f'.{key}' if key else ''}: makes no model: {why}"


def show_images_on_card(model: SentenceTransformer) -> None:
    """Have the card that sentence-transformers writes beside an encoder show how images are encoded."""
    from PIL import Image

    model.model_card_data.usage_examples = [Image.new("RGB", (32, 32), colour) for colour in ("white", "grey")]


def random_twin(model: SentenceTransformer, seed: int) -> SentenceTransformer:
    """Return an encoder like another one, with random weights in place of what it has learned."""
    import copy

    import torch
    from transformers import AutoModel

    twin = copy.deepcopy(model)
    inner: Any = twin[0]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = AutoModel.from_config(inner.model.config)
    inner.model = fresh.to(inner.model.device, inner.model.dtype)  # an adapter is not part of it
    return twin.eval()


def reads_images(model: SentenceTransformer) -> bool:
    """Whether an encoder reads single images."""
    return hasattr(getattr(model[0], "processor", None), "image_mean")


def require_texts(model: SentenceTransformer) -> None:
    """Raise an InputError if an encoder reads images, and so no texts."""
    if reads_images(model):
        raise InputError(
            "the encoder reads images, and this evaluation is of texts: of images there are images, knn, linear and "
            "geometry with its option images"
        )


def image_size(model: SentenceTransformer) -> int:
    """Return width and height of the images that an encoder reads, in pixels.

    Raises:
        InputError: If it reads no images, or such that are not square.
    """
    if not reads_images(model):
        raise InputError("the encoder does not read images: model.image_size and data.views: augment are for those")
    processor = model.processor
    size = processor.crop_size if getattr(processor, "do_center_crop", False) else processor.size
    sides = {size[name] for name in ("height", "width", "shortest_edge") if size and name in size and size[name]}
    if len(sides) != 1:
        raise InputError(f"the encoder reads images of no single size, but {dict(size or {})}; set model.image_size")
    return int(sides.pop())


def set_image_size(model: SentenceTransformer, size: int) -> None:
    """Have an encoder read images of a size, as :func:`fmicl_text.data.pixels.pixels` makes them.

    Raises:
        InputError: If it reads no images, or can only read those of another size.
    """
    from transformers import AutoImageProcessor

    if not reads_images(model):
        raise InputError("model.image_size: the encoder does not read images; drop it, or take another base")
    inner: Any = model[0]
    fixed = getattr(inner.model.config, "image_size", size)
    if fixed != size:
        raise InputError(f"model.image_size: the encoder reads images of {fixed} pixels, got {size}")
    old = model.processor
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "preprocessor_config.json").write_text(
            json.dumps(_processor(size, list(old.image_mean), list(old.image_std)))
        )
        inner.processor = AutoImageProcessor.from_pretrained(folder)


def as_features(pixels: Tensor, model: SentenceTransformer) -> dict[str, Any]:
    """Return what an encoder reads of images.

    Args:
        pixels: uint8 ``(B, S, S, 3)``.
        model: The encoder.
    """
    values = pixels.to(model.device).permute(0, 3, 1, 2).float() / 255  # (B, 3, S, S), channels last in memory
    return {"pixel_values": normalised(values, model), "modality": "image"}


def normalised(values: Tensor, model: SentenceTransformer) -> Tensor:
    """Take off an encoder's mean and divide by its standard deviation, channel by channel.

    Args:
        values: From 0 to 1, ``(B, 3, S, S)``.
        model: The encoder.
    """
    processor = model.processor
    mean, std = (values.new_tensor(list(of)).view(3, 1, 1) for of in (processor.image_mean, processor.image_std))
    return (values - mean) / std


def _processor(size: int, mean: Any = _MEAN, std: Any = _STD) -> dict[str, Any]:
    """Return a processor's configuration: the middle square, as :func:`fmicl_text.data.pixels.pixels` cuts it."""
    return {
        "image_processor_type": "CLIPImageProcessor",  # transformers' plain one that scales the shorter side
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }
