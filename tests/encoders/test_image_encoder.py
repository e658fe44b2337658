"""New encoders of images, and the size of what an encoder reads."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, PreTrainedModel

from fmicl_text.data.pixels import pixels
from fmicl_text.encoders.images import as_features, image_size, random_twin
from fmicl_text.encoders.lora import add_lora
from fmicl_text.encoders.section import LoraSection, ModelSection
from fmicl_text.encoders.text import load_encoder, load_model
from fmicl_text.errors import InputError

RESNET = {"type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
VIT = {"type": "vit", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VIT |= {"patch_size": 8}
IMAGES = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (32, 32, 3), np.uint8)) for n in range(3)]


def encoder(scratch: dict, **settings) -> SentenceTransformer:
    torch.manual_seed(0)
    return load_encoder(ModelSection.model_validate({"scratch": scratch, "image_size": 32, **settings})).eval()


def batch(size: int = 32) -> torch.Tensor:
    contents = []
    for image in IMAGES:
        file = io.BytesIO()
        image.save(file, "PNG")
        contents.append(np.frombuffer(pixels(file.getvalue(), size), np.uint8).reshape(size, size, 3))
    return torch.from_numpy(np.stack(contents))


@pytest.mark.parametrize("scratch", [RESNET, VIT], ids=["resnet", "vit"])
def test_a_saved_encoder_is_a_plain_model(scratch: dict, tmp_path):
    model = encoder(scratch)
    assert image_size(model) == 32
    with torch.no_grad():
        embeddings = model(as_features(batch(), model))["sentence_embedding"]
    model.save_pretrained(str(tmp_path))
    loaded, plain = load_model(str(tmp_path)), AutoModel.from_pretrained(tmp_path).eval()
    assert image_size(loaded) == 32
    assert np.allclose(loaded.encode(IMAGES), embeddings, atol=1e-5), "the saved processor reads images alike"
    with torch.no_grad():
        output = plain(pixel_values=as_features(batch(), model)["pixel_values"])
    of_plain = output.pooler_output.flatten(1) if scratch is RESNET else output.last_hidden_state[:, 0]
    assert torch.allclose(of_plain, embeddings, atol=1e-5)


def test_every_process_makes_the_same_encoder(monkeypatch: pytest.MonkeyPatch):
    """In all processes but the first, transformers saves no model."""
    first = encoder(RESNET)
    monkeypatch.setattr(PreTrainedModel, "should_save_on_this_rank", lambda *_: False)
    other = encoder(RESNET)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in first.state_dict().items())


def test_weights_follow_the_seed():
    one, two = encoder(RESNET), encoder(RESNET)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    twin = random_twin(one, seed=1)
    assert not torch.equal(next(twin.parameters()), next(one.parameters()))
    assert torch.equal(next(twin.parameters()), next(random_twin(two, seed=1).parameters()))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_the_saved_processor_takes_every_mode(mode: str):
    grey = Image.fromarray(np.full((40, 30), 100, np.uint8))
    image = Image.new("I;16", (30, 40), 25700) if mode == "I;16" else grey.convert("RGB").convert(mode)
    assert encoder(RESNET).encode([image]).shape == (1, 16)


def test_a_base_reads_images_of_the_size_that_is_asked_for(tmp_path):
    encoder(RESNET).save_pretrained(str(tmp_path))
    model = load_encoder(ModelSection(base=str(tmp_path), image_size=16))
    assert image_size(model) == 16
    model.save_pretrained(str(tmp_path / "again"))
    assert image_size(load_model(str(tmp_path / "again"))) == 16


def test_a_vit_reads_one_size(tmp_path):
    encoder(VIT).save_pretrained(str(tmp_path))
    with pytest.raises(InputError, match="reads images of 32 pixels, got 64"):
        load_encoder(ModelSection(base=str(tmp_path), image_size=64))


def test_a_frozen_part_does_not_train():
    model = encoder(VIT, freeze=["embeddings.patch_embeddings"])
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen and all("patch_embeddings" in name for name in frozen)
    with pytest.raises(InputError, match=r'no part "embedding.patch" \(did you mean "embeddings'):
        encoder(VIT, freeze=["embedding.patch"])


@pytest.mark.parametrize(
    ("scratch", "why"),
    [
        ({**RESNET, "hidden_size": 3}, r'scratch.hidden_size: is no field .* \(did you mean "hidden_sizes"\?\)'),
        ({**VIT, "patch_size": 0}, "model.scratch: makes no model"),
        ({**VIT, "patch_size": 7}, r"image_size: must be a multiple of scratch.patch_size .* nearest is 28 and 35"),
        ({**VIT, "patch_size": 40}, r"image_size: must be a multiple .* got 32, and nearest is 40"),
        ({**VIT, "num_attention_heads": 3}, r"num_attention_heads: must divide hidden_size \(16\), got 3"),
        ({**RESNET, "depths": [1]}, r"scratch.depths: must have a number for each of the 2 hidden_sizes, got \[1\]"),
        ({**RESNET, "layer_type": "baisc"}, "model.scratch.layer_type: makes no model: layer_type=baisc is not one of"),
        ({**RESNET, "hidden_act": "rleu"}, "model.scratch.hidden_act: makes no model: no value 'rleu' is known"),
        ({**VIT, "num_hidden_layers": "two"}, "model.scratch.num_hidden_layers: makes no model: Field"),
        ({**VIT, "image_size": 16}, "scratch.image_size: differs"),
    ],
)
def test_configurations_that_make_no_model(scratch: dict, why: str):
    with pytest.raises(InputError, match=why):
        encoder(scratch)


def test_an_encoder_of_texts_has_no_image_size(tiny_encoder_path):
    with pytest.raises(InputError, match="does not read images"):
        load_encoder(ModelSection(base=str(tiny_encoder_path), image_size=32))


def test_the_random_twin_of_an_encoder_with_an_adapter_is_that_of_its_base():
    pytest.importorskip("peft", reason="peft is not installed")
    base, adapted = encoder(VIT), encoder(VIT)
    add_lora(adapted, LoraSection(target_modules="all-linear"))
    twin, expected = random_twin(adapted, 3).state_dict(), random_twin(base, 3).state_dict()
    assert twin.keys() == expected.keys() and all(torch.equal(twin[name], expected[name]) for name in twin)
    assert any("lora" in name for name in adapted.state_dict()), "the adapter stays where it was"


@pytest.mark.parametrize(("width", "height"), [(48, 67), (67, 48), (31, 200), (9, 5), (1, 50)])
def test_a_saved_encoder_sees_what_it_was_trained_on(width: int, height: int):
    """Of images that are not square; on noise, where a pixel beside the right one differs by 85 on average."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))
    file = io.BytesIO()
    image.save(file, "PNG")
    mine = np.frombuffer(pixels(file.getvalue(), 32), np.uint8).reshape(32, 32, 3)
    processor = encoder(RESNET).processor
    seen = processor([image], do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
    assert np.abs(mine.astype(int) - seen.transpose(1, 2, 0)).mean() < 0.5
