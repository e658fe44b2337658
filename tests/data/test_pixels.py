"""One image in any form becomes square 8-bit RGB, or one error."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fmicl_text.data import pixels as module
from fmicl_text.data.pixels import BrokenImage, content_of, pixels

RED, HALF = (255, 0, 0), (255, 0, 0, 128)


def file(image: Image.Image, form: str = "PNG", **options) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def decoded(content: object, size: int = 4) -> np.ndarray:
    return np.frombuffer(pixels(content, size), np.uint8).reshape(size, size, 3)


def palette() -> Image.Image:
    image = Image.new("P", (5, 5), 1)
    image.putpalette([0, 0, 0, *RED])
    return image


SIXTEEN = Image.fromarray(np.full((5, 5), 257 * 100, np.uint16))
MODES = {
    "grey": (file(Image.new("L", (5, 5), 100)), (100, 100, 100)),
    "1-bit": (file(Image.new("1", (5, 5), 1)), (255, 255, 255)),
    "colour": (file(Image.new("RGB", (5, 5), RED)), RED),
    "palette": (file(palette()), RED),
    "alpha lies on white": (file(Image.new("RGBA", (5, 5), HALF)), (255, 127, 127)),
    "grey with alpha": (file(Image.new("LA", (5, 5), (0, 128))), (127, 127, 127)),
    "a transparent colour of a palette": (file(palette(), transparency=1), (255, 255, 255)),
    "CMYK": (file(Image.new("CMYK", (5, 5), (0, 255, 255, 0)), "TIFF"), RED),
    "16 bits of grey": (file(SIXTEEN), (100, 100, 100)),
    "16 bits in 32": (file(Image.fromarray(np.full((5, 5), 257 * 100, np.int32)), "TIFF"), (100, 100, 100)),
    "an animation": (file(palette(), "GIF", save_all=True, append_images=[Image.new("P", (5, 5), 0)]), RED),
    "an array": (np.full((5, 5), 100, np.uint8), (100, 100, 100)),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_becomes_rgb(name: str):
    content, colour = MODES[name]
    found = decoded(content)
    assert np.abs(found.astype(int) - colour).max() <= 1, (found[0, 0], colour)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (7, 5)])
def test_any_shape(shape: tuple[int, int]):
    assert (decoded(file(Image.new("RGB", shape, RED)), 8) == RED).all()


def test_the_square_is_the_middle():
    image = np.zeros((2, 6), np.uint8)
    image[:, 2:4] = 255
    assert (decoded(image, 2) == 255).all()
    assert (decoded(image.T.copy(), 2) == 255).all()


def test_fifty_megapixels():
    assert decoded(file(Image.new("L", (10_000, 5_000), 9))).max() == 9


def test_the_orientation_of_a_camera_counts():
    image = np.zeros((4, 4), np.uint8)
    image[0] = 255  # a bright top
    turned = Image.fromarray(image)
    exif = turned.getexif()
    exif[0x0112] = 3  # taken upside down
    assert (decoded(file(turned, exif=exif))[:, 0, 0] == [0, 0, 0, 255]).all()


def test_an_image_of_the_right_size_stays_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    assert (decoded(file(Image.fromarray(image))) == image).all()


WHOLE = file(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)))
BROKEN = {
    "truncated": (WHOLE[: len(WHOLE) // 2], "cannot be decoded: .*truncated"),
    "no image": (b"a text", "is no image of a format"),
    "empty": (b"", "is empty"),
    "null": (None, "has no value"),
    "a number": (3.5, "has 3.5, which is neither"),
    "no such file": ("nowhere.png", "names nowhere.png, and there is no such file"),
    "floating-point": (file(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "floating-point numbers"),
    "32 bits": (file(Image.fromarray(np.full((4, 4), 10**6, np.int32)), "TIFF"), "32-bit numbers"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_one_error(name: str):
    content, why = BROKEN[name]
    with pytest.raises(BrokenImage, match=why):
        pixels(content_of(content), 4)


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch):
    bomb = file(Image.new("1", (9_500, 9_500)))  # some kilobytes
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(BrokenImage, match=r"9,500 x 9,500 pixels.*decompression bomb"):
        pixels(bomb, 4)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow itself refuses twice this
    with pytest.raises(BrokenImage, match="decompression bomb"):
        pixels(bomb, 4)
    assert module.MOST_PIXELS == 89_478_485
