"""The shipped recipes of images: the paper's settings, and encoders that can be built."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModel

from fmicl_text.losses.papers.fmicl import FMICL
from fmicl_text.recipe.file import load_recipe, shipped_recipes

VISION = {name: load_recipe(name) for name in shipped_recipes() if name.startswith("vision/")}
DIVERGENCES = ("kl", "js", "pearson", "sh", "tsallis", "vlc")
BATCHES = {"cifar10": 512, "stl10": 64, "tinyimagenet": 256}


def test_the_papers_table_is_covered():
    names = {f"vision/{data}-fmicl-{divergence}" for data in BATCHES for divergence in DIVERGENCES}
    names |= {f"vision/{data}-{arm}" for data in BATCHES for arm in ("simclr", "moco-v2", "au")}
    names |= {f"vision/imagenet-{arm}" for arm in ("moco-v3", "fmicl-kl", "fmicl-js", "fmicl-pearson")}
    assert names | {"vision/cifar10-kernel-infonce"} == set(VISION)


@pytest.mark.parametrize("name", [name for name in VISION if "fmicl" in name])
def test_f_micl_has_the_papers_values(name: str):
    recipe = VISION[name]
    within = "cross" if "imagenet" in name.split("-")[0].split("/")[1:] else "within"
    divergence = name.rpartition("-")[2]
    loss = recipe.loss
    assert isinstance(loss, FMICL) and loss.divergence == divergence
    assert (loss.mu, loss.alpha, loss.shift, loss.negatives) == (1.0, 40, "none", within)
    assert 1 / (2 * loss.sigma**2) == pytest.approx(1, rel=1e-5), "the paper's c"
    assert recipe.model.projector.widths[-1] == 512


@pytest.mark.parametrize("name", [name for name in VISION if not name.startswith("vision/imagenet")])
def test_small_images_have_the_papers_training(name: str):
    recipe = VISION[name]
    train = recipe.train
    assert train["per_device_train_batch_size"] == BATCHES[name.removeprefix("vision/").partition("-")[0]]
    assert (train["optim"], train["learning_rate"], train["num_train_epochs"]) == ("sgd", 0.1, 800)
    assert len(recipe.model.projector.widths) == 3 and recipe.evaluate.during is None
    (asked,) = recipe.evaluate.after
    assert asked.k == 200 and asked.baselines and len(recipe.seeds) == 3


@pytest.mark.parametrize("name", [name for name in VISION if name.startswith("vision/imagenet")])
def test_imagenet_is_under_moco_v3(name: str):
    recipe = VISION[name]
    assert recipe.model.scratch.options["num_hidden_layers"] == 6
    assert recipe.model.freeze == ["embeddings.patch_embeddings"] and len(recipe.model.predictor.widths) == 2
    assert (recipe.loss.momentum, recipe.loss.momentum_schedule, recipe.loss.queue) == (0.99, "cosine", None)
    assert recipe.data.augment.of_second.solarize == 0.2 and recipe.data.augment.solarize == 0


def test_encoders_have_the_sizes_of_their_names():
    """ResNet-18 has 11.2 million parameters without its classifier, ResNet-50 23.5; and ViT-S of 6 blocks 11.1."""
    for name, millions in {"cifar10-simclr": 11.2, "stl10-simclr": 23.5, "imagenet-moco-v3": 11.2}.items():
        model = VISION[f"vision/{name}"].model
        options = model.scratch.options | ({"image_size": 224} if model.scratch.type == "vit" else {})
        with torch.device("meta"):
            encoder = AutoModel.from_config(AutoConfig.for_model(model.scratch.type, **options))
        found = sum(p.numel() for part, p in encoder.named_parameters() if not part.startswith("pooler")) / 1e6
        assert found == pytest.approx(millions, abs=0.2), name
