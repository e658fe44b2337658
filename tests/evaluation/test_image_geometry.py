"""The geometry of an encoder of images: two augmented views of an image are a positive pair."""

from __future__ import annotations

import pytest
from test_image_encoder import RESNET, encoder

from fmicl_text.cli import main
from fmicl_text.data.section import AugmentSection
from fmicl_text.errors import InputError
from fmicl_text.evaluation.geometry import Layout
from fmicl_text.evaluation.kind import Effort, Given
from fmicl_text.evaluation.kinds.geometry import GeometryOfPairs
from fmicl_text.evaluation.scored_model import scored_model

NOTHING = AugmentSection(crop=None, flip=0, jitter=(0, 0, 0, 0), grey=0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))


def measured(model, given: Given = Given(), batch_size: int = 7, **options):  # noqa: B008
    asked = GeometryOfPairs(name="geometry", rows=200, **options)
    return asked.load(given).measure(scored_model(model, "tiny"), Effort(batch_size))


def test_views_that_are_the_image_itself_are_aligned():
    found = measured(encoder(RESNET), images="sample:digits", augment=NOTHING).result
    layout = Layout.model_validate(found.details).geometry
    assert (layout.sentences, layout.positives) == (400, 200)
    assert found.score("images alignment").value == pytest.approx(0, abs=1e-6)
    assert layout.uniformity.value < -1e-4


def test_every_encoder_is_measured_on_the_same_views():
    model = encoder(RESNET).train()
    size = Given("sample:digits", image_size=32, augment=AugmentSection(rotation=15))
    first, again = measured(model, size).result, measured(model, size, batch_size=64).result
    assert first.scores == again.scores
    assert model.training
    other = measured(model, Given("sample:digits", image_size=32, augment=AugmentSection(rotation=90))).result
    assert other.score("images alignment").value != first.score("images alignment").value


def test_the_command_measures_images(tmp_path, capsys):
    model = encoder(RESNET)
    model.save_pretrained(str(tmp_path / "model"))
    out = tmp_path / "geometry.json"
    assert not main(["eval", "geometry", str(tmp_path / "model"), "--images", "sample:digits", "--output", str(out)])
    assert "uniformity" in capsys.readouterr().out and out.is_file() and out.with_suffix(".png").is_file()


def test_images_need_a_source_and_an_encoder_of_images(tiny_encoder):
    with pytest.raises(InputError, match=r"needs images: set its option images, or evaluate\.data"):
        measured(encoder(RESNET), Given(image_size=32))
    with pytest.raises(InputError, match="does not read images"):
        measured(tiny_encoder, images="sample:digits")
