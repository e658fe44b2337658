"""Two views of an image: what is drawn follows from seed, step, micro-batch and process, and from nothing else."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
import torch
from test_image_encoder import RESNET, encoder

from fmicl_text.data.section import AugmentSection
from fmicl_text.encoders.views import PIXELS, AugmentedViews, PixelCollator
from fmicl_text.errors import InputError
from fmicl_text.losses.identities import IDENTITY, IdentityCollator

SIZE, ROWS = 32, 6
ALL = AugmentSection(blur=0.5, solarize=0.5, rotation=15, shift=0.1, scale=(0.8, 1.2), shear=5, noise=0.05)
SAME = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def made() -> AugmentedViews:
    return AugmentedViews(ALL, encoder(RESNET))


def equal_images() -> torch.Tensor:
    return torch.from_numpy(np.stack([SAME] * ROWS))


def distinct(views: list[torch.Tensor]) -> int:
    return len(torch.unique(torch.cat(views).flatten(1), dim=0))


def test_views_of_equal_images_differ(made: AugmentedViews):
    views = made.draw(equal_images(), 42, 0, 0, 0)
    assert [tuple(view.shape) for view in views] == [(ROWS, 3, SIZE, SIZE)] * 2
    assert distinct(views) == 2 * ROWS
    assert all(view.min() >= 0 and view.max() <= 1 for view in views)


def test_views_are_drawn_again_alike_and_the_generator_stays_where_it_was(made: AugmentedViews):
    first = made.draw(equal_images(), 42, 7, 0, 0)
    torch.manual_seed(5)
    expected = torch.get_rng_state()
    second = made.draw(equal_images(), 42, 7, 0, 0)
    assert torch.equal(torch.get_rng_state(), expected)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_no_step_micro_batch_process_or_seed_shares_its_numbers(made: AugmentedViews):
    keys = [(42, 0, 0, 0), (43, 0, 0, 0), (42, 1, 0, 0), (42, 0, 1, 0), (42, 0, 0, 1)]
    assert distinct([view for key in keys for view in made.draw(equal_images(), *key)]) == len(keys) * 2 * ROWS


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_draw_nothing(made: AugmentedViews, workers: int):
    """Batches of one image, loaded by workers: all views of all batches differ."""
    from torch.utils.data import DataLoader

    rows = [{"anchor": SAME.tobytes()}] * (4 * ROWS)
    loader = DataLoader(rows, batch_size=ROWS, collate_fn=IdentityCollator(PixelCollator(SIZE)), num_workers=workers)
    views = [view for step, batch in enumerate(loader) for view in made.draw(batch[PIXELS], 42, step, 0, 0)]
    assert distinct(views) == 2 * 4 * ROWS


def test_a_batch_of_views(made: AugmentedViews):
    """Both columns have the identities of the images, by their pixels."""
    other = SAME.copy()
    other[0, 0, 0] ^= 1
    rows = [{"anchor": image.tobytes()} for image in (SAME, other, SAME)]
    batch = IdentityCollator(PixelCollator(SIZE))(rows)
    assert batch[PIXELS].shape == (3, SIZE, SIZE, 3) and (batch[PIXELS][1].numpy() == other).all()
    found = made({**batch, "__rows__": torch.arange(3)}, 42, 0, 0, 0)
    one, two, three = found[f"anchor_{IDENTITY}"].tolist()
    assert one == three != two and torch.equal(found[f"anchor_{IDENTITY}"], found[f"positive_{IDENTITY}"])
    assert {key for key in found if key.endswith("pixel_values")} == {"anchor_pixel_values", "positive_pixel_values"}
    assert found["anchor_pixel_values"].is_contiguous(memory_format=torch.channels_last)
    assert float(found["anchor_pixel_values"].min()) < 0, "as the encoder has them"


def test_without_changes_a_view_is_the_image():
    nothing = AugmentSection(crop=None, flip=0, jitter=(0, 0, 0, 0), grey=0)
    (view, _) = AugmentedViews(nothing, encoder(RESNET)).draw(equal_images(), 1)
    assert torch.equal(view[0].permute(1, 2, 0) * 255, torch.from_numpy(SAME).float())


def test_the_second_view_may_have_other_settings():
    section = AugmentSection(crop=None, flip=0, jitter=(0, 0, 0, 0), grey=0, second={"grey": 1.0})
    first, second = AugmentedViews(section, encoder(RESNET)).draw(equal_images(), 1)
    assert not torch.equal(first[:, 0], first[:, 1]) and torch.equal(second[:, 0], second[:, 1])


def test_each_change_changes_something():
    nothing = {"crop": None, "flip": 0, "jitter": (0, 0, 0, 0), "grey": 0}
    model, image = encoder(RESNET), equal_images()
    for name, value in {
        "crop": (0.1, 0.5),
        "flip": 1.0,
        "jitter": (0.4, 0.4, 0.4, 0.1),
        "grey": 1.0,
        "blur": 1.0,
        "solarize": 1.0,
        "rotation": 30.0,
        "shift": 0.2,
        "scale": (0.5, 0.6),
        "shear": 20.0,
        "noise": 0.1,
    }.items():
        section = AugmentSection.model_validate(nothing | {name: value, "jitter_probability": 1.0})
        view, _ = AugmentedViews(section, model).draw(image, 1)
        assert (view.permute(0, 2, 3, 1) * 255 - image).abs().mean() > 1, name


def test_without_kornia_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("kornia"):
            raise ImportError("No module named 'kornia'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r'pip install "fmicl-text\[vision\]"'):
        AugmentedViews(AugmentSection(), encoder(RESNET))
