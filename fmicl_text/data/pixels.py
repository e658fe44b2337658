"""One image, as it lies in a file, made into square 8-bit RGB pixels; all that can be wrong with it is one error."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 89_478_485
"""Pixels of an image from which on it counts as a decompression bomb; Pillow's own limit."""
_BACKGROUND = (255, 255, 255)
_TRANSPARENT = ("RGBA", "RGBa", "LA", "La", "PA")
_SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")


class BrokenImage(ValueError):
    """A value is no image that can be trained on; the message says why, as in "is empty"."""


def pixels(content: Any, size: int) -> bytes:
    """Decode an image: the largest centred square, at ``size`` by ``size`` pixels, 8-bit RGB.

    The orientation that a camera has noted is applied. Transparency lies on white, 16-bit grey is divided by 257, and
    of an animation the first frame is taken. The square is scaled bicubically, with antialiasing where it shrinks.

    Args:
        content: The bytes of a file of any format that Pillow reads, or an array of grey values, uint8 ``(H, W)``.
        size: Width and height of the result.

    Returns:
        ``3 * size**2`` bytes, rows of pixels from the top, red, green and blue of each.

    Raises:
        BrokenImage: If it is no image, is cut off, has more than :data:`MOST_PIXELS` pixels, or has numbers of no known
            range.
    """
    from PIL import Image, ImageOps

    try:
        image = Image.fromarray(content) if isinstance(content, np.ndarray) else _opened(content)
        if image.width * image.height > MOST_PIXELS:
            raise BrokenImage(
                f"has {image.width:,} x {image.height:,} pixels; more than {MOST_PIXELS:,} may be a decompression bomb"
            )
        image.load()
        image = _rgb(ImageOps.exif_transpose(image))
        square = image.resize((size, size), Image.Resampling.BICUBIC, box=_middle(image.width, image.height, size))
    except BrokenImage:
        raise
    except Exception as error:  # of Pillow's readers of some fifty formats, each raises its own
        why = str(error).partition("\n")[0] or type(error).__name__
        raise BrokenImage(f"cannot be decoded: {why}") from None
    return square.tobytes()


def _middle(width: int, height: int, size: int) -> tuple[float, float, float, float]:
    """Return what transformers' processors keep of an image: left, top, right, bottom.

    They scale the shorter side to ``size``, the longer one to a whole number of pixels, and then cut off a whole number
    on both sides; so the square is within a pixel of the middle one. In use an encoder is to see what it was trained
    on.
    """
    short = min(width, height)
    box = []
    for side in (width, height):
        scaled = int(size * side / short)
        cut = (scaled - size) // 2
        box.append((cut * side / scaled, (cut + size) * side / scaled))
    (left, right), (top, bottom) = box
    return left, top, right, bottom


def content_of(value: Any, folder: Path | None = None) -> Any:
    """Return the content of a cell of a table: bytes, or what else :func:`pixels` takes.

    Args:
        value: Bytes, an array, the name of a file, or a mapping of ``bytes`` and ``path`` as ``datasets`` has it.
        folder: Where names of files begin; ``None`` for the working directory.

    Raises:
        BrokenImage: If there is nothing, or no such file.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if value is None:
        raise BrokenImage("has no value")
    if isinstance(value, str):
        return _read(value, folder)
    if not isinstance(value, bytes | np.ndarray):
        raise BrokenImage(f"has {value!r:.40}, which is neither an image nor the name of its file")
    if not len(value):
        raise BrokenImage("is empty")
    return value


def _read(name: str, folder: Path | None) -> bytes:
    if not name.strip():
        raise BrokenImage("is empty")
    path = (folder or Path()) / name
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BrokenImage(f"names {name}, and there is no such file") from None
    except (OSError, ValueError) as error:
        raise BrokenImage(f"names {name}, which cannot be read: {error}") from None
    if not content:
        raise BrokenImage(f"names {name}, which is empty")
    return content


def _opened(content: bytes) -> Image:
    """Open a file, and refuse what is none before Pillow reserves memory for it."""
    import warnings

    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():  # of large images, which are refused, and of damaged notes of a camera
        warnings.simplefilter("ignore")
        try:
            return Image.open(io.BytesIO(content))
        except Image.DecompressionBombError:
            raise BrokenImage(f"has more than {MOST_PIXELS:,} pixels: it may be a decompression bomb") from None
        except UnidentifiedImageError:
            raise BrokenImage("is no image of a format that Pillow reads") from None


def _rgb(image: Image) -> Image:
    """Return an image in 8-bit RGB, whatever its mode."""
    from PIL import Image

    if image.mode in _SIXTEEN_BITS:
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise BrokenImage("has 32-bit numbers of no known range; save it with 8 or 16 bits")
        return Image.fromarray(np.rint(values / 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise BrokenImage("has floating-point numbers of no known range; save it with 8 or 16 bits")
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        image = image.convert("RGBA")
        below = Image.new("RGBA", image.size, (*_BACKGROUND, 255))
        return Image.alpha_composite(below, image).convert("RGB")
    return image.convert("RGB")
