"""Two views of each image of a batch, changed at random on the device: the sibling of dropout views.

What is drawn follows from the seed, the step, the micro-batch and the process alone. So a training that is resumed
draws what it would have drawn, and no two processes, steps or images ever share their numbers; workers that load data
draw none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fmicl_text.data.section import AugmentSection
from fmicl_text.encoders.images import EXTRA, image_size, normalised
from fmicl_text.errors import InputError
from fmicl_text.losses.identities import IDENTITY

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PIXELS = "anchor_pixel_values"
"""Key of a batch: its images, uint8 ``(B, S, S, 3)``."""
_VIEWS = ("anchor", "positive")


class PixelCollator:
    """Makes a batch of rows whose column ``anchor`` has the bytes of square 8-bit RGB images.

    Args:
        size: ``S``, width and height of the images.

    Attributes:
        valid_label_columns: None; sentence-transformers' trainer asks a collator for it.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.valid_label_columns: list[str] = []

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the images, under :data:`PIXELS`."""
        joined = b"".join(row["anchor"] for row in rows)
        images = np.frombuffer(joined, np.uint8).reshape(len(rows), self.size, self.size, 3)
        return {PIXELS: torch.from_numpy(images.copy())}


class AugmentedViews:
    """Makes two views of each image, as an encoder reads them.

    Args:
        section: How.
        model: The encoder.

    Raises:
        InputError: If kornia is not installed, or the encoder reads no images.
    """

    def __init__(self, section: AugmentSection, model: SentenceTransformer) -> None:
        self.model = model
        self.size = image_size(model)
        self._changes = [augmentation(settings, self.size) for settings in (section, section.of_second)]

    def __call__(self, batch: dict[str, Any], *drawn_for: int) -> dict[str, Any]:
        """Return a batch of two columns of views in place of one of images; identities are those of the images.

        Args:
            batch: With :data:`PIXELS`.
            drawn_for: What the random numbers follow from: seed, step, micro-batch, process.
        """
        images = batch[PIXELS].to(self.model.device)
        made: dict[str, Any] = {}
        for name, view in zip(_VIEWS, self.draw(images, *drawn_for), strict=True):
            values = normalised(view, self.model).contiguous(memory_format=torch.channels_last)
            made |= {f"{name}_pixel_values": values, f"{name}_modality": "image"}
            if f"anchor_{IDENTITY}" in batch:
                made[f"{name}_{IDENTITY}"] = batch[f"anchor_{IDENTITY}"]
        return {key: value for key, value in batch.items() if not key.startswith("anchor_")} | made

    @torch.no_grad()
    def draw(self, images: Tensor, *drawn_for: int) -> list[Tensor]:
        """Return both views of images, values from 0 to 1, ``(B, 3, S, S)`` each.

        Args:
            images: uint8 ``(B, S, S, 3)``.
            drawn_for: As above.
        """
        values = images.permute(0, 3, 1, 2).float().contiguous() / 255  # (B, 3, S, S)
        devices = [images.device] if images.device.type == "cuda" else []
        views = []
        with torch.random.fork_rng(devices), torch.autocast(images.device.type, enabled=False):
            for number, change in enumerate(self._changes):
                torch.manual_seed(_seed(*drawn_for, number))
                views.append(change(values).clamp(0, 1))
        return views


def augmentation(section: AugmentSection, size: int) -> Callable[[Tensor], Tensor]:
    """Return what changes images at random, each by numbers of its own: values from 0 to 1, ``(B, 3, S, S)``.

    Raises:
        InputError: If kornia is not installed.
    """
    try:
        import kornia.augmentation as kornia
    except ImportError as error:
        raise InputError(f"data.views: augment needs kornia ({error}): {EXTRA}") from None
    steps: list[nn.Module] = []
    if section.crop is not None:
        steps.append(kornia.RandomResizedCrop((size, size), section.crop, section.aspect, cropping_mode="resample"))
    if section.rotation or section.shift or section.shear or section.scale != (1.0, 1.0):
        shift, shear = (section.shift,) * 2, (-section.shear, section.shear) * 2
        steps.append(kornia.RandomAffine(section.rotation, shift, section.scale, shear, p=1.0))
    if section.flip:
        steps.append(kornia.RandomHorizontalFlip(p=section.flip))
    if any(section.jitter) and section.jitter_probability:
        steps.append(kornia.ColorJitter(*section.jitter, p=section.jitter_probability))
    if section.grey:
        steps.append(kornia.RandomGrayscale(p=section.grey))
    if section.blur:
        width = max(3, size // 10 | 1)  # SimCLR's tenth, an odd number
        steps.append(kornia.RandomGaussianBlur((width, width), (0.1, 2.0), p=section.blur))
    if section.solarize:
        steps.append(kornia.RandomSolarize((0.5, 0.5), (0.0, 0.0), p=section.solarize))
    if section.noise:
        steps.append(kornia.RandomGaussianNoise(0.0, section.noise, p=1.0))
    return nn.Sequential(*steps)


def _seed(*drawn_for: int) -> int:
    digest = hashlib.blake2b(repr(drawn_for).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1  # torch takes 63 bits
